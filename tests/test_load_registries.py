"""registries.yml, and what takes the place of images on the command line and in a matrix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.errors import InputError
from bootmatrix.load.registries import load_registries, registries_file
from bootmatrix.model import Registry
from bootmatrix.source.images.endpoint import Endpoint, endpoints_of
from command_line import Tool, refused

pytest_plugins = ("command_line",)

GOOD = """
registries:
  docker.io: {mirrors: ["https://mirror.example:5000", "http://10.0.0.1"]}
  registry.example:5000: {ca: ca.pem, realms: [login.example]}
  "[::1]:5000": {plain_http: false}
"""


def test_registries_are_read(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_registries(registries_file()).registries == {}
    (tmp_path / "registries.yml").write_text(GOOD)
    (tmp_path / "ca.pem").write_text("x")
    known = load_registries(registries_file()).registries
    assert [one.url for one in endpoints_of("docker.io", known, tmp_path)] == [
        "https://mirror.example:5000/v2",
        "http://10.0.0.1/v2",
        "https://registry-1.docker.io/v2",
    ]
    (own,) = endpoints_of("registry.example:5000", known, tmp_path)
    assert (own.ca, own.realms) == ((tmp_path / "ca.pem",), ("login.example",))
    assert tool("validate", "registries.yml").stdout == (
        "registries.yml: registries: docker.io, registry.example:5000, [::1]:5000\n"
    )
    monkeypatch.setenv("BOOTMATRIX_REGISTRIES", "elsewhere.yml")
    with pytest.raises(InputError, match=r"elsewhere\.yml: file not found; BOOTMATRIX_REGISTRIES names it"):
        load_registries(registries_file())


@pytest.mark.parametrize(
    ("name", "known", "scheme"),
    [
        ("registry.example", None, "https"),
        ("registry.example", True, "http"),
        ("localhost:5000", None, "http"),
        ("127.0.0.1", None, "http"),
        ("[::1]:5000", None, "http"),
        ("localhost:5000", False, "https"),
        ("localhost.example", None, "https"),
    ],
)
def test_only_a_registry_on_this_machine_has_no_tls_unless_it_is_said(
    tmp_path: Path, name: str, known: bool | None, scheme: str
) -> None:
    (found,) = endpoints_of(name, {name: Registry(plain_http=known)}, tmp_path)
    assert found.scheme == scheme


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("registries: {a: {mirror: [x]}}\n", "r.yml:1: unknown key 'mirror'. Did you mean 'mirrors'?"),
        ("registries:\n  a:\n    ca: none.pem\n", "r.yml:3: file not found: none.pem"),
        ("registries:\n  'http://a': {}\n", "r.yml:2: 'http://a' must be the host of a registry"),
        ("registries: {a: {mirrors: [mirror.example]}}\n", "r.yml:1: "),
        ("registries:\n  a:\n    mirrors: ['http://[::::']\n", "r.yml:3: 'http://[::::' has no valid host"),
        ("registries:\n  a:\n    mirrors: ['http://a:b']\n", "r.yml:3: 'http://a:b' has no valid host"),
        ("registries:\n  'a:65536': {}\n", "r.yml:2: 'a:65536' must be the host of a registry"),
        (f"registries:\n  a:\n    ca: {'c' * 300}\n", "r.yml:3: file not found: ccc"),
    ],
)
def test_faults_of_the_file(tool: Tool, text: str, message: str) -> None:
    Path("r.yml").write_text(text)
    result = tool("validate", "r.yml")
    assert result.returncode == 2
    assert result.stderr.startswith(message)


def test_certificates_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    junk = tmp_path / "junk"
    junk.write_text("junk")
    plain = Endpoint("r.example", "https", "r.example")
    for endpoint in (replace(plain, ca=(junk,)), replace(plain, client_certificate=(junk, junk))):
        with pytest.raises(InputError, match=r"junk: not a .*PEM"):
            endpoint.tls()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match="SSL_CERT_FILE"):
        plain.tls()


def test_what_takes_the_place_of_images_is_checked(tool: Tool) -> None:
    Path("s.yml").write_text("init: [linuxkit/init:1]\nservices: [{name: a, image: 'redis:7'}]\n")
    arguments = ("plan", "s.yml", "--arch", "x86_64")
    fetch = ("fetch", "s.yml", "--arch", "x86_64", "--offline")
    for text in ("redis", "=docker://", "redis="):
        refused(tool(*fetch, "--image", text), f"{text!r} must be NAME=SOURCE")
    refused(tool(*fetch, "--image", "redis=oic:x"), "'oic:x' should begin with the kind of source")
    assert tool(*arguments).returncode == 0
    Path("m.matrix.yml").write_text("specs: [s.yml]\narch: [x86_64]\nkernel: ['6.1']\nimages:\n  redis: redis.tar\n")
    refused(tool("plan", "m.matrix.yml"), "m.matrix.yml:5: 'redis.tar' should begin with the kind of source")
