"""Sign-off: what may be signed, what the page and the attestation say, and that any changed byte is found."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from securesystemslib.dsse import Envelope

from bootmatrix.cli.main import main
from bootmatrix.history.prune import SIGNED_FOLDER
from bootmatrix.model import Verdict
from bootmatrix.signoff.content import weaker_evidence
from bootmatrix.signoff.manifest import SIGNOFF_FOLDER, read_lines, survey, write_lines
from bootmatrix.signoff.page import browser
from samples import green_records, make_cell, make_record, mixed_records, write_dated
from signoff_fixtures import RELEASE, Tool, statement, write_keys, written

pytest_plugins = ("signoff_fixtures",)


def page(folder: Path) -> str:
    return (folder / "signoff" / RELEASE / "signoff.html").read_text()


def test_the_folder_that_prune_looks_for_is_the_one_written() -> None:
    assert SIGNED_FOLDER == SIGNOFF_FOLDER


def test_a_green_run_is_signed_off(signing: Tool, green: Path) -> None:
    said = signing.make(green)
    assert said.startswith(f"{green}/signoff/{RELEASE}: PASSED: All 8 cells passed. ")
    assert "not signed: --sign-key" in said
    assert "All 8 cells passed. Not compared with an earlier run." in page(green)
    assert "all cold" in page(green)
    assert signing("verify", green) == (
        f"{RELEASE}: PASSED, {len(survey(green).files) - 4} files unchanged; "
        "not signed: only accidental changes are detected\n"
    )
    assert not list(green.rglob("*.part"))


def test_the_attestation_is_an_in_toto_test_result(signing: Tool, green: Path) -> None:
    signing.make(green)
    told = statement(green)
    assert told["_type"] == "https://in-toto.io/Statement/v1"
    assert told["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    predicate = told["predicate"]
    assert (predicate["result"], len(predicate["passedTests"])) == ("PASSED", 8)
    assert predicate["warnedTests"] == predicate["failedTests"] == []
    record = green_records()[0]
    digests = {one["digest"]["sha256"] for one in told["subject"]}
    assert digests == {one.sha256 for one in record.artefacts if one.kind in {"image", "initrd"}}
    configuration = {one["name"]: one for one in predicate["configuration"]}
    manifest = (green / "signoff" / RELEASE / "SHA256SUMS").read_bytes()
    assert configuration["SHA256SUMS"]["digest"]["sha256"] == hashlib.sha256(manifest).hexdigest()
    assert configuration["SHA256SUMS"]["annotations"]["release"] == RELEASE
    assert any(name.startswith("kernel ") for name in configuration)
    assert any(name.startswith("package linux-image-6.1.0-50-cloud") for name in configuration)
    assert any(name.startswith("profile ") for name in configuration)


def test_the_manifest_is_one_for_sha256sum(signing: Tool, green: Path) -> None:
    signing.make(green)
    command = ["sha256sum", "--check", "--strict", "--quiet", f"signoff/{RELEASE}/SHA256SUMS"]
    assert subprocess.run(command, cwd=green, check=False, capture_output=True, text=True).stdout == ""
    (green / "report.html").write_text("other")
    assert subprocess.run(command, cwd=green, check=False, capture_output=True, text=True).returncode == 1


def test_any_changed_byte_is_found(signing: Tool, green: Path) -> None:
    """In every file of the run and of the sign-off, at its beginning, middle and end."""
    private, public = write_keys(signing.reports)
    signing.make(green, "--sign-key", private)
    files = [path for path in green.rglob("*") if path.is_file()]
    assert len(files) > 15
    for file in files:
        whole = file.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1}:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            said = signing("verify", green, "--key", public, status=1)
            assert "NOT valid" in said, file
        file.write_bytes(whole)
    assert "PASSED" in signing("verify", green, "--key", public)


def test_files_that_come_or_go_are_found(signing: Tool, green: Path) -> None:
    signing.make(green)
    (green / "cells" / "more.log").write_text("x")
    assert "cells/more.log: not part of the signed run" in signing("verify", green, status=1)
    (green / "cells" / "more.log").unlink()
    (green / "signoff" / RELEASE / "more.html").write_text("x")
    assert f"signoff/{RELEASE}/more.html: not part of the signed run" in signing("verify", green, status=1)
    (green / "signoff" / RELEASE / "more.html").unlink()
    (green / "junit.xml").unlink()
    assert "junit.xml: missing" in signing("verify", green, status=1)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_signature_is_of_one_key(signing: Tool, green: Path, tmp_path: Path, kind: str) -> None:
    private, public = write_keys(tmp_path, kind)
    said = signing.make(green, "--sign-key", private)
    assert "not signed" not in said
    assert f"signed by {public}" in signing("verify", green, "--key", public)
    assert "is signed" in signing("verify", green, status=2)
    (tmp_path / "other").mkdir()
    _, other = write_keys(tmp_path / "other", kind)
    assert "not signed with this key" in signing("verify", green, "--key", other, status=1)
    assert "not a public key" in signing("verify", green, "--key", private, status=2)


def test_a_changed_statement_needs_another_signature(signing: Tool, green: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    signing.make(green, "--sign-key", private)
    file = green / "signoff" / RELEASE / "attestation.dsse.json"
    envelope = Envelope.from_dict(json.loads(file.read_text()))
    envelope.payload = envelope.payload.replace(b'"PASSED"', b'"WARNED"')
    file.write_text(json.dumps(envelope.to_dict()))
    assert "not signed with this key" in signing("verify", green, "--key", public, status=1)


def test_with_a_key_an_unsigned_sign_off_does_not_hold(signing: Tool, green: Path, tmp_path: Path) -> None:
    _, public = write_keys(tmp_path)
    signing.make(green)
    assert "this sign-off is not signed" in signing("verify", green, "--key", public, status=1)


def test_a_signed_statement_of_something_else_does_not_hold(signing: Tool, green: Path, tmp_path: Path) -> None:
    from bootmatrix.signoff.statement import sign

    private, public = write_keys(tmp_path)
    signing.make(green, "--sign-key", private)
    file = green / "signoff" / RELEASE / "attestation.dsse.json"
    for payload in (b"{}", b"[]", b"no json", b'{"_type": 1, "predicateType": 2, "predicate": {"configuration": []}}'):
        file.write_bytes(sign(payload, private))
        assert "NOT valid" in signing("verify", green, "--key", public, status=1)
    for data in (b"", b"[]", b"{}", b'{"payload": 1, "payloadType": 2, "signatures": 3}', b"\xff"):
        file.write_bytes(data)
        assert "NOT valid" in signing("verify", green, "--key", public, status=1)


def test_a_key_with_a_password(signing: Tool, green: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = write_keys(tmp_path, password=b"secret")
    assert "not a private key that can sign" in signing.make(green, "--sign-key", private, status=2)
    assert not (green / "signoff").exists()
    monkeypatch.setenv("BOOTMATRIX_SIGN_PASSWORD", "secret")
    signing.make(green, "--sign-key", private)
    signing("verify", green, "--key", public)


def test_what_nobody_accepts_is_not_signed(signing: Tool) -> None:
    folder = written(signing, mixed_records())
    said = signing.make(folder, status=2)
    assert "not signed off; not accepted" in said
    for record in mixed_records():
        named = f"  {record.cell.id}: {record.verdict}: " in said
        assert named is not record.expected, record.cell.id
    assert not (folder / "signoff").exists()


def test_exceptions_are_accepted_by_name_with_a_reason(signing: Tool) -> None:
    records = green_records()
    records[0] = make_record(records[0].cell, Verdict.FAIL, "<b>broken</b>")
    known = make_record(make_cell("armv7", "6.12", expect="issue 412"), Verdict.HANG, "silent", expected=True)
    folder = written(signing, [*records, known, make_record(make_cell("armv7", "5.10"), Verdict.SKIP, "too old")])
    cell = records[0].cell.id
    signing.make(folder, "--accept", cell, "--reason", "known <i>bug</i> 7", status=2)
    signing.make(folder, "--accept", cell, "--reason", " ", "--by", "Ann", status=2)
    assert "matches nothing" in signing.make(
        folder, *("--accept", cell, "--reason", "x", "--accept", "other", "--reason", "y", "--by", "Ann"), status=2
    )
    said = signing.make(folder, "--accept", cell, "--reason", "known <i>bug</i> 7", "--by", "Ann")
    assert f"{RELEASE}: WARNED" in said
    text = page(folder)
    assert "&lt;b&gt;broken&lt;/b&gt;" in text
    assert "known &lt;i&gt;bug&lt;/i&gt; 7" in text
    assert "Ann" in text
    assert "too old" in text
    assert "7 of 9 cells passed. 1 exception was accepted" in text
    predicate = statement(folder)["predicate"]
    assert (predicate["failedTests"], predicate["warnedTests"]) == ([cell], [known.cell.id])
    (told,) = [one for one in predicate["configuration"] if one["name"] == "SHA256SUMS"]
    assert [(one["cell"], one["by"]) for one in told["annotations"]["exceptions"]] == [
        (known.cell.id, "the matrix"),
        (cell, "Ann"),
    ]


def test_an_interrupted_run_takes_an_acceptance(signing: Tool) -> None:
    folder = written(signing, green_records(), interrupted=True)
    assert "the run was interrupted" in signing.make(folder, status=2)
    signing.make(folder, "--accept", "interrupted", "--reason", "the rest is not shipped", "--by", "Ann")
    assert "interrupted" in page(folder)
    assert statement(folder)["predicate"]["result"] == "WARNED"


def test_a_signed_run_is_not_taken_up_again(signing: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(signing, green_records(), interrupted=True)
    signing.make(folder, "--accept", "interrupted", "--reason", "boards left out", "--by", "Ann")
    assert main(["matrix", "--resume", str(folder)]) == 2
    assert f"is signed off for {RELEASE}" in capsys.readouterr().err
    assert "unchanged" in signing("verify", folder)


def test_what_sigstore_leaves_beside_the_statement_is_its_own(signing: Tool, green: Path) -> None:
    signing.make(green)
    (green / "signoff" / RELEASE / "attestation.sigstore.json").write_text("{}")
    assert "unchanged" in signing("verify", green)
    (green / "signoff" / RELEASE / "another.json").write_text("{}")
    assert "not part of the signed run" in signing("verify", green, status=1)


def test_a_run_without_a_pass_is_never_signed(signing: Tool) -> None:
    cell = make_cell("x86_64")
    for records in ([], [make_record(cell, Verdict.SKIP, "no")], [make_record(cell, Verdict.FAIL, "no")]):
        said = signing.make(written(signing, records), *("--accept", "*", "--reason", "x", "--by", "y"), status=2)
        assert "no cell passed" in said


def test_the_baseline_is_on_the_page(signing: Tool) -> None:
    before = write_dated(signing.reports, 1, mixed_records())
    now = signing.reports / write_dated(signing.reports, 2, green_records())
    signing.make(now, *("--baseline", before, "--accept", "not-tested", "--reason", "others", "--by", "Ann"))
    text = page(now)
    assert f"No regression since {before}." in text
    assert "In the baseline but not tested now:" in text
    signing("--release", "again", "--no-pdf", now)
    said = signing("verify", now)
    assert said.count("unchanged") == 2


def test_forked_cells_are_said_to_be(signing: Tool) -> None:
    records = green_records()
    records[0] = records[0].model_copy(update={"boot": "fork"})
    folder = written(signing, records)
    signing.make(folder)
    text = page(folder)
    assert "<b>1 of 8 cells were forked from a booted guest</b>" in text
    assert "all cold" not in text
    assert "(forked)" in text
    (told,) = [one for one in statement(folder)["predicate"]["configuration"] if one["name"] == "SHA256SUMS"]
    assert told["annotations"]["forked"] == [records[0].cell.id]


def test_cells_with_weaker_evidence_are_said_to_have_it(signing: Tool) -> None:
    first, *rest = green_records()
    power = ("app: all capabilities",)
    judgement = first.judgement.model_copy(update={"is_weak": True, "privileged": power})
    assert first.bootable
    bootable = first.bootable.model_copy(update={"privileged": power})
    folder = written(signing, [first.model_copy(update={"judgement": judgement, "bootable": bootable}), *rest])
    signing.make(folder)
    (told,) = [one for one in statement(folder)["predicate"]["configuration"] if one["name"] == "SHA256SUMS"]
    assert told["annotations"]["weakerEvidence"] == {first.cell.id: "app: all capabilities"}
    assert f"<li>{first.cell.id}: app: all capabilities</li>" in page(folder)
    by_console = first.judgement.model_copy(update={"is_weak": True})
    found = weaker_evidence([first.model_copy(update={"judgement": by_console})])
    assert found == {first.cell.id: "judged by the console alone"}


def test_cells_with_arguments_of_their_own_are_said_to_have_them(signing: Tool) -> None:
    records = green_records()
    cell = records[0].cell.model_copy(update={"qemu_args": ("-device", "edu,x=<b>")})
    disk = records[0].artefacts[0].model_copy(update={"kind": "attached", "name": "data.img", "sha256": "9" * 64})
    artefacts = (*records[0].artefacts, disk)
    folder = written(signing, [records[0].model_copy(update={"cell": cell, "artefacts": artefacts}), *records[1:]])
    signing.make(folder)
    text = page(folder)
    assert f"<li>{cell.id}: <code>-device" in text
    assert "<b>additional QEMU arguments" in text
    assert "edu,x=<b>" not in text
    said = statement(folder)["predicate"]["configuration"]
    (told,) = [one for one in said if one["name"] == "SHA256SUMS"]
    assert told["annotations"]["qemuArguments"] == {cell.id: ["-device", "edu,x=<b>"]}
    assert {"name": "attached x86_64 data.img".replace("x86_64", cell.arch), "digest": {"sha256": "9" * 64}} in said
    assert any(one["name"].startswith("QEMU arguments") for one in said)


def test_names_that_would_leave_the_folder_are_refused(signing: Tool, green: Path) -> None:
    for name in ("../x", "", ".x", "a/b", "a\nb"):
        assert "--release" in signing(green, "--release", name, status=2)
        if name:
            assert "--release" in signing("verify", green, "--release", name, status=2)
    signing.make(green)
    assert "already exists" in signing.make(green, status=2)
    assert "no such sign-off" in signing("verify", green, "--release", "other", status=2)
    assert "is not signed off" in signing("verify", written(signing, green_records()), status=2)


def test_a_link_in_a_run_is_not_signed(signing: Tool, green: Path) -> None:
    signing.make(green)
    shutil.rmtree(green / "signoff")
    (green / "link").symlink_to("/etc/passwd")
    assert "expected a regular file" in signing.make(green, status=2)


def test_manifests_read_back_and_nothing_else_does() -> None:
    from bootmatrix.errors import InputError

    manifest = {"a b/ü.log": "0" * 64, "run.json": "f" * 64}
    assert read_lines(write_lines(manifest)) == manifest
    for data in (b"x", b"0" * 64 + b" a\n", write_lines(manifest) * 2, b"\n"):
        with pytest.raises(InputError):
            read_lines(data)


@pytest.mark.skipif(browser() is None, reason="Ubuntu's archive has no browser that runs here")
def test_a_hundred_cells_print_on_two_sheets(signing: Tool) -> None:
    records = [
        make_record(make_cell(arch, kernel, spec))
        for spec in ("influxdb", "prometheus", "hello", "check", "storage")
        for arch in ("x86_64", "aarch64", "armv7", "ppc64le")
        for kernel in ("5.10", "6.1", "6.12", "7.2", "newest")
    ]
    folder = written(signing, records)
    signing(folder, "--release", RELEASE)
    pdf = (folder / "signoff" / RELEASE / "signoff.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) in {1, 2}
    assert "signoff.pdf" in json.dumps(statement(folder))
    (folder / "signoff" / RELEASE / "signoff.pdf").unlink()
    assert "signoff.pdf: missing" in signing("verify", folder, status=1)


def test_without_a_browser_the_page_is_there_and_that_is_said(
    signing: Tool, green: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "note: no browser to make a PDF with" in signing(green, "--release", RELEASE)
    assert page(green)
