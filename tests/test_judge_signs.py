"""Signs of trouble on consoles: each is recognised as it is printed, cut out with its trace, and weighed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from bootmatrix.console.kernel_messages import (
    MAX_OF_A_KIND,
    MAX_TRACE_LINES,
    KernelMessage,
    find_kernel_faults,
    load_messages,
)
from bootmatrix.console.log import FaultWatch
from bootmatrix.judge import judge
from bootmatrix.model import Judgement, QmpEvent, Verdict
from guests import CORPUS, make_bootable, make_machine, make_outcome

OOPS = b"""\
[    4.100000] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000
[    4.100001] Mem abort info:
server| a line of somebody else
[    4.100002] Internal error: Oops: 0000000096000044 [#1] SMP
[    4.100003] CPU: 0 PID: 71 Comm: sh Not tainted 6.1.0-50-test #1
[    4.100004] Call trace:
[    4.100005]  sysrq_handle_crash+0x1c/0x24
[    4.100006] ---[ end trace 0000000000000000 ]---
[    4.200000] something else
"""


def judged(transcript: bytes) -> Judgement:
    """A boot that passed by all other evidence."""
    return judge(make_outcome(), make_machine(), make_bootable(), transcript)


def examples() -> Iterator[tuple[KernelMessage, str]]:
    return ((sign, example) for sign in load_messages() for example in sign.examples)


@pytest.mark.parametrize(("sign", "example"), list(examples()), ids=lambda one: one if isinstance(one, str) else "")
def test_each_sign_is_recognised_by_its_examples(sign: KernelMessage, example: str) -> None:
    begins = ["[   33.123456] ", "[   33.123456][   T1] ", "[   33.123456]  ", "[   33.123456]     "]
    begins += ["<4>[   33.123456][   C0] "]
    if sign.name != "test of the kernel":  # without a time, it may be of any program
        begins += ["<1>", "[    T1] ", "<4>[   C0] "]
    if sign.name == "firmware":
        begins = ["", "\r", "\x1b[2J\x1b[01;01H"]
    for begin in begins:
        (trouble,) = find_kernel_faults(f"[    1.000000] fine\r\n{begin}{example}\r\nfine\r\n".encode())
        assert (trouble.name, trouble.line, trouble.is_fatal) == (sign.name, 2, sign.severity == "fail")
        assert example[:100] in trouble.text
    said_by_a_container = f"ping| {example}".encode()
    assert find_kernel_faults(said_by_a_container) == ()


def test_headlines_of_public_reports_are_recognised() -> None:
    """Lines by which kernels from 4.4 to 7.x began reports of faults, most of them collected by syzkaller."""
    lines = (CORPUS / "headlines.tsv").read_text(encoding="utf-8").splitlines()
    headlines = [line.partition("\t")[::2] for line in lines]
    found = {text: find_kernel_faults(f"[   33.123456] {text}\r\n".encode()) for _, text in headlines}
    fatal = [text for severity, text in headlines if severity == "fail"]
    unseen = [text for text in fatal if not any(trouble.is_fatal for trouble in found[text])]
    assert (len(headlines), len(fatal)) >= (600, 450)
    assert len(unseen) <= 0.03 * len(fatal), unseen
    blamed = [text for severity, text in headlines if severity == "note" and any(one.is_fatal for one in found[text])]
    assert blamed == []
    assert not any(find_kernel_faults(f"app| {text}\r\n".encode()) for _, text in headlines if "|" not in text)


@pytest.mark.parametrize(
    "line",
    [
        "[    0.000000] Kernel Offset: disabled",
        "[    1.500000] INFO: NMI handler (nmi_cpu_backtrace_handler) took too long to run: 1.000 msecs",
        "[    1.500000] VFS: Mounted root (ext4 filesystem) readonly on device 8:1.",
        "[    1.500000] rcu: Hierarchical RCU implementation.",
        "[    1.500000] rcu: INFO: Stall ended before state dump start",
        "[    1.500000] NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
        "[    1.500000] mce: CPU supports 10 MCE banks",
        "[    1.500000] Machine check exception polling timer started.",
        "[    1.500000] Spectre V2 : Spectre v2 / SpectreRSB mitigation: Filling RSB on context switch",
        "[    1.500000] lockdep: debugging is on, to find deadlocks",
        "[    1.500000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15679)",
        "[    1.500000] ODEBUG: 0 of 0 active objects replaced",
        "[    1.500000] check: Scanning 2 areas for low memory corruption",
        "[    1.500000] EXT4-fs (vda): mounted filesystem with ordered data mode",
        "[    1.500000] ok 1 mine",
        "[    1.500000]     ok 2 - mine # SKIP no device",
        "[    1.500000] not ok 3 mine # SKIP no device",
        "[    1.500000] not okay",
        "not ok 1 printed by a program",
        "step [#1] of the build",
    ],
)
def test_a_line_of_a_sound_boot_is_no_sign(line: str) -> None:
    assert find_kernel_faults(f"{line}\r\n".encode()) == ()


@pytest.mark.parametrize(
    "line",
    [
        "Oops: we could not find that page",
        "Internal error: no rows in result set",
        "BUG: expected 3, got 4",
        "PANIC: the pool is empty",
        "WARNING: at line 3 of x.conf",
        "pool:12 blocked for more than 5 seconds, adding a worker",
        "list_add corruption is what the next test provokes",
    ],
)
def test_lines_of_programs_have_no_time(line: str) -> None:
    """In a guest with another init, programs print to the console without a prefix."""
    assert find_kernel_faults(f"{line}\r\n".encode()), "a kernel without times may print this"
    before = b"[    0.000000] Linux version 6.12.0-test (a@b) (gcc-14) #1 SMP\r\n"
    assert find_kernel_faults(before + f"{line}\r\n".encode()) == ()
    assert find_kernel_faults(before + f"text[    4.100000] {line}\r\n".encode())
    watch = FaultWatch()
    watch.feed(before + f"{line}\r\n".encode())
    assert watch.faults == []
    early = before + b"[    0.000000] Kernel command line: console=ttyS0 earlycon printk.time=0\r\n"
    assert find_kernel_faults(early + f"{line}\r\n".encode()), "an early console shows times until that takes effect"
    for unstamped in (b"cpu 0x0: Vector: 300 (Data Access) at [c1]", b"PANIC: early exception 0x0e IP 10:c1 error 0"):
        (fault,) = find_kernel_faults(before + unstamped + b"\r\n")
        assert fault.is_fatal


def test_a_program_that_reads_across_a_boundary_is_not_the_kernels_fault() -> None:
    """An ARM kernel prints the same line for a program, which gets SIGBUS, as for itself, where an oops follows."""
    fault = (
        b"[  541.916015] Unhandled fault: alignment exception (0x011) at 0x00508ae4\n[  541.922732] pgd = ec340000\n"
    )
    judgement = judged(fault)
    assert judgement.verdict is Verdict.PASS
    assert [(one.name, one.is_fatal) for one in judgement.kernel_faults] == [("unhandled fault", False)]
    assert judged(fault + b"[  541.952218] Internal error: : 11 [#1] SMP ARM\n").verdict is Verdict.FAIL


EARLY = b"""\
[    0.000000] radix-mmu: Page sizes from device-tree:
[    0.000000] Linux version 6.1.0-test (a@b) (gcc-12) #1 SMP
[    0.000000] printk: console [udbg0] enabled
[    0.000070] time_init: 56 bit decrementer (max: 7fffffffffffff)
[    0.001101] clocksource: timebase mult[1f40000] shift[24] registered
[    0.069916] Console: colour dummy device 80x25
"""
"""As by an early console, before that of the command line is registered."""


@pytest.mark.parametrize("lines", [b"[    0.076668] printk: console [hvc0] enabled\n", b""])
def test_a_log_that_a_second_console_repeats_is_no_second_boot(lines: bytes) -> None:
    """`udbg-immortal` on ppc64le, and `earlycon` on many boards: with the new console's line, or none yet."""
    shown = EARLY + lines + EARLY + b"[    0.076668] printk: console [hvc0] enabled\n[    0.093008] pid_max: 301\n"
    assert judged(shown).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "again",
    [
        EARLY.replace(b"0.069916", b"0.069917") + b"[    0.076668] printk: console [hvc0] enabled\n",
        EARLY + b"[    0.093008] pid_max: default: 32768 minimum: 301\n",
        EARLY.partition(b"[    0.069916]")[0] + b"[    0.093008] printk: console [hvc0] enabled\n",
    ],
    ids=["other times", "no console", "not to where it was"],
)
def test_a_second_boot_that_looks_like_the_first_is_a_reboot(again: bytes) -> None:
    assert judged(EARLY + again).reason == "the guest rebooted: its kernel started 2 times"


