"""Time that was not given to a guest is not held against it: stopped processes, frozen groups, no core."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from bootmatrix.boot.deadlines import PhaseClock
from bootmatrix.judge import judge
from bootmatrix.model import GuestMessage, Timeouts, Verdict
from bootmatrix.qemu.host import groups
from bootmatrix.qemu.suspension import LEAST_GAP_S, STEP_S, SuspensionMeter, gap_of, suspension_of, within
from bootmatrix.runs.run_store import load_run
from fake_qemu import RELEASE
from guests import LINUX, make_bootable, make_machine, make_messages, make_outcome
from kills import Setting
from stops import ALLOWED, SPECS, Stop, random_stops, run_with_stops, write_matrix

ROOT = Path(__file__).parents[1]
BOOTMATRIX = [sys.executable, "-m", "bootmatrix.cli.main"]


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def soon(holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(holds())


def test_a_stopped_process_is_seen_and_measured_until_it_goes_on() -> None:
    meter = SuspensionMeter()
    with sleeper() as process:
        meter.sample(process.pid)
        assert (suspension_of(process.pid), meter.total_s) == ("", 0.0)
        process.send_signal(signal.SIGSTOP)
        assert soon(lambda: suspension_of(process.pid) == "stopped by a signal (SIGSTOP)")
        time.sleep(0.3)
        meter.sample(process.pid)
        assert 0.3 <= meter.still_s <= meter.qemu_s < 60.5
        process.send_signal(signal.SIGCONT)
        assert soon(lambda: not suspension_of(process.pid))
        before_s = meter.qemu_s
        meter.sample(process.pid)
        assert (meter.still_s, meter.qemu_s) == (0.0, before_s)


def freezers() -> Iterator[tuple[Path, str, str, str]]:
    """Groups in which a frozen one can be made: folder, file, and what freezes and thaws; of both versions."""
    for folder in groups("freezer"):
        if os.access(folder, os.W_OK) and (folder / "cgroup.procs").exists():
            if (folder / "cgroup.controllers").exists():
                yield folder, "cgroup.freeze", "1", "0"
            else:
                yield folder, "freezer.state", "FROZEN", "THAWED"


def test_a_frozen_group_is_seen_also_by_who_is_below() -> None:
    """`docker pause`, `systemctl freeze` and batch systems freeze a group with all that is below."""
    found = next(freezers(), None)
    if found is None:
        pytest.skip("no control group can be made here")
    folder, name, freeze, thaw = found
    group = folder / f"bootmatrix-test-{os.getpid()}"
    inner = group / "inner"
    inner.mkdir(parents=True)
    try:
        with sleeper() as process:
            (inner / "cgroup.procs").write_text(f"{process.pid}")
            assert not suspension_of(process.pid)
            (group / name).write_text(freeze)
            assert soon(lambda: suspension_of(process.pid) == "frozen with its control group")
            (group / name).write_text(thaw)
            assert soon(lambda: not suspension_of(process.pid))
    finally:
        (group / name).write_text(thaw)
        soon(lambda: _removed(inner))
        soon(lambda: _removed(group))


def _removed(group: Path) -> bool:
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


OWN_STOP = """
import os, time
from bootmatrix.qemu.suspension import SuspensionMeter
meter = SuspensionMeter()
print("ready", flush=True)
input()
meter.sample(os.getpid())
print(meter.own_s, meter.qemu_s)
deadline = time.process_time() + 2
while time.process_time() < deadline:
    pass
