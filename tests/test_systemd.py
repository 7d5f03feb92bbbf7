"""A package's unit under systemd as the first process of real guests, as `try --service UNIT --systemd` starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.model import Record
from bootmatrix.packaged import packaged
from bootmatrix.runs.run_store import load_run

UNIT = "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/sh -c '{}'\n[Install]\nWantedBy=multi-user.target\n"
CONTROL = "Package: xd\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"


def tried(folder: Path, arch: str, command: str) -> Record:
    """Try a package whose unit runs a shell's command."""
    tree, wants = folder / "xd", folder / "xd/etc/systemd/system/multi-user.target.wants"
    for below in (tree / "DEBIAN", tree / "lib/systemd/system", wants):
        below.mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL)
    (tree / "lib/systemd/system/xd.service").write_text(UNIT.format(command))
    (wants / "xd.service").symlink_to("/lib/systemd/system/xd.service")
    subprocess.run(["dpkg-deb", "--build", "-Zxz", "--root-owner-group", tree, folder / "xd_1_all.deb"], check=True)
    options = ("--service", "xd", "--systemd", "--stays", "2s", "--arch", arch, "--kernel", "6.1")
    words = [sys.executable, "-m", "bootmatrix.cli.main", "try", "./xd_1_all.deb", *options, "--reports", "reports"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert (folder / "reports/latest").exists(), done.stdout + done.stderr
    (record,) = load_run(folder / "reports/latest").records
    return record


SYSTEMCTL = """#!/bin/sh
case "$*" in
  *SubState*) read -r state rest <states; echo "$state"; echo "${rest:-$state}" >states ;;
  is-active*) echo active ;;
esac
"""


@pytest.mark.parametrize(
    ("states", "status"), [("running", 0), ("exited", 0), ("running exited", 1), ("exited running", 0)]
)
def test_a_unit_that_is_active_without_its_processes(tmp_path: Path, states: str, status: int) -> None:
    (tmp_path / "states").write_text(f"{states}\n")
    for name, text in {"systemctl": SYSTEMCTL, "journalctl": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = packaged("scaffold/unit.sh", unit="x.service", stays_s="0", limit_s="1")
    script = script.replace("/run/bootmatrix", f"{tmp_path}/run")
    subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    output = (tmp_path / "run/output").read_text()
    assert int((tmp_path / "run/status").read_text()) == status, output
    assert ("its processes ended" in output) is bool(status)


@pytest.mark.boots
@pytest.mark.long
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_a_unit_that_stays_active(tmp_path: Path, arch: str) -> None:
    record = tried(tmp_path, arch, "exec sleep infinity")
    assert record.verdict == "pass", record.judgement
    assert any("process 1 of the guest" in words for words in record.judgement.privileged)
    (journal,) = tmp_path.glob("reports/latest/cells/**/files/*journal*")
    assert "systemd[1]: Started xd.service" in journal.read_text(errors="replace")


@pytest.mark.boots
@pytest.mark.long
def test_a_unit_that_fails(tmp_path: Path) -> None:
    record = tried(tmp_path, "x86_64", "sleep 1; exit 3")
    assert record.verdict == "fail", record.judgement
    assert "xd.service failed: exit-code, status 3" in record.judgement.reason