def test_a_test_within_a_test_of_the_kernel_counts() -> None:
    text = b"[    1.500000] KTAP version 1\n[    1.500001]     not ok 1 mine_breaks\n[    1.500002] not ok 1 mine\n"
    assert [one.text for one in find_kernel_faults(text)] == ["not ok 1 mine_breaks", "not ok 1 mine"]
    for name in ("not ok 1 - mine # SKIPPER sinks", "not ok 1 C# TODO"):
        assert find_kernel_faults(f"[    1.500000] {name}\n".encode())
    assert judged(text).verdict is Verdict.FAIL


@pytest.mark.parametrize("sign", load_messages(), ids=lambda sign: sign.name)
def test_each_sign_says_what_to_do(sign: KernelMessage) -> None:
    assert sign.severity in {"fail", "note"}
    assert sign.examples
    assert sign.source
    assert sign.advice or sign.name in {"kernel panic", "kernel warning", "undefined behaviour"}
    assert re.compile(sign.pattern, re.VERBOSE).groups == 0, "groups of a pattern would hide which sign it was"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("clean-*.log")), ids=lambda path: path.stem)
def test_a_sound_boot_has_no_sign(path: object) -> None:
    assert find_kernel_faults((CORPUS / str(path)).read_bytes()) == ()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("panic-*.log")), ids=lambda path: path.stem)
