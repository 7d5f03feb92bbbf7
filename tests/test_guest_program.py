"""Functions of the guest's program, compiled for the host with sanitizers."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from guest_program import ENVIRONMENT, LIMIT_S, READERS, compile_program, fuzz

INPUTS = 20_000
"""Of each reader; some tenths of a second. The same ones each time, so that a failure here is a change's."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(tmp_path_factory.mktemp("guest"))


def unit(program: Path, *arguments: str, data: bytes = b"") -> bytes:
    """Return the output of a function for the data."""
    command = [str(program), "units", *arguments]
    done = subprocess.run(command, input=data, env=ENVIRONMENT, capture_output=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def refuses(program: Path, *arguments: str, data: bytes = b"") -> bool:
    command = [str(program), "units", *arguments]
    done = subprocess.run(command, input=data, env=ENVIRONMENT, capture_output=True, check=False, timeout=LIMIT_S)
    return done.returncode == 1 and not done.stderr


SIZES = (0, 1, 2, 3, 55, 56, 57, 63, 64, 65, 119, 120, 1000, 65535, 65536, 200_000)


def some(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize(
    ("key", "data", "digest", "mac"),
    [  # FIPS 180-4's examples; RFC 4231's second case, and its sixth with a key longer than a block
        ("", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", None),
        (
            "",
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            None,
        ),
        ("", b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", None),
        (
            "Jefe",
            b"what do ya want for nothing?",
            None,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
    ],
)
def test_published_digests(program: Path, key: str, data: bytes, digest: str | None, mac: str | None) -> None:
    lines = unit(program, "digest", key, data=data).decode().split()
    assert digest in {None, lines[0]}
    assert mac in {None, lines[1]}


@pytest.mark.parametrize("size", SIZES)
def test_digests_base64_and_gzip_agree_with_others(program: Path, size: int) -> None:
    data = some(size)
    for key in ("k", "k" * 64, "k" * 131):
        expected = [hashlib.sha256(data).hexdigest(), hmac.new(key.encode(), data, "sha256").hexdigest()]
        assert unit(program, "digest", key, data=data).decode().split() == expected
    text = base64.b64encode(data)
    assert unit(program, "encode", data=data) == text
    assert unit(program, "decode", data=text) == data
    for plain in (data, (b"ok 1 - a line\n" * size)[:size]):
        assert gzip.decompress(unit(program, "gzip", data=plain)) == plain


def test_text_becomes_smaller(program: Path) -> None:
    text = b"".join(b"ok %d - a test of something\n" % number for number in range(5000))
    assert len(unit(program, "gzip", data=text)) < len(text) / 3


@pytest.mark.parametrize(
    "text", [b"Z", b"Zg", b"Zg=", b"Z===", b"Zh==", b"Zm9=", b"Zg==Zg==", b"Zm 9", b"Zm9v\n", b"===="]
)
def test_base64_that_is_not_canonical_is_refused(program: Path, text: bytes) -> None:
    assert refuses(program, "decode", data=text)


@pytest.mark.parametrize(
    ("state", "pid"),
    [
        ({"ociVersion": "1.0", "id": "a", "status": "created", "pid": 42, "bundle": "/c"}, 42),
        ({"annotations": {"pid": 1, "x": '"pid": 2'}, "pid": 4194304}, 4194304),
        ({"a": [1, {"pid": 3}], "pid": 7, "b": None}, 7),
        ({"id": '", "pid": 5, "'}, -1),
        ({"annotations": {"pid": 5}}, -1),
        ({"pid": 0}, -1),
        ({"pid": -1}, -1),
        ({"pid": "5"}, -1),
        ({"pid": 4194305}, -1),
        ([{"pid": 5}], -1),
    ],
)
def test_the_process_of_a_containers_state(program: Path, state: object, pid: int) -> None:
    for indent in (None, 1):
        assert int(unit(program, "pid", data=json.dumps(state, indent=indent).encode())) == pid
    assert int(unit(program, "pid", data=json.dumps(state).encode()[:-1])) == -1


def test_hardware_addresses(program: Path) -> None:
    assert unit(program, "hardware", "52:54:00:aB:c0:01") == b"525400abc001"
    for text in (
        "",
        "52:54:00:ab:c0",
        "52:54:00:ab:c0:01:",
        "52:54:00:ab:c0:0g",
        "52-54-00-ab-c0-01",
        "5254:00:ab:c0:1",
    ):
        assert refuses(program, "hardware", text)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_holds(program: Path, reader: str) -> None:
    done = fuzz(program, reader, INPUTS, 60)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    inputs = re.search(r"held for (\d+) inputs, (\d+) kept", done.stdout)
    assert inputs and int(inputs[1]) == INPUTS
    assert int(inputs[2]) > 4, "what it reaches is not followed"


def test_a_fault_would_be_found(program: Path) -> None:
    done = fuzz(program, "planted", 1_000_000, 60)
    assert done.returncode < 0
    assert "does not hold: data[3] != 'z'" in done.stderr
    assert (program.parent / "planted.fault").read_bytes().startswith(b"fuzz")
