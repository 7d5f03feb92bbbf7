"""The kernel's own account: taints and log, beside the console, which can be silenced and on which containers quote."""

from __future__ import annotations

import re
import time

import pytest

from bootmatrix.console.kernel_log import load_taints
from bootmatrix.console.kernel_messages import WARNINGS, load_messages
from bootmatrix.console.log import PanicWatch
from bootmatrix.judge import judge
from bootmatrix.model import Bootable, Judgement, Verdict
from fake_qemu import KERNEL, MARK, TEXTS
from guests import make_bootable, make_machine, make_messages, make_outcome

READ = f"[    9.000000] bootmatrix: the kernel's log is read up to here: {MARK}\r\n".encode()
FORGED = (
    "[    1.234567] Linux version 6.1 detected, enabling io_uring",
    "[    1.234567] Kernel panic - not syncing: Fatal exception",
    "[    1.234567] BUG: kernel NULL pointer dereference, address: 0000000000000008",
    'ok 1 - parses "Kernel panic - not syncing" in a log',
    "a progress bar\r[    1.234567] Oops: 0000 [#1] SMP",
    "\x1b[31m[    1.234567] kernel BUG at mm/slub.c:379!",
    "not ok 1 - the container's own, and it ended with 0",
)


def record(text: str, level: int = 3, at_s: float = 5.0) -> str:
    """A record of the kernel's log, as init sends it."""
    return f"{level},123,{at_s * 1e6:.0f},-;{text}".replace(" ", "\\x20")


def judged(account: str = KERNEL, console: bytes = READ, **outcome: object) -> Judgement:
    """A boot that passed by all other evidence."""
    messages = make_messages((*TEXTS[:-1], account))
    return judge(make_outcome(messages=messages, **outcome), make_machine(), make_bootable(), console)


def account(*records: str, taint: int = 0, level: str = "7 7", counts: str = "0 0 0") -> str:
    return " ".join((f"kernel {taint} {level} {MARK} {counts}", *records))


def test_a_boot_with_an_account_without_fault_passes() -> None:
    judgement = judged()
    assert judgement.verdict is Verdict.PASS
    assert not any(one.source == "kernel" for one in judgement.evidence)


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS[:-1],
        (*TEXTS, KERNEL),
        (*TEXTS[:-2], KERNEL, TEXTS[-2]),
        (*TEXTS[:-1], "kernel"),
        (*TEXTS[:-1], f"kernel x 7 7 {MARK} 0 0 0"),
        (*TEXTS[:-1], f"kernel 0 7 7 {MARK} 0 0 many"),
        (*TEXTS[:-1], "kernel 0 7 7 .* 0 0 0"),
        (*TEXTS[:-1], f"kernel 0 7  {MARK} 0 0 0"),
    ],
)
def test_no_pass_without_exactly_one_account_of_the_kernel(texts: tuple[str, ...]) -> None:
    ends = make_messages((*texts, f"end pass {'a' * 64}"), end="")
    judgement = judge(make_outcome(messages=ends), make_machine(), make_bootable(), READ)
    assert judgement.verdict is Verdict.FAIL
    assert "account of the kernel" in judgement.reason


def test_an_init_of_protocol_1_passes_without_an_account_by_weaker_evidence() -> None:
    ends = make_messages((*TEXTS[:-1], f"end pass {'a' * 64}"), end="")
    older = make_bootable(protocol=1)
    judgement = judge(make_outcome(messages=ends), make_machine(), older, b"")
    assert (judgement.verdict, judgement.is_weak) == (Verdict.PASS, True)
    assert "init of protocol 1: no account of the kernel" in judgement.reason
    strong = judge(make_outcome(), make_machine(), older, READ)
    assert (strong.verdict, strong.is_weak) == (Verdict.PASS, False), "an account that it has counts"
    unreadable = make_messages((*TEXTS[:-1], "kernel", f"end pass {'a' * 64}"), end="")
    assert judge(make_outcome(messages=unreadable), make_machine(), older, b"").verdict is Verdict.FAIL


def test_records_without_a_protocol_are_of_protocol_1() -> None:
    fields = make_bootable().model_dump(exclude={"protocol"})
    assert Bootable.model_validate(fields).protocol == 1


@pytest.mark.parametrize("taint", load_taints(), ids=lambda taint: taint.letter)
def test_each_taint_fails_or_is_noted(taint: object) -> None:
    bit, letter, severity = (getattr(taint, name) for name in ("bit", "letter", "severity"))
    judgement = judged(account(taint=1 << bit))
    assert judgement.verdict is (Verdict.FAIL if severity == "fail" else Verdict.PASS)
    told = [judgement.reason, *(one.text for one in judgement.evidence)]
    assert any(f"tainted {letter}: " in text for text in told)


