"""Sign-offs that were moved, added to or forged; runs that contradict themselves; keys and envelopes of others."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from bootmatrix.model import Verdict
from bootmatrix.signoff import verify
from bootmatrix.signoff.manifest import read_lines, write_lines
from bootmatrix.signoff.verify import changed_since
from samples import green_records, make_cell, make_record, mixed_records, write_run
from signoff_fixtures import RELEASE, Tool, statement, write_keys, written

pytest_plugins = ("signoff_fixtures",)
ACCEPT_ALL = ("--accept", "*", "--reason", "all of it", "--by", "Ann")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path)


@pytest.fixture
def signed(signing: Tool, green: Path, keys: tuple[Path, Path]) -> Path:
    signing.make(green, "--sign-key", keys[0])
    return green


# One release, one run


def test_a_sign_off_of_one_release_is_none_of_another(signing: Tool, signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / "signoff" / RELEASE).rename(signed / "signoff/influxdb-1.7.0")
    for words in ((), ("--release", "influxdb-1.7.0")):
        said = signing("verify", signed, *words, "--key", keys[1], status=1)
        assert f"for release '{RELEASE}', not 'influxdb-1.7.0'" in said
        assert "PASSED" not in said


def test_the_manifest_that_is_compared_is_the_attested_one(
    signing: Tool, signed: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody replaces it after it was digested."""
    real = verify._read
    other = {"SHA256SUMS": b"ran.json"}
    monkeypatch.setattr(
        verify, "_read", lambda file, *more: real(file, *more).replace(b"run.json", other.get(file.name, b"run.json"))
    )
    checked = verify.verify_signoff(signed, RELEASE, keys[1])
    assert f"signoff/{RELEASE}/SHA256SUMS: changed" in checked.faults


def test_a_copy_under_another_release_does_not_hold(signing: Tool, signed: Path, keys: tuple[Path, Path]) -> None:
    shutil.copytree(signed / "signoff" / RELEASE, signed / "signoff/influxdb-1.7.0")
    said = signing("verify", signed, "--key", keys[1], status=1)
    assert f"{RELEASE}: PASSED" in said
    assert "influxdb-1.7.0: NOT valid" in said


def test_a_sign_off_of_one_run_is_none_of_another(signing: Tool, signed: Path, keys: tuple[Path, Path]) -> None:
    moved = signed.rename(signed.with_name("2027-01-01T00-00-00Z-influxdb"))
    said = signing("verify", moved, "--key", keys[1], status=1)
    assert f"for run '{signed.name}', not '{moved.name}'" in said


def test_a_sign_off_is_not_carried_to_another_run(signing: Tool, signed: Path, keys: tuple[Path, Path]) -> None:
    other = written(signing, green_records())
    shutil.copytree(signed / "signoff", other / "signoff")
    assert f"for run '{signed.name}'" in signing("verify", other, "--key", keys[1], status=1)


# Whatever is new


def put_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("forged")


def put_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


NEW: list[tuple[str, Callable[[Path], None]]] = [
    (f"signoff/{RELEASE}/attestation.json", put_file),
    (f"signoff/{RELEASE}/attestation.sigstore.json", put_file),
    (f"signoff/{RELEASE}/.hidden", put_file),
    (f"signoff/{RELEASE}/signoff.pdf", put_file),
    (f"signoff/{RELEASE}/more/signoff.html", put_file),
    (f"signoff/{RELEASE}/empty", Path.mkdir),
    ("signoff/.hidden/attestation.dsse.json", put_file),
    ("signoff/.hidden", Path.mkdir),
    ("signoff/stray", put_file),
    ("signoff/link", lambda path: path.symlink_to(RELEASE)),
    ("signoff/not a release/signoff.html", put_file),
    (".hidden/report.html", put_file),
    (".hidden", Path.mkdir),
    ("cells/empty", Path.mkdir),
    ("cells/link", lambda path: path.symlink_to("/etc/passwd")),
    ("cells/folder", lambda path: path.symlink_to("/etc")),
    ("cells/dangling", lambda path: path.symlink_to("nowhere")),
    ("cells/fifo", os.mkfifo),
    ("cells/socket", put_socket),
    ("cells/back\\slash", put_file),
    ("cells/line\nend", put_file),
    ("cells/esc\x1b[2J", put_file),
    ("cells/latin\udce9", put_file),
    ("cells/blank ", put_file),
]