def test_the_trace_of_a_real_panic_is_cut_out(path: object) -> None:
    (trouble,) = (one for one in find_kernel_faults((CORPUS / str(path)).read_bytes()) if one.is_fatal)
    assert trouble.name == "kernel panic"
    assert 5 < len(trouble.trace) <= MAX_TRACE_LINES
    assert any(word in " ".join(trouble.trace) for word in ("Call Trace", "Call trace", "backtrace"))
    assert all(line.startswith("[") for line in trouble.trace)


def test_an_oops_is_told_once_with_its_trace_and_without_what_lies_between() -> None:
    (trouble,) = find_kernel_faults(OOPS)
    assert (trouble.name, trouble.line) == ("kernel oops", 1)
    assert len(trouble.trace) == 7
    assert trouble.trace[-1].endswith("---[ end trace 0000000000000000 ]---")
    assert not any("somebody else" in line for line in trouble.trace)


def test_a_cell_with_an_oops_is_no_pass_though_all_else_went_well() -> None:
    judgement = judged(OOPS)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith("the kernel reported a fault: Unable to handle kernel NULL pointer")
    assert judgement.evidence[0].line == 1
    assert judgement.advice
    assert judgement.kernel_faults[0].trace


def test_a_warning_is_only_noted() -> None:
    text = b"[    1.000000] fine\n[    2.000000] WARNING: CPU: 0 PID: 1 at kernel/cpu.c:12 cpu_up+0x1/0x2\n"
    judgement = judged(text)
    assert judgement.verdict is Verdict.PASS
    assert [(one.name, one.is_fatal) for one in judgement.kernel_faults] == [("kernel warning", False)]
    assert any(one.line == 2 and "kernel warning" in one.text for one in judgement.evidence)