def test_taints_are_those_of_the_kernel() -> None:
    """Documentation/admin-guide/tainted-kernels.rst."""
    assert "".join(one.letter for one in load_taints()) == "PFSRMBUDAWCIOELKXTNJ"
    assert [one.bit for one in load_taints()] == list(range(20))
    assert {one.letter for one in load_taints() if one.severity == "fail"} == {"M", "B", "D", "L"}


def test_a_stall_that_only_the_taint_tells_of_is_the_hosts_if_it_had_no_core() -> None:
    soft_lockup = account(taint=1 << 14)
    assert judged(soft_lockup, starved_s=30.0).verdict is Verdict.INFRA_ERROR
    assert judged(soft_lockup).verdict is Verdict.FAIL
    lockup = b"[    5.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]\r\n"
    assert judged(soft_lockup, lockup + READ, starved_s=30.0).verdict is Verdict.INFRA_ERROR
    oops = account(taint=1 << 14 | 1 << 7)
    assert judged(oops, lockup + READ, starved_s=30.0).verdict is Verdict.FAIL, "no busy host causes an oops"
    assert judged(oops, starved_s=30.0).verdict is Verdict.FAIL


def test_a_taint_that_a_sign_explains_is_not_the_reason() -> None:
    oops = b"[    5.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008\r\n"
    assert "NULL pointer" in judged(account(taint=1 << 7), oops + READ).reason


@pytest.mark.parametrize("level", [0, 1, 4, 8, 9, 12], ids=lambda level: f"priority {level}")
@pytest.mark.parametrize("levels", ["7 7", "7 0", "1 1"])
def test_a_fault_that_the_console_does_not_show_is_no_pass(level: int, levels: str) -> None:
    """Priorities from 8 on are those of programs that write into the kernel's log: on a console they look alike."""
    fault = record("BUG: kernel NULL pointer dereference, address: 0000000000000008", level)
    judgement = judged(account(fault, level=levels), b"")
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith("the kernel reported a fault: BUG: kernel NULL pointer")
    assert (judgement.evidence[0].source, judgement.evidence[0].line) == ("kernel", None)


def test_a_panic_that_only_the_log_has_is_no_pass() -> None:
    assert judged(account(record("Kernel panic - not syncing: x", 8), level="0 0"), b"").verdict is Verdict.FAIL


def test_every_fatal_sign_is_found_in_the_log() -> None:
    for sign in load_messages():
        for example in sign.examples if sign.severity == "fail" else ():
            assert judged(account(record(example.replace("\\", "\\x5c")))).verdict is Verdict.FAIL, example


def test_a_record_of_several_lines_is_searched_as_such() -> None:
    assert judged(account(record("\\x0a=====\\x0aBUG: KASAN: x"))).verdict is Verdict.FAIL


def test_what_the_console_shows_is_not_told_twice() -> None:
    fault = "BUG: Bad page state in process sh  pfn:12345"
    judgement = judged(account(record(fault)), f"[    5.000000] {fault}\r\n".encode() + READ)
    assert [one.line for one in judgement.kernel_faults] == [1]


@pytest.mark.parametrize("levels", ["7 0", "4 4", "1 7"])
def test_a_quiet_console_is_noted_and_what_it_did_not_show(levels: str) -> None:
    judgement = judged(account(record("tsc: Unable to calibrate against PIT", 4), level=levels), b"")
    assert judgement.verdict is Verdict.PASS
    told = " ".join(one.text for one in judgement.evidence if one.source == "kernel")
    assert "console was quiet" in told
    assert "not on the console: [    5.000000] tsc: Unable" in told


@pytest.mark.parametrize("counts", ["0 12 0", "300 0 12", "- - -"])
def test_a_silenced_console_and_a_log_with_gaps_are_no_pass(counts: str) -> None:
    for levels in ("7 1", "4 4", "7 8"):
        judgement = judged(account(level=levels, counts=counts), READ)
        assert judgement.verdict is Verdict.FAIL
        assert "the console was silenced" in judgement.reason
    assert judged(account(level="7 15", counts=counts)).verdict is Verdict.PASS, "as a kernel that crashed does"
    elsewhere = judged(account(counts=counts), b"")
    is_read = not counts.startswith("-")
    assert (elsewhere.verdict is Verdict.FAIL) == is_read, "its mark would be there"
    assert ("does not show the kernel's messages" in elsewhere.reason) == is_read
    noted = judged(account(counts=counts))
    assert noted.verdict is Verdict.PASS, "the console has shown all"
    assert any("its log is incomplete" in one.text for one in noted.evidence)


