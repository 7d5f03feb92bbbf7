"""The portable way of macOS, forced on Linux: there is no Mac here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boot_sector import MACHINE, write_guest
from bootmatrix import operating_system
from bootmatrix.cli.doctor import install_command
from bootmatrix.model import Verdict
from bootmatrix.qemu.host import available_cores, available_memory_mib, idle_cpu_s, total_memory_mib
from bootmatrix.runs.host import describe_host
from bootmatrix.runs.run_store import load_run

COMMAND = [sys.executable, "-m", "bootmatrix.cli.main"]
FORCED = {**os.environ, operating_system.VARIABLE: "1"}


def test_the_host_is_measured_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(operating_system.VARIABLE, raising=False)
    assert "means" not in describe_host()
    monkeypatch.setenv(operating_system.VARIABLE, "1")
    monkeypatch.setattr(operating_system, "MEMINFO", Path("/does/not/exist"))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "memfd_create")
    assert describe_host()["means"] == "portable"
    assert available_cores() >= 1
    assert 0 < available_memory_mib() < total_memory_mib()
    assert (idle_cpu_s(), operating_system.slept_s()) == (0.0, 0.0)
    descriptor = operating_system.unnamed_file("x")
    os.write(descriptor, b"data")
    assert os.pread(descriptor, 10, 0) == b"data"
    os.close(descriptor)


@pytest.mark.boots
def test_a_guest_boots_and_the_run_says_how(tmp_path: Path) -> None:
    words = ["matrix", "hello", "--arch", "x86_64", "--kernel", "6.1", "--boot", "fork"]
    done = subprocess.run([*COMMAND, *words], cwd=tmp_path, env=FORCED, capture_output=True, text=True, check=False)
    run = load_run(tmp_path / "reports/latest")
    assert [record.verdict for record in run.records] == [Verdict.PASS], done.stdout + done.stderr
    assert run.host["means"] == "portable"
    assert (run.records[0].boot, run.records[0].cold_reason.partition(" need")[0]) == ("cold", "copies of guests")


def test_doctor_tells_what_is_lacking() -> None:
    words = [*COMMAND, "doctor", "--offline"]
    done = subprocess.run(words, env=FORCED, capture_output=True, text=True, check=False)
    assert "portable: no limits" in done.stdout, done.stdout + done.stderr
    assert "control group," not in done.stdout
    assert "setpriv" not in done.stdout
    assert install_command({"apt": "gpgv", "brew": "gnupg"}, ["Darwin"]) == "brew install gnupg"


@pytest.mark.boots
def test_qemu_ends_with_a_bootmatrix_that_is_killed(tmp_path: Path) -> None:
    write_guest(tmp_path, "long", 60.0)
    words = ["matrix", "long.guest.yml", "--arch", MACHINE]
    process = subprocess.Popen([*COMMAND, *words], cwd=tmp_path, env=FORCED, stdout=subprocess.DEVNULL)
    guests = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := [pid for pid in guests.read_text().split() if _is_qemu(pid)]):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 10
    while _is_qemu(found[0]) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _is_qemu(found[0])


def _is_qemu(pid: str) -> bool:
    file = Path(f"/proc/{pid}/cmdline")
    return file.exists() and b"-display" in file.read_bytes() and b"sh\0-c" not in file.read_bytes()