def test_a_fault_in_a_warnings_trace_is_not_hidden_by_it() -> None:
    text = b"[    2.000000] WARNING: CPU: 0 PID: 1 at kernel/cpu.c:12 x\n[    2.000100] BUG: scheduling while atomic\n"
    assert judged(text).verdict is Verdict.FAIL


def test_a_trace_ends_where_the_kernel_is_silent_for_long() -> None:
    text = b"[    2.000000] BUG: one\n[    2.000001] two\n[    9.000000] three\n[    9.100000] BUG: four\n"
    assert [len(one.trace) for one in find_kernel_faults(text)] == [2, 1]


def test_what_repeats_itself_is_told_a_few_times() -> None:
    text = b"".join(b"[%5d.000000] BUG: %d\n[%5d.000001] x\n" % (n * 10, n, n * 10) for n in range(500))
    assert len(find_kernel_faults(text)) == MAX_OF_A_KIND


def test_a_console_made_to_be_slow_to_read_is_not() -> None:
    flood = (
        b"[    1.000000] BUG: x\n"
        + b"[ " * 1_000_000
        + b"\n"
        + b"x" * 4_000_000
        + b"\n"
        + b"E1" * 500_000
        + b"\n" * 500_000
    )
    began = time.process_time()
    (trouble,) = find_kernel_faults(flood)
    assert time.process_time() - began < 10
    assert len(trouble.trace) <= MAX_TRACE_LINES
    assert len(trouble.model_dump_json()) < 100_000


def test_a_guest_that_starts_twice_is_in_a_reboot_loop() -> None:
    boot = b"[    0.000000] Linux version 6.1.0 (x) #1\r\n[    1.000000] fine\r\n"
    assert judged(boot).verdict is Verdict.PASS
    judgement = judged(boot * 3)
    assert (judgement.verdict, judgement.reason) == (Verdict.FAIL, "the guest rebooted: its kernel started 3 times")
    assert [one.line for one in judgement.evidence[:3]] == [1, 3, 5]
    reset = QmpEvent(name="RESET", data={"guest": True, "reason": "guest-reset"}, at_s=1)
    events = (*make_outcome().events, reset, reset)
    twice = judge(make_outcome(events=events), make_machine(), make_bootable(), b"")
    assert (twice.verdict, "rebooted" in twice.reason) == (Verdict.FAIL, True)


def test_firmware_that_fails_says_what_to_do() -> None:
    outcome = make_outcome(messages=(), ended_by="host", limit="silence", limit_phase="boot")
    judgement = judge(outcome, make_machine(), make_bootable(), b"SeaBIOS\r\nNo bootable device.\r\n")
    assert judgement.verdict is Verdict.HANG
    assert [(one.name, one.line) for one in judgement.kernel_faults] == [("firmware", 2)]
    assert any("No bootable device." in one.text and one.line == 2 for one in judgement.evidence)


@pytest.mark.parametrize(
    ("line", "starved_s", "verdict"),
    [
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]", 0.0, Verdict.FAIL),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]", 30.0, Verdict.INFRA_ERROR),
        ("rcu: INFO: rcu_sched self-detected stall on CPU", 30.0, Verdict.INFRA_ERROR),
        ("kernel BUG at mm/slub.c:379!", 30.0, Verdict.FAIL),
        ("Kernel panic - not syncing: x", 30.0, Verdict.PANIC),
    ],
)
def test_a_stall_on_a_host_without_a_core_is_the_hosts(line: str, starved_s: float, verdict: Verdict) -> None:
    outcome = make_outcome(starved_s=starved_s)
    text = f"[   33.123456] {line}\n".encode()
    assert judge(outcome, make_machine(), make_bootable(), text).verdict is verdict