@pytest.mark.parametrize("line", FORGED)
def test_what_a_container_prints_is_not_the_kernels(line: str) -> None:
    boot = b"[    0.000000] Linux version 6.1.0 (x) #1\r\n"
    printed = f"app.1| {line}\r\n".encode()
    assert judged(console=boot + printed + READ).verdict is Verdict.PASS
    silenced = account(level="7 4")
    assert judged(silenced, console=boot + printed).verdict is Verdict.PASS
    watch = PanicWatch()
    for start in range(len(printed)):
        watch.feed(printed[start : start + 1])
    assert not watch.seen


@pytest.mark.parametrize("line", [one for one in FORGED if re.search(r"\] (BUG|Kernel panic|Oops|kernel BUG)", one)])
def test_what_the_kernel_prints_into_a_containers_line_counts(line: str) -> None:
    printed = f"app| half a li{line}\r\n".encode()
    assert judged(console=READ + printed).verdict in {Verdict.FAIL, Verdict.PANIC}, "after the log was read"
    incomplete = account(counts="0 3 0")
    assert judged(incomplete, console=printed + READ).verdict in {Verdict.FAIL, Verdict.PANIC}
    assert judged(console=printed).verdict in {Verdict.FAIL, Verdict.PANIC}, "nothing says where the log was read"
    dead = judge(make_outcome(messages=make_messages(end="")[:3]), make_machine(), make_bootable(), printed)
    assert dead.verdict in {Verdict.FAIL, Verdict.PANIC}


@pytest.mark.parametrize("line", FORGED)
@pytest.mark.parametrize(
    "broken_by", [b"[    5.000000] eth0: link up\r\n[    5.100000] eth0: renamed\r\n", b"other| hello\r\n"]
)
def test_the_rest_of_a_line_that_was_broken_is_not_the_kernels(line: str, broken_by: bytes) -> None:
    rest = line.replace("[    1.234567] ", "").encode() + b"\r\n"
    assert judged(console=b"log| a long line " + broken_by + rest + READ).verdict is Verdict.PASS
    assert judged(console=b"log| a long line " + READ + b"log| more\r\n").verdict is Verdict.PASS


def test_the_rest_of_a_broken_line_hides_no_fault_of_the_log() -> None:
    oops = "BUG: kernel NULL pointer dereference, address: 0000000000000008"
    console = b"log| a long line [    5.000000] " + oops.encode() + b"\r\nand its end\r\n" + READ
    assert judged(account(record(oops)), console).verdict is Verdict.FAIL


def test_a_mark_within_a_containers_line_ends_what_is_known() -> None:
    console = b"log| BUG: kernel NULL pointer dereference\r\nlog| 50 % " + READ
    assert judged(console=console).verdict is Verdict.PASS
    assert judged(console=console + b"[    9.500000] Kernel panic - not syncing: x\r\n").verdict is Verdict.PANIC


def test_daemons_of_init_images_weaken_a_pass() -> None:
    brought = make_bootable(daemons=("init image other",))
    judgement = judge(make_outcome(), make_machine(), brought, READ)
    assert (judgement.verdict, judgement.is_weak) == (Verdict.PASS, True)
    assert "init image's daemons: weaker evidence: init image other" in judgement.reason


def test_messages_that_are_missing_in_both_places_weaken_a_pass() -> None:
    console = b"** 2499 printk messages dropped **\r\n" + READ
    judgement = judged(account(counts="0 3000 0"), console)
    assert (judgement.verdict, judgement.is_weak) == (Verdict.PASS, True)
    assert "missing on the console and in its log" in judgement.reason
    assert not judged(account(counts="0 3000 0")).is_weak
    assert not judged(account(), console).is_weak


@pytest.mark.parametrize("start", [b"", b"<6>", b"[    T1] "])
def test_a_kernel_without_times_ends_what_its_log_tells(start: bytes) -> None:
    read = start + READ.partition(b"] ")[2]
    quote = b"log| [  123.456789] Kernel panic - not syncing: quoted\r\n"
    assert judged(console=quote + read).verdict is Verdict.PASS
    assert judged(console=quote + read + b"Kernel panic - not syncing: true\r\n").verdict is Verdict.PANIC
    assert judged(console=quote + b"log| " + read).verdict is Verdict.PANIC, "a container's line ends nothing"