@pytest.mark.parametrize("release", [(), ("--release", RELEASE)])
def test_whatever_is_new_is_named(
    signing: Tool, signed: Path, keys: tuple[Path, Path], release: tuple[str, ...]
) -> None:
    before = set(signed.rglob("*"))
    for name, put in NEW:
        put(signed / name)
        said = signing("verify", signed, *release, "--key", keys[1], status=1)
        assert shown_name(name) in said, said
        for path in sorted(set(signed.rglob("*")) - before, reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        assert f"{RELEASE}: PASSED" in signing("verify", signed, "--key", keys[1]), name


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
@pytest.mark.parametrize("name", ["SHA256SUMS", "report.html", "attestation.dsse.json", "signoff.html"])
def test_files_that_never_end_are_not_read(
    signing: Tool, signed: Path, keys: tuple[Path, Path], name: str, put: Callable[[Path], None]
) -> None:
    victim = signed / "signoff" / RELEASE / name
    victim.unlink()
    put(victim)
    assert f"{RELEASE}: NOT valid" in signing("verify", signed, "--key", keys[1], status=1)
    assert changed_since(signed) == ([RELEASE] if name == "SHA256SUMS" else [])


def shown_name(name: str) -> str:
    """Return a name as a message has it: escaped where it is odd."""
    is_odd = any(character in name for character in "\\\n\x1b")
    return (repr(name) if is_odd else name).replace("\udce9", "\ufffd").rstrip()


def test_empty_folders_of_the_run_are_signed_too(signing: Tool, green: Path) -> None:
    (green / "cells/begun/x86_64/pc/6.1").mkdir(parents=True)
    signing.make(green)
    assert "unchanged" in signing("verify", green)
    (green / "cells/begun/x86_64/pc/6.1").rmdir()
    assert "cells/begun/x86_64/pc: an empty folder" in signing("verify", green, status=1)


def test_another_release_may_be_signed_later(signing: Tool, signed: Path, keys: tuple[Path, Path]) -> None:
    signing(signed, "--release", "influxdb-1.6.8", "--no-pdf", "--sign-key", keys[0])
    assert signing("verify", signed, "--key", keys[1]).count("unchanged") == 2
    assert signing("verify", signed, "--release", RELEASE, "--key", keys[1]).count("unchanged") == 1


@pytest.mark.parametrize("name", ["a\u2028b.log", "a\u0085b.log", "a\u2029b.log", "\u202egol.log"])
def test_names_that_unicode_breaks_lines_at_verify(signing: Tool, green: Path, name: str) -> None:
    (green / "cells" / name).write_text("kept")
    signing.make(green)
    assert "unchanged" in signing("verify", green)
    (green / "cells" / name).write_text("changed")
    assert ": changed" in signing("verify", green, status=1)
    manifest = {name: "0" * 64, "other": "1" * 64}
    assert read_lines(write_lines(manifest)) == manifest


# What contradicts itself is not signed


def record_file(folder: Path) -> Path:
    return sorted(folder.glob("cells/*/*/*/*/record.json"))[0]


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


CONTRADICTIONS: list[tuple[str, Callable[[Path], object]]] = [
    ("differs from the record", lambda folder: edit(record_file(folder), '"verdict":"pass"', '"verdict":"fail"')),
    ("differs from the record", lambda folder: edit(record_file(folder), '"wall_s":', '"wall_s":1')),
    ("missing, but run.json has this cell", lambda folder: record_file(folder).unlink()),
    ("not in run.json", lambda folder: shutil.copytree(record_file(folder).parent, folder / "cells/x/y/z/k")),
    ("console.log: missing", lambda folder: record_file(folder).with_name("console.log").unlink()),
    ("'started_at' differs", lambda folder: edit(folder / "run.json", '"started_at": "20', '"started_at": "19')),
    ("'tool_version' differs", lambda folder: edit(folder / "run.json", '"tool_version": "', '"tool_version": "9')),
    ("started.json: missing", lambda folder: (folder / "started.json").unlink()),
    ("the run's name is", lambda folder: edit(folder / "run.json", f'"name": "{folder.name}"', '"name": "another"')),
]


@pytest.mark.parametrize(("words", "spoil"), CONTRADICTIONS)
def test_files_that_contradict_each_other_are_not_signed(
    signing: Tool, green: Path, words: str, spoil: Callable[[Path], object]
) -> None:
    spoil(green)
    assert words in signing.make(green, status=2)
    assert not (green / "signoff").exists()


def test_a_failure_hidden_in_run_json_is_not_signed(signing: Tool) -> None:
    """The cell's own record says fail; run.json was edited to say pass."""
    records = green_records()
    _, folder = write_run(signing.reports, [make_record(records[0].cell, Verdict.FAIL, "broken"), *records[1:]])
    edit(folder / "run.json", '"verdict":"fail","reason":"broken"', '"verdict":"pass","reason":"all checks passed"')
    edit(folder / "run.json", '"expected":false', '"expected":true')
    assert "differs from the record" in signing.make(folder, status=2)


def test_a_run_that_hides_that_it_did_not_end_is_not_signed(signing: Tool) -> None:
    """run.json says nothing of its end, so that it is read by its records, and yet is what others would read."""
    folder = written(signing, green_records(), interrupted=True)
    text = (folder / "run.json").read_text()
    text = re.sub(r'"ended_at": "[^"]*"', '"ended_at": ""', text).replace('"interrupted": true', '"interrupted": false')
    (folder / "run.json").write_text(text)
    accept = ("--accept", "interrupted", "--reason", "x", "--by", "Ann")
    assert "'interrupted' differs" in signing.make(folder, *accept, status=2)


def test_a_killed_run_may_be_signed(signing: Tool) -> None:
    folder = written(signing, green_records(), interrupted=True)
    (folder / "run.json").unlink()
    accept = ("--accept", "interrupted", "--reason", "x", "--by", "Ann")
    signing.make(folder, *accept)
    assert "unchanged" in signing("verify", folder)


def test_a_renamed_run_is_not_signed(signing: Tool, green: Path) -> None:
    assert "its folder's is 'other'" in signing.make(green.rename(green.with_name("other")), status=2)


# What counts as a pass


def test_a_skip_is_no_pass(signing: Tool) -> None:
    skipped = make_record(make_cell("armv7", "5.10"), Verdict.SKIP, "no QEMU for it")
    folder = written(signing, [*green_records(), skipped])
    assert f"{RELEASE}: WARNED" in signing.make(folder)
    predicate = statement(folder)["predicate"]
    assert predicate["result"] == "WARNED"
    assert skipped.cell.id not in predicate["passedTests"]
    assert "1 more was skipped" in (folder / "signoff" / RELEASE / "signoff.html").read_text()


@pytest.mark.parametrize("pattern", ["*", "inter*", "[i]nterrupted", "?nterrupted"])
def test_no_pattern_accepts_an_interruption(signing: Tool, pattern: str) -> None:
    folder = written(signing, mixed_records(), interrupted=True)
    accept = ("--accept", pattern, "--reason", "all of it", "--accept", "*", "--reason", "all", "--by", "Ann")
    said = signing.make(folder, *accept, status=2)
    assert "the run was interrupted" in said or f"--accept {pattern}: matches nothing" in said
    assert "interrupted: the run was" in signing.make(folder, *ACCEPT_ALL, status=2)
    more = ("--accept", "interrupted", "--reason", "left out", "--by", "Ann")
    assert "WARNED" in signing.make(folder, *ACCEPT_ALL, *more)


# Keys and envelopes of others


def envelope_of(folder: Path) -> Path:
    return folder / "signoff" / RELEASE / "attestation.dsse.json"


def test_envelopes_without_a_keyid_verify(signing: Tool, signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    file = envelope_of(signed)
    right = json.loads(file.read_text())
    (signature,) = right["signatures"]
    stranger = {"keyid": signature["keyid"], "sig": base64.b64encode(b"x" * 64).decode()}
    url_safe = {"sig": signature["sig"].replace("+", "-").replace("/", "_")}
    for signatures in (
        [{"sig": signature["sig"]}],
        [{"sig": signature["sig"], "keyid": ""}],
        [{"sig": signature["sig"], "keyid": "mine"}],
        [url_safe],
        [stranger, {"sig": signature["sig"]}],
    ):
        file.write_text(json.dumps({**right, "signatures": signatures}))
        assert "PASSED" in signing("verify", signed, "--key", keys[1])
    (tmp_path / "other").mkdir()
    _, other = write_keys(tmp_path / "other")
    assert "not signed with this key" in signing("verify", signed, "--key", other, status=1)
    wrong: tuple[object, ...] = (7, {}, [], [stranger], [{"keyid": "x"}], [7], [{"sig": 7}], [{"sig": "%"}])
    for found in wrong:
        file.write_text(json.dumps({**right, "signatures": found}))
        assert "NOT valid" in signing("verify", signed, "--key", keys[1], status=1)


def test_envelopes_hold_nothing_unsigned(signing: Tool, signed: Path, keys: tuple[Path, Path]) -> None:
    file = envelope_of(signed)
    text = file.read_text()
    right = json.loads(text)
    (signature,) = right["signatures"]
    for found in ({**right, "note": "x"}, {**right, "signatures": [{**signature, "cert": "x"}]}):
        file.write_text(json.dumps(found))
        assert "is unknown" in signing("verify", signed, "--key", keys[1], status=1)
    file.write_text(text.replace("{", '{"payload": "e30=",', 1))
    assert "a key comes twice" in signing("verify", signed, "--key", keys[1], status=1)


@pytest.mark.parametrize("data", ["[" * 100_000, '{"a":' * 100_000, '{"payload": "' + "A" * 4000 + '"}'])
def test_envelopes_that_are_none(signing: Tool, signed: Path, keys: tuple[Path, Path], data: str) -> None:
    envelope_of(signed).write_text(data)
    assert "NOT valid" in signing("verify", signed, "--key", keys[1], status=1)


@pytest.mark.parametrize("password", [b"", b"secret"])
def test_pkcs_1_keys_are_read(
    signing: Tool, green: Path, tmp_path: Path, password: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    how = BestAvailableEncryption(password) if password else NoEncryption()
    private, public = tmp_path / "rsa.pem", tmp_path / "rsa.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, how))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1))
    monkeypatch.setenv("BOOTMATRIX_SIGN_PASSWORD", password.decode())
    signing.make(green, "--sign-key", private)
    assert "PASSED" in signing("verify", green, "--key", public)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a public key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "the file holds a CERTIFICATE"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "the file holds a PRIVATE KEY"),
        ("-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n", "the file holds a RSA PUBLIC KEY"),
        ("ssh-ed25519 AAAA me@here", "not a public key"),
    ],
)
def test_what_is_no_public_key_is_refused_in_words(
    signing: Tool, signed: Path, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "key").write_text(text)
    said = signing("verify", signed, "--key", tmp_path / "key", status=2)
    assert words in said
    assert "PKCS #1" in said
