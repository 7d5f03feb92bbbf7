"""A report that is sent is tied to what was signed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.signoff.sent_report import attested
from bootmatrix.signoff.statement import key_id, sign
from signoff_fixtures import RELEASE, Tool, write_keys

pytest_plugins = ("signoff_fixtures",)


def test_a_sent_report_is_verified_by_itself(signing: Tool, green: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    signing.make(green, "--sign-key", private)
    sent = tmp_path / "mail" / "report.html"
    sent.parent.mkdir()
    shutil.copy(green / "signoff" / RELEASE / "report.html", sent)
    text = sent.read_text()
    assert f"Signed off as {RELEASE}: PASSED" in text
    assert f"key id {key_id(private)}" in text
    assert "unchanged; signed by" in signing("verify", sent, "--key", public)
    assert "All 8 cells passed." in text and "signoff verify report.html --key PUBLIC_KEY" in text
    assert "is signed" in signing("verify", sent, status=2)
    assert "not 'other'" in signing("verify", sent, "--key", public, "--release", "other", status=1)
    (tmp_path / "other").mkdir()
    _, other = write_keys(tmp_path / "other")
    assert "not signed with this key" in signing("verify", sent, "--key", other, status=1)


def test_a_long_attestation_needs_its_key_too(signing: Tool, tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path)
    sent = tmp_path / "report.html"
    sent.write_bytes(attested(b"<html></html>", sign(b"x" * 9000, private)))
    assert "Name the public key" in signing("verify", sent, status=2)


@pytest.mark.parametrize("change", [("All 8 cells", "All 9 cells"), ("</html>", "</html> ")])
def test_a_changed_report_is_not_valid(signing: Tool, green: Path, tmp_path: Path, change: tuple[str, str]) -> None:
    private, public = write_keys(tmp_path)
    signing.make(green, "--sign-key", private)
    sent = green / "signoff" / RELEASE / "report.html"
    text = sent.read_text()
    assert change[0] in text
    sent.write_text(text.replace(*change, 1))
    assert "the report was changed since" in signing("verify", sent, "--key", public, status=1)
    assert f"signoff/{RELEASE}/report.html: changed" in signing("verify", green, "--key", public, status=1)


def test_other_files_carry_no_attestation(signing: Tool, green: Path) -> None:
    signing.make(green)
    assert "unchanged; not signed" in signing("verify", green / "signoff" / RELEASE / "report.html")
    assert "not a report that was signed off" in signing("verify", green / "report.html", status=2)


def test_a_report_of_a_changed_run_warns(
    signing: Tool, green: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signing.make(green)
    page = tmp_path / "page.html"
    command = ["report", str(green), "--format", "html", "-o", str(page), "--reports", str(signing.reports)]
    assert main(command) == 0
    assert not capsys.readouterr().err
    (green / "junit.xml").write_text("<testsuites/>")
    assert main(command) == 0
    words = f"{green.name} differs from what was signed off as {RELEASE}"
    assert f"warning: {words}" in capsys.readouterr().err
    assert f"Warning: {words}" in page.read_text()
