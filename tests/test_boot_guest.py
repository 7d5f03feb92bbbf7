"""Boots with a QEMU that emulates nothing, for every fault that a real one will not show on demand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import anyio
import pytest

from bootmatrix.boot import guest
from bootmatrix.boot.diagnosis import keep
from bootmatrix.boot.guest import boot
from bootmatrix.console.log import ConsoleLog
from bootmatrix.errors import HostError
from bootmatrix.judge import judge
from bootmatrix.model import ConsoleProof, Judgement, Machine, Outcome, Verdict
from bootmatrix.qemu import cgroup
from bootmatrix.qemu.version import qemu_version
from fake_qemu import TEXTS
from guests import QUICK, make_bootable, make_machine

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """qemu-system-fake in PATH; the file that it writes its process id to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "qemu-system-fake"
    # Of our environment a QEMU gets little.
    pid = f"FAKE_QEMU_PIDFILE={tmp_path / 'pid'}"
    program.write_text(f'#!/bin/sh\n{pid} exec {sys.executable} {TESTS}/fake_qemu.py "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path / "pid"


def machine_for(scenario: str, **changes: object) -> Machine:
    return make_machine(arguments=("-fake", scenario), **changes)


async def run(
    scenario: str, folder: Path, proof: ConsoleProof | None = None, **changes: object
) -> tuple[Outcome, Judgement]:
    machine = machine_for(scenario, **changes)
    bootable = make_bootable(reports=proof is None, proof=proof)
    outcome = await boot(machine, bootable, QUICK, folder)
    return outcome, judge(outcome, machine, bootable, (folder / "console.log").read_bytes())


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waited for yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pid: int, limit_s: float = 10) -> bool:
    deadline = time.monotonic() + limit_s
    while not is_gone(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def test_a_sound_guest_passes(tmp_path: Path, fake: Path) -> None:
    phases: list[str] = []
    machine = machine_for("sound")
    outcome = await boot(machine, make_bootable(), QUICK, tmp_path, phases.append)
    assert phases == ["boot", "onboot", "services", "checks", "shutdown"]
    assert [" ".join((one.kind, *one.words)) for one in outcome.messages[:-1]] == list(TEXTS)
    assert (outcome.exit_status, outcome.ended_by, outcome.result_fault, outcome.rejected) == (0, "guest", "", 0)
    assert [event.name for event in outcome.events] == ["SHUTDOWN", "STOP", "SHUTDOWN"]
    assert (tmp_path / "console.log").read_bytes() == b"[    0.100000] Linux version 6.1\r\n"
    assert judge(outcome, machine, make_bootable(), b"").verdict is Verdict.PASS
    assert wait_until_gone(int(fake.read_text()))


@pytest.mark.parametrize(
    ("scenario", "verdict", "reason"),
    [
        ("leaves_by_status", Verdict.PASS, "exited as expected"),
        ("leaves_by_status_after_a_warning", Verdict.PASS, "exited as expected"),
        ("leaves_by_status_early", Verdict.FAIL, "init's last message is missing"),
        ("leaves_by_a_status_of_its_own", Verdict.FAIL, "init never reported"),
        ("disk_full", Verdict.INFRA_ERROR, "the guest's disk to this host's: No space left on device"),
        ("fails_late", Verdict.INFRA_ERROR, "exited with status 1: qemu-system-fake: it all went wrong"),
        ("sound", Verdict.FAIL, "unexpected exit"),
    ],
)
async def test_by_semihosting_qemu_just_ends(tmp_path: Path, scenario: str, verdict: Verdict, reason: str) -> None:
    _, judgement = await run(scenario, tmp_path, exit="semihosting")
    assert judgement.verdict is verdict
    assert reason in judgement.reason


@pytest.mark.parametrize("scenario", ["sound", "sound_twice", "torn"])
async def test_a_sound_guest_passes_on_a_console(tmp_path: Path, scenario: str) -> None:
    outcome, judgement = await run(scenario, tmp_path, result="console")
    assert judgement.verdict is Verdict.PASS, judgement
    assert outcome.result_fault == ""


@pytest.mark.parametrize(
    ("scenario", "stays", "verdict", "limit"),
    [
        ("shows_a_text", False, Verdict.PASS, ""),
        ("shows_a_text_and_stays", True, Verdict.PASS, "shown"),
        ("shows_a_text_and_stays", False, Verdict.HANG, "silence"),
        ("silent", True, Verdict.HANG, "silence"),
        ("sound", False, Verdict.FAIL, ""),
    ],
)
async def test_a_guest_that_is_not_ours(
    tmp_path: Path, scenario: str, stays: bool, verdict: Verdict, limit: str
) -> None:
    outcome, judgement = await run(scenario, tmp_path, ConsoleProof(console="all is well", stays=stays))
    assert (judgement.verdict, outcome.limit) == (verdict, limit), judgement
    assert judgement.is_weak


async def test_what_qemu_held_up_is_waited_for(tmp_path: Path) -> None:
    _, judgement = await run("writes_when_read", tmp_path)
    assert judgement.verdict is Verdict.PASS, judgement
    assert (tmp_path / "console.log").read_bytes() == b"behind the end\r\n"


async def test_a_nonce_never_reaches_the_transcript(tmp_path: Path) -> None:
    _, judgement = await run("echoes", tmp_path)
    text = (tmp_path / "console.log").read_text()
    assert text.startswith(f"first {'*' * 32} {'*' * 32} last ")
    assert judgement.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("scenario", "verdict", "reason"),
    [
        ("exits_0", Verdict.INFRA_ERROR, "exited with status 0; it printed nothing"),
        ("exits_0_after_end", Verdict.INFRA_ERROR, "exited with status 0"),
        ("says_nothing", Verdict.FAIL, "init never reported"),
        ("forged", Verdict.FAIL, "are not from init"),
        ("forged_on_console", Verdict.FAIL, "init never reported"),
        ("silent", Verdict.HANG, "hangs in phase boot"),
        ("silent_in_check", Verdict.HANG, "hangs in phase checks"),
        ("panics", Verdict.PANIC, "kernel panic: VFS: Unable to mount root fs"),
        ("panics_and_stays", Verdict.PANIC, "kernel panic: Attempted to kill init!"),
        ("panics_by_event", Verdict.PANIC, "reported by the guest's device"),
        ("killed", Verdict.INFRA_ERROR, "was killed by SIGKILL"),
        ("told_to_stop", Verdict.INFRA_ERROR, "stopped from outside, not by its guest: host-signal"),
        ("fails_late", Verdict.INFRA_ERROR, "exited with status 1: qemu-system-fake: it all went wrong"),
        ("refuses", Verdict.INFRA_ERROR, "'nonsense' is not a valid device model name"),
        ("no_end", Verdict.FAIL, "last message is missing"),
        ("gap", Verdict.FAIL, "message 7 came after message 5: 1 were lost"),
        ("changed", Verdict.FAIL, "came after message"),
        ("wrong_digest", Verdict.FAIL, "the digest in the end message"),
        ("talks_after_end", Verdict.FAIL, "came after the end"),
        ("check_fails", Verdict.FAIL, "check ping exited with status 7: connection refused"),
        ("tap_fails", Verdict.FAIL, "ping: not ok: pong"),
        ("resets", Verdict.FAIL, "expected guest-shutdown, got guest-reset"),
        ("endless_messages", Verdict.FAIL, "floods its result channel: "),
        ("floods_result", Verdict.FAIL, "floods its result channel: "),
    ],
)
async def test_a_fault_is_never_a_pass(
    tmp_path: Path, fake: Path, scenario: str, verdict: Verdict, reason: str
) -> None:
    _, judgement = await run(scenario, tmp_path)
    assert (judgement.verdict, reason in judgement.reason) == (verdict, True), judgement
    assert wait_until_gone(int(fake.read_text()))