meter.sample(os.getpid())
print(meter.own_s)
"""


def test_our_own_stop_is_measured_and_work_is_none() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWN_STOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(STEP_S + LEAST_GAP_S + 0.5)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.close()
        own_s, qemu_s = map(float, process.stdout.readline().split())
        assert own_s >= LEAST_GAP_S
        assert qemu_s == 0
        assert float(process.stdout.readline()) < own_s + 0.5


@pytest.mark.parametrize(("passed_s", "gap_s"), [(STEP_S, 0.0), (STEP_S + LEAST_GAP_S, 0.0), (60.25, 60.0)])
def test_only_a_gap_that_is_no_work_of_ours_counts(passed_s: float, gap_s: float) -> None:
    assert gap_of(passed_s) == gap_s


@pytest.mark.anyio
async def test_a_wait_begins_anew_while_something_is_stopped() -> None:
    answers = iter([True, True, False])
    began = time.monotonic()
    assert not await within(0.05, anyio.sleep_forever, lambda: next(answers))
    assert time.monotonic() - began >= 0.15
    assert await within(1, anyio.lowlevel.checkpoint, lambda: False)


def test_no_limit_counts_a_stop_however_long() -> None:
    watch = PhaseClock(make_machine(), make_bootable(), Timeouts(boot=10, silence=100), lambda _: None)
    watch.heard(5)
    watch.suspended(3600)
    assert watch.expired(3600 + 9.9) is None
    expired = watch.expired(3600 + 10.1)
    assert expired is not None
    assert (expired.limit, expired.is_starved) == ("boot", False)


def test_what_only_a_host_without_a_core_brings_to_its_limit_says_so() -> None:
    watch = PhaseClock(make_machine(), make_bootable(), Timeouts(boot=10, silence=100), lambda _: None)
    watch.starved(1000)
    assert watch.expired(49) is None
    expired = watch.expired(51)
    assert expired is not None
    assert expired.is_starved


TIMED_OUT = (f"ready {RELEASE}", "services up", "check ping start", "check ping exit timeout", "shutdown")
RAN = make_messages(TIMED_OUT[:2], "")


def timed_out(lost_s: float | None, other_lost_s: float | None = None) -> tuple[GuestMessage, ...]:
    """Messages of a check that ran for 10 s, and had no core for `lost_s` of these; of another one as well."""
    texts = list(TIMED_OUT)
    times_s = [1.0, 2.0, 2.0, 12.0, 12.0, 12.0, 12.0]
    starved_s = [1.0, 1.0, 1.0, 1.0 + (lost_s or 0.0)]
    if other_lost_s is not None:
        texts[4:4] = ["check pong start", "check pong exit timeout"]
        times_s[4:4] = [12.0, 22.0]
        starved_s += [starved_s[-1], starved_s[-1] + other_lost_s]
    return tuple(
        message.model_copy(
            update={
                "at_s": times_s[min(number, len(times_s) - 1)],
                "starved_s": None if lost_s is None else starved_s[min(number, len(starved_s) - 1)],
            }
        )
        for number, message in enumerate(make_messages(tuple(texts), "fail"))
    )


@pytest.mark.parametrize(
    ("console", "changes", "verdict"),
    [
        (b"", {"suspended_s": 5.0}, Verdict.INFRA_ERROR),
        (b"", {"suspended_s": 0.2}, Verdict.TIMEOUT),
        (b"", {"messages": timed_out(lost_s=6.0), "starved_s": 7.0}, Verdict.INFRA_ERROR),
        (b"", {"messages": timed_out(lost_s=2.0), "starved_s": 19.0}, Verdict.TIMEOUT),
        (b"", {"messages": timed_out(lost_s=6.0, other_lost_s=1.0), "starved_s": 18.0}, Verdict.TIMEOUT),
        (b"", {"messages": timed_out(lost_s=None), "starved_s": 16.0, "wall_s": 18.0}, Verdict.INFRA_ERROR),
        (b"", {"messages": timed_out(lost_s=None), "starved_s": 10.0, "wall_s": 20.0}, Verdict.TIMEOUT),
        (b"", {"ended_by": "host", "limit": "checks", "starved_s": 15.0, "messages": RAN[:2]}, Verdict.TIMEOUT),
        (b"", {"suspended_s": 5.0, "ended_by": "host", "limit": "silence"}, Verdict.INFRA_ERROR),
        (
            b"[    9.000000] Kernel panic - not syncing: softlockup: hung tasks\n",
            {"suspended_s": 5.0},
            Verdict.INFRA_ERROR,
        ),
        (b"[    9.000000] Kernel panic - not syncing: Fatal exception\n", {"suspended_s": 5.0}, Verdict.PANIC),
    ],
)
def test_what_a_stop_may_have_brought_about_is_ours(
    console: bytes, changes: dict[str, object], verdict: Verdict
) -> None:
    outcome = make_outcome(**{"messages": make_messages(TIMED_OUT, "fail"), **changes})
    bootable = make_bootable(checks={"ping": 6.0, "pong": 6.0})
    judgement = judge(outcome, make_machine(), bootable, console)
    assert judgement.verdict is verdict, judgement.reason


def test_a_stop_spoils_no_pass() -> None:
    assert judge(make_outcome(suspended_s=600.0), make_machine(), make_bootable(), b"").verdict is Verdict.PASS


@pytest.mark.boots
def test_real_guests_are_not_blamed_for_stops(tmp_path: Path) -> None:
    """`python -m benchmarks.trials stops` tries two hundred."""
    matrix = write_matrix(tmp_path, ROOT / "specs/images", 1, "retries: 2\n")
    setting = Setting(BOOTMATRIX, ROOT, os.environ)
    longer_than_silence = (Stop("bootmatrix", 1.0, 8.0), Stop("qemu", 1.0, 8.0), Stop("qemu", 1.0, 0.3))
    result = run_with_stops(setting, [str(matrix), "--jobs", "1"], tmp_path / "reports", iter(longer_than_silence))
    assert result.stops >= 2, result.output
    assert not result.wrong, result.wrong
    found = {name[:5]: verdict.partition(":")[0] for name, verdict in result.verdicts.items()}
    assert found == {"sound": "pass", "fails": "fail"}, result.verdicts


@LINUX
@pytest.mark.boots
def test_a_template_that_was_stopped_is_made_anew(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "specs/images", tmp_path / "images")
    recipe = tmp_path / "images/init/build.yml"
    unique = f"files:\n  - {{path: etc/unique, contents: '{time.time_ns()}'}}\n"  # no snapshot is of this init
    recipe.write_text(recipe.read_text().replace("files:\n", unique))
    spec = tmp_path / "sound.yml"
    spec.write_text(SPECS["sound"])
    setting = Setting(BOOTMATRIX, ROOT, os.environ)
    words = [str(spec), "--arch", "x86_64", "--kernel", "6.1", "--boot", "fork"]
    result = run_with_stops(setting, words, tmp_path / "reports", iter([Stop("qemu", 0.3, 1.5)]))
    record = load_run(tmp_path / "reports/latest").records[0]
    assert (result.stops, record.verdict, record.boot, record.attempts) == (1, "pass", "fork", 1), result.output
    assert record.outcome
    assert record.outcome.suspended_s < 1, "the stop was the template's"


def test_stops_are_of_both_and_of_every_length() -> None:
    stops = random_stops("1")
    some = [next(stops) for _ in range(200)]
    assert {stop.whom for stop in some} == {"bootmatrix", "qemu"}
    lengths_s = sorted(stop.length_s for stop in some)
    assert lengths_s[0] < 0.5
    assert lengths_s[-1] > 12
    assert all("infra-error" in verdicts for verdicts in ALLOWED.values())
