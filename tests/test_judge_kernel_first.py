"""Faults that the kernel reports come first: before their consequences, and before bootmatrix' limits."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest

from bootmatrix.boot.deadlines import FAULT_GRACE_S, PhaseClock
from bootmatrix.console.kernel_messages import locate
from bootmatrix.console.log import FaultWatch
from bootmatrix.console.stalls import KernelStart, Starvation
from bootmatrix.judge import judge
from bootmatrix.model import Judgement, Timeouts, Verdict
from fake_qemu import RELEASE
from guests import make_bootable, make_machine, make_messages, make_outcome

BUG = """\
[    2.100000] ------------[ cut here ]------------
[    2.100001] kernel BUG at lib/x.c:27!
[    2.100002] Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI
[    2.100003] CPU: 0 UID: 0 PID: 1 Comm: swapper/0 Not tainted 6.12.0 #1
[    2.100004] RIP: 0010:planted_init+0x12/0x30
[    2.100005] ---[ end trace 0000000000000000 ]---
"""
PANIC = "[    2.200000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n"
LOCKUP = "[   30.000000] watchdog: BUG: soft lockup - CPU#0 stuck for {}s! [sh:1]\n"


def judged(console: str, **outcome: object) -> Judgement:
    return judge(make_outcome(**outcome), make_machine(), make_bootable(), console.encode())


def test_a_panic_names_the_fault_that_came_first() -> None:
    judgement = judged(BUG + PANIC, messages=(), ended_by="host", limit="panic")
    assert judgement.verdict is Verdict.PANIC
    assert judgement.reason == (
        "kernel BUG at lib/x.c:27, at planted_init+0x12/0x30; "
        "then a kernel panic: Attempted to kill init! exitcode=0x0000000b"
    )
    assert judged(PANIC + BUG, messages=(), ended_by="host", limit="panic").reason.startswith("kernel panic: ")


def test_a_kernel_fault_is_told_before_the_exit_that_it_caused() -> None:
    messages = make_messages((f"ready {RELEASE}", "onboot prepare start", "onboot prepare exit 137"), "fail")
    judgement = judged(BUG, messages=messages)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason == "the kernel reported a fault: kernel BUG at lib/x.c:27, at planted_init+0x12/0x30"


@pytest.mark.parametrize("limit", ["silence", "checks", "fault"])
def test_a_soft_lockup_is_a_failure_and_no_timeout(limit: str) -> None:
    judgement = judged(LOCKUP.format(26), ended_by="host", limit=limit, limit_phase="checks", messages=())
    assert judgement.verdict is Verdict.FAIL
    assert "soft lockup" in judgement.reason


@pytest.mark.parametrize(
    ("counted", "starved_s", "verdict"),
    [
        (26, 9.0, Verdict.FAIL),
        (26, 11.0, Verdict.INFRA_ERROR),
        (48, 11.0, Verdict.FAIL),
        (48, 29.0, Verdict.INFRA_ERROR),
    ],
)
def test_a_stall_is_the_hosts_unless_the_kernel_counted_more_than_it_withheld(
    counted: int, starved_s: float, verdict: Verdict
) -> None:
    limits = {"ended_by": "host", "limit": "checks", "limit_phase": "checks", "messages": ()}
    assert judged(LOCKUP.format(counted), starved_s=starved_s, **limits).verdict is verdict


HUNG = "[  {}.000000] INFO: task VM Thread:123 blocked for more than {} seconds.\n"
RCU = "[  {}.000000] rcu: INFO: rcu_preempt self-detected stall on CPU\n"
SOFT = "[  {}.000000] watchdog: BUG: soft lockup - CPU#0 stuck for {}s! [sh:1]\n"
QUEUE = "[  {}.000000] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for {}s!\n"
HARD = "[  {}.000000] NMI watchdog: Watchdog detected hard LOCKUP on cpu 0\n"
EARLY = ((12.0, 4.0), (28.0, 30.0))
"""Recorded: 30 s without a core within the first 28 s, and none later."""
LATE = ((12.0, 1.0), (195.0, 16.0), (200.0, 40.0))


@pytest.mark.parametrize(
    ("line", "points", "verdict"),
    [
        (SOFT.format(30, 26), EARLY, Verdict.INFRA_ERROR),
        (SOFT.format(200, 26), EARLY, Verdict.FAIL),
        (SOFT.format(200, 26), LATE, Verdict.INFRA_ERROR),
        (SOFT.format(100, 78), EARLY, Verdict.FAIL),
        (SOFT.format(195, 26), ((180.0, 4.0), (190.0, 9.0)), Verdict.FAIL),
        (SOFT.format(30, 26) + SOFT.format(90, 80), EARLY, Verdict.FAIL),
        (HUNG.format(130, 120), EARLY, Verdict.INFRA_ERROR),
        (HUNG.format(260, 241), EARLY, Verdict.FAIL),
        (HUNG.format(300, 241), EARLY, Verdict.FAIL),
        (HUNG.format(380, 362), LATE, Verdict.FAIL),
        (HUNG.format(300, 120), EARLY, Verdict.FAIL),
        (RCU.format(30), EARLY, Verdict.INFRA_ERROR),
        (RCU.format(93), EARLY, Verdict.FAIL),
        (RCU.format(197), LATE, Verdict.INFRA_ERROR),
        (QUEUE.format(200, 43), LATE, Verdict.INFRA_ERROR),
        (QUEUE.format(100, 43), EARLY, Verdict.FAIL),
        (HARD.format(200), ((195.0, 6.0),), Verdict.INFRA_ERROR),
        (HARD.format(100), ((50.0, 6.0),), Verdict.FAIL),
        ("[  100.000000] kernel BUG at lib/x.c:27!\n", LATE, Verdict.FAIL),
    ],
)
def test_only_time_withheld_during_a_stall_explains_it(
    line: str, points: tuple[tuple[float, float], ...], verdict: Verdict
) -> None:
    total_s = points[-1][1]
    judgement = judged(line, starved_s=total_s, starvation=points, kernel_start_s=1.0, wall_s=400.0)
    assert judgement.verdict is verdict, judgement.reason


def test_a_copied_guests_clock_began_before_its_boot() -> None:
    line = SOFT.format(500, 26)
    assert judged(line, starved_s=40.0, starvation=LATE, kernel_start_s=-300.0).verdict is Verdict.INFRA_ERROR
    assert judged(line, starved_s=40.0, starvation=LATE, kernel_start_s=-400.0).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("panic", "at_s", "verdict"),
    [
        ("softlockup: hung tasks", 200, Verdict.INFRA_ERROR),
        ("softlockup: hung tasks", 100, Verdict.PANIC),
        ("Fatal exception", 200, Verdict.PANIC),
    ],
)
def test_a_panic_by_a_stall_that_the_host_brought_about_is_the_hosts(panic: str, at_s: int, verdict: Verdict) -> None:
    console = SOFT.format(at_s, 26) + f"[  {at_s}.100000] Kernel panic - not syncing: {panic}\n"
    ended = {"ended_by": "host", "limit": "panic", "messages": ()}
    judgement = judged(console, starved_s=40.0, starvation=LATE, kernel_start_s=1.0, **ended)
    assert judgement.verdict is verdict, judgement.reason


def test_a_function_of_a_trace_makes_no_panic_a_stall() -> None:
    console = BUG.replace("lib/x.c", "kernel/rcu/tree.c") + "[    2.2] x\n" + PANIC.replace("Attempted", "Tried")
    assert judged(console, suspended_s=60.0, ended_by="host", limit="panic").verdict is Verdict.PANIC


def test_the_kernels_clock_is_found_by_lines_of_its_own() -> None:
    start = KernelStart()
    start.feed(b"SeaBIOS\n", 1.0)
    assert start.at_s is None
    start.feed(b"[    0.000000] Linux version\n[    2.500000] x", 5.0)
    assert start.at_s == 2.5
    start.feed(b"y\napp| z\n", 6.0)
    start.feed(b"app| [    0.500000] quoted\n[    5.0000", 7.0)
    start.feed(b"[  900.000000] the middle of a line\n", 8.0)
    assert start.at_s == 2.5
    start.feed(b"[    6.000000] nearer\n", 8.0)
    assert start.at_s == 2.0


def test_a_suspended_host_excuses_a_stall_and_no_other_fault() -> None:
    assert judged(LOCKUP.format(26), suspended_s=60.0).verdict is Verdict.INFRA_ERROR
    assert judged(BUG, suspended_s=60.0).verdict is Verdict.FAIL


def test_a_guest_that_was_ended_for_a_fault_never_passes() -> None:
    assert judged("", ended_by="host", limit="fault", messages=()).verdict is not Verdict.PASS
    assert judged(BUG, ended_by="host", limit="fault").verdict is Verdict.FAIL


def test_each_location_finds_its_examples() -> None:
    text = files("bootmatrix.console").joinpath("kernel_messages.toml").read_text(encoding="utf-8")
    examples = [example for entry in tomllib.loads(text)["location"] for example in entry["examples"]]
    assert len(examples) >= 8
    for example in examples:
        assert re.fullmatch(r"sysrq_handle_crash\+0x\w+/0x\w+", locate([f"[    1.000000] {example}"])), example
    assert locate(["[    1.000000] Call Trace:", "[    1.000000]  panic+0x1/0x2"]) == ""


# ---- the watch on the console while the guest runs


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_watch_sees_a_fault_however_it_is_cut(size: int) -> None:
    watch, data = FaultWatch(), BUG.encode()
    for start in range(0, len(data), size):
        watch.feed(data[start : start + size])
    assert watch.faults[0].text == "kernel BUG at lib/x.c:27!"
    assert watch.is_certain(Starvation(60.0))


@pytest.mark.parametrize(
    "lines",
    [
        "app| [    2.1] x\napp| [    2.100001] kernel BUG at lib/x.c:27!\n",
        "app| torn [    2.000000] usb 1-1: found\n[    2.100001] kernel BUG at lib/x.c:27!\n",
        "app| hello\nBUG: soft lockup - CPU#0 stuck for 26s! [sh:1]\n",
        "[    2.100001] WARNING: CPU: 0 PID: 1 at lib/x.c:27 x+0x1/0x2\n",
        PANIC,
        "[    2.100001] kernel BUG at lib/x.c:27!",
    ],
)
def test_the_watch_ignores_what_containers_print_and_what_is_not_fatal(lines: str) -> None:
    watch = FaultWatch()
    watch.feed(lines.encode())
    assert not watch.faults


def test_the_watch_waits_while_the_host_may_be_the_cause() -> None:
    watch = FaultWatch()
    watch.feed(LOCKUP.format(26).encode())
    assert watch.is_certain(Starvation())
    assert not watch.is_certain(Starvation(12.0))
    watch.feed(LOCKUP.format(52).encode())
    assert watch.is_certain(Starvation(12.0))


def test_a_guest_with_a_fault_has_a_moment_to_end_by_itself() -> None:
    limits = Timeouts(boot=100, silence=200)
    clock = PhaseClock(make_machine(time_factor=2), make_bootable(), limits, lambda _: None)
    clock.faulted(10.0)
    clock.faulted(20.0)
    assert clock.expired(10.0 + 2 * FAULT_GRACE_S - 0.1) is None
    expired = clock.expired(10.0 + 2 * FAULT_GRACE_S)
    assert expired
    assert expired.limit == "fault"


def test_a_fault_of_the_guests_after_a_stall_of_the_hosts_is_no_part_of_its_trace() -> None:
    limits = {"ended_by": "host", "limit": "checks", "limit_phase": "checks", "messages": ()}
    judgement = judged(LOCKUP.format(26) + BUG.replace("[    2.1", "[   30.1"), starved_s=11.0, **limits)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith("the kernel reported a fault: kernel BUG at lib/x.c:27")
    starved = "[   30.100000] rcu: rcu_sched kthread starved for 2502 jiffies! g1 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0\n"
    assert judged(LOCKUP.format(26) + starved, starved_s=11.0, **limits).verdict is Verdict.INFRA_ERROR