def test_a_mark_that_a_container_prints_ends_nothing() -> None:
    mark = b"app| " + READ
    printed = b"app| [    1.234567] BUG: kernel NULL pointer dereference, address: 0000000000000008\r\n"
    assert judged(console=mark + printed + READ).verdict is Verdict.PASS


def test_times_without_a_line_end_take_no_square_of_the_time() -> None:
    started = time.process_time()
    assert judged(console=b"[    1.000000] " * 40_000).verdict is Verdict.PASS
    assert time.process_time() - started < 5


def test_a_panic_in_a_line_of_the_kernels_own_is_noticed_behind_a_containers() -> None:
    watch = PanicWatch()
    watch.feed(b"app| a line\r\n[   12.345678] Kernel panic - not syncing: x")
    assert watch.seen


def test_a_line_that_was_cut_off_may_be_a_containers() -> None:
    cut = b"...x[    1.234567] BUG: kernel NULL pointer dereference\n"
    assert judged(console=cut + READ).verdict is Verdict.PASS
    assert judged(console=READ + cut).verdict is Verdict.FAIL


WARN = "WARNING: CPU: 0 PID: 1 at kernel/cpu.c:12 cpu_up+0x1/0x2"
UBSAN = "UBSAN: array-index-out-of-bounds in drivers/x.c:12:3"
KILLED = "Out of memory: Killed process 71 (influxd) total-vm:1kB, anon-rss:1kB"


def judged_strictly(kernel: str, console: bytes = READ) -> Judgement:
    messages = make_messages((*TEXTS[:-1], kernel))
    bootable = make_bootable().model_copy(update={"fail_on": WARNINGS})
    return judge(make_outcome(messages=messages), make_machine(), bootable, console)


@pytest.mark.parametrize(
    ("kernel", "console", "reason"),
    [
        (KERNEL, f"[    1.000000] {WARN}\r\n".encode() + READ, "kernel/cpu.c:12"),
        (account(record(UBSAN, 3)), READ, "array-index-out-of-bounds"),
        (account(taint=1 << 9), READ, "tainted W"),
    ],
    ids=("on the console", "in the log alone", "by the taint alone"),
)
def test_warnings_fail_where_it_is_asked_for(kernel: str, console: bytes, reason: str) -> None:
    judgement = judged_strictly(kernel, console)
    assert judgement.verdict is Verdict.FAIL
    assert reason in judgement.reason
    assert judged(kernel, console).verdict is Verdict.PASS


def test_other_notes_stay_notes_beside_strict_warnings() -> None:
    assert judged_strictly(account(record(KILLED))).verdict is Verdict.PASS
    assert judged_strictly(KERNEL).verdict is Verdict.PASS


CRASH = "app[12]: segfault at 8 ip 00007f0000000000 sp 00007ffc00000000 error 4 in app[400000+1000]"


@pytest.mark.parametrize(
    "line", [UBSAN, CRASH, "Out of memory: Killed process 71 (influxd) total-vm:1kB, anon-rss:1kB"]
)
def test_the_trace_of_a_note_hides_no_message_that_is_to_fail(line: str) -> None:
    names = {"undefined behaviour", "crash of a program", "out of memory"}
    before = b"[    1.000000] a: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)\r\n"
    console = before + b"[    1.100000] CPU: 0 PID: 71 Comm: sh\r\n[    1.200000] " + line.encode() + b"\r\n"
    bootable = make_bootable(fail_on=tuple(names))
    judgement = judge(make_outcome(), make_machine(), bootable, console)
    assert judgement.verdict is Verdict.FAIL and line[:20] in judgement.reason


def test_a_message_of_level_info_counts_where_the_log_cannot_have_it() -> None:
    torn = b"app| compiling [    1.500000] " + CRASH.encode() + b"\r\n" + READ
    quoted = b"app| compiling [    1.500000] " + WARN.encode() + b"\r\n" + READ
    strict = make_bootable(fail_on=("crash of a program", "kernel warning"))

    def verdict(console: bytes, kernel: str = KERNEL, bootable: Bootable = strict) -> Judgement:
        return judge(make_outcome(messages=make_messages((*TEXTS[:-1], kernel))), make_machine(), bootable, console)

    assert verdict(torn).verdict is Verdict.FAIL
    assert verdict(torn, bootable=make_bootable()).verdict is Verdict.PASS
    assert verdict(quoted).verdict is Verdict.PASS, "the log has all warnings"
    assert not verdict(READ).is_weak
    quiet = verdict(READ, account(level="4 4"))
    assert quiet.verdict is Verdict.PASS and quiet.is_weak and "'crash of a program'" in quiet.reason
    assert not verdict(READ, account(level="4 4"), make_bootable()).is_weak