@pytest.mark.parametrize("scenario", ["forged", "gap", "changed", "wrong_digest", "no_end", "panics", "exits_0"])
async def test_a_fault_is_never_a_pass_on_a_console(tmp_path: Path, scenario: str) -> None:
    _, judgement = await run(scenario, tmp_path, result="console")
    assert judgement.verdict is not Verdict.PASS


async def test_a_repeated_message_changes_nothing(tmp_path: Path) -> None:
    outcome, judgement = await run("replayed", tmp_path)
    assert judgement.verdict is Verdict.PASS
    assert len(outcome.messages) == len(TEXTS) + 1


@pytest.mark.parametrize("scenario", ["garbage_at_once", "garbage_later", "monitor_closes"])
async def test_a_broken_monitor_is_ours(
    tmp_path: Path, scenario: str, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootmatrix.boot.observation.LEAVE_S", 0.3)
    _, judgement = await run(scenario, tmp_path)
    assert judgement.verdict is Verdict.INFRA_ERROR
    assert "monitor" in judgement.reason
    assert wait_until_gone(int(fake.read_text()))


async def test_a_qemu_that_does_not_quit_is_killed(tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.boot.observation.LEAVE_S", 0.3)
    outcome, judgement = await run("stubborn", tmp_path)
    assert outcome.exit_status == -signal.SIGKILL
    assert judgement.verdict is Verdict.INFRA_ERROR
    assert wait_until_gone(int(fake.read_text()))


async def test_a_flood_on_the_console_ends_in_time_and_in_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds that a flood exceeds on a busy host, too; `test_faults.py` has the usual ones."""
    keep_bytes = 64 << 10
    monkeypatch.setattr("bootmatrix.boot.guest.ConsoleLog", partial(ConsoleLog, keep_bytes=keep_bytes))
    outcome, judgement = await run("floods_console", tmp_path)
    assert judgement.verdict is Verdict.TIMEOUT
    assert outcome.console_dropped_bytes == outcome.console_bytes - 2 * keep_bytes > 0
    assert 2 * keep_bytes < (tmp_path / "console.log").stat().st_size < 2 * keep_bytes + 100


async def test_a_hang_stays_one_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "diagnosis").write_text("a file where a folder should be")
    outcome, judgement = await run("silent", tmp_path)
    assert judgement.verdict is Verdict.HANG
    assert {(one.kind, one.file) for one in outcome.diagnostics} == {("screen", ""), ("registers", "")}


async def test_cancelling_leaves_no_child(tmp_path: Path, fake: Path) -> None:
    with anyio.move_on_after(1.0) as scope:
        await run("silent", tmp_path)
    assert scope.cancelled_caught
    assert is_gone(int(fake.read_text()))
    assert b"the last words" in (tmp_path / "console.log").read_bytes()


async def test_a_link_in_the_place_of_the_console_is_not_written_through(tmp_path: Path, fake: Path) -> None:
    """A writer in the folder of runs could put one there, to any file of the user's."""
    (tmp_path / "bashrc").write_text("precious")
    (tmp_path / "console.log").symlink_to("bashrc")
    with pytest.raises(OSError, match="not a regular file, but a link"):
        await boot(machine_for("sound"), make_bootable(), QUICK, tmp_path)
    (tmp_path / "tasks.log").symlink_to("bashrc")
    assert keep(tmp_path / "tasks.log", "tasks", b"x").note == "cannot write it: not a regular file, but a link"
    assert (tmp_path / "bashrc").read_text() == "precious"
    assert not fake.exists()


async def test_a_full_disk_is_raised_as_such_and_leaves_no_child(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_full = partial(Path("/dev/full").open, "wb")
    monkeypatch.setattr(guest, "create_plain", lambda _path, **how: open_full(**how))
    with pytest.raises(OSError, match="No space left"):
        await boot(machine_for("floods_console"), make_bootable(), QUICK, tmp_path)
    assert is_gone(int(fake.read_text()))


PARENT = """
import sys, anyio
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from guests import make_bootable, make_machine
from bootmatrix.boot.guest import boot
from bootmatrix.model import Timeouts
machine = make_machine(arguments=("-fake", sys.argv[3]))
anyio.run(boot, machine, make_bootable(), Timeouts(), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("scenario", ["silent", "floods_console"])
def test_killing_bootmatrix_leaves_no_child(tmp_path: Path, fake: Path, scenario: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path, TESTS, scenario])
    try:
        deadline = time.monotonic() + 20
        while not (fake.exists() and fake.read_text() and (tmp_path / "console.log").stat().st_size):
            assert time.monotonic() < deadline
            assert parent.poll() is None
            time.sleep(0.02)
        child = int(fake.read_text())
        assert not is_gone(child)
        assert os.getsid(child) != os.getsid(0), "the terminal's Ctrl-C would reach it"
    finally:
        parent.kill()
        parent.wait(60)
    assert wait_until_gone(child)


async def test_a_missing_qemu_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    machine = make_machine(qemu="qemu-system-none", qemu_package="qemu-system-misc")
    with pytest.raises(HostError, match="qemu-system-none is not installed") as caught:
        await boot(machine, make_bootable(), QUICK, tmp_path)
    assert caught.value.hint == "Install it: sudo apt-get install qemu-system-misc"


def test_the_version_is_asked_of_qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert qemu_version(make_machine()) == "7.2.22"
    with pytest.raises(HostError, match=r"is version 7\.2\.22, and 10\.0 or later is needed"):
        qemu_version(make_machine(min_qemu="10.0"))


def test_a_file_that_is_no_qemu_is_named(tmp_path: Path) -> None:
    (tmp_path / "bin" / "qemu-system-fake").write_text("#!/bin/sh\necho I am something else\n")
    with pytest.raises(HostError, match="gives no version but 'I am something else'"):
        qemu_version(make_machine())


async def test_a_qemu_that_takes_too_much_memory_is_not_its_guests_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a control group it ends as well: what is to be seen there is that nobody blames the guest."""
    monkeypatch.setattr(cgroup, "QEMU_MIB", 64)
    _, judgement = await run("takes_memory", tmp_path)
    assert judgement.verdict is Verdict.INFRA_ERROR
    if any("memory" in place.controllers for place in cgroup.places()):
        assert "killed by SIGKILL: killed by the kernel: it exceeded its memory limit of 192 MiB" in judgement.reason
    else:
        assert "took 419430400 bytes" in judgement.reason
