"""What the console gives away, on transcripts of real boots and on made ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.console.log import PanicWatch
from bootmatrix.console.transcript import container_lines, last_lines
from bootmatrix.judge import judge
from bootmatrix.model import Judgement, Verdict
from guests import CORPUS, make_bootable, make_machine, make_outcome

PANICS = sorted(CORPUS.glob("panic-*.log"))
CLEAN = sorted(CORPUS.glob("clean-*.log"))


def judged(transcript: bytes, **outcome: object) -> Judgement:
    """A boot that passed by all other evidence, but for what is given."""
    return judge(make_outcome(**outcome), make_machine(), make_bootable(), transcript)


def test_there_is_a_corpus() -> None:
    assert len(PANICS) == 4
    assert len(CLEAN) == 2


@pytest.mark.parametrize("path", PANICS, ids=lambda path: path.stem)
def test_a_real_panic_is_one(path: Path) -> None:
    judgement = judged(path.read_bytes())
    assert judgement.verdict is Verdict.PANIC
    assert judgement.reason == "kernel panic: Attempted to kill init! exitcode=0x00000300"
    assert judgement.advice
    first = judgement.evidence[0]
    assert first.line is not None
    assert "Kernel panic" in path.read_bytes().split(b"\n")[first.line - 1].decode()
    assert "Kernel panic" in first.text


def test_an_initrd_without_room_is_no_fault_of_the_guest() -> None:
    """As on a board with less memory than its initrd takes: init is cut off, ends, and the kernel panics."""
    cut = b"[   14.064340] Initramfs unpacking failed: write error\r\n"
    panicked = b"[   15.368793] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200\r\n"
    judgement = judged(cut + panicked, messages=())
    assert judgement.verdict is Verdict.BUILD_ERROR
    assert judgement.reason.startswith("the initrd does not fit into the memory of the machine")
    assert "--memory" in judgement.advice
    assert judged(panicked, messages=()).verdict is Verdict.PANIC
    assert judged(cut).verdict is Verdict.PASS, "what was cut off was not needed, and init has said that all is well"


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
def test_a_real_boot_without_a_fault_has_none(path: Path) -> None:
    assert judged(path.read_bytes()).verdict is Verdict.PASS


@pytest.mark.parametrize("path", [*PANICS, *CLEAN], ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_panic_is_noticed_while_it_happens(path: Path, size: int) -> None:
    watch = PanicWatch()
    data = path.read_bytes()
    for start in range(0, len(data), size):
        watch.feed(data[start : start + size])
    assert watch.seen is (path in PANICS)


@pytest.mark.parametrize(
    "text",
    [
        b"[    1.0] ping| Kernel panic - not syncing: forged",
        b"\x1b[31mKernel panic - not syncing",
    ],
)
def test_what_only_looks_like_a_panic_is_none_and_no_pass_either(text: bytes) -> None:
    judgement = judged(b"before\r\n" + text + b"\r\nafter")
    assert judgement.verdict is Verdict.FAIL
    assert "words of a kernel panic" in judgement.reason
    watch = PanicWatch()
    for start in range(len(text)):
        watch.feed(text[start : start + 1])
    watch.feed(b" " * 500)
    assert not watch.seen


@pytest.mark.parametrize(
    "text",
    [
        b"[   12.345678] Kernel panic - not syncing: Fatal exception",
        b"[   12.345678][   T1] Kernel panic - not syncing: Fatal exception",
        b"Kernel panic - not syncing: Fatal exception",
    ],
)
def test_a_panic_is_known_by_how_the_kernel_writes(text: bytes) -> None:
    assert judged(b"before\r\n" + text + b"\r\nafter").reason == "kernel panic: Fatal exception"
    watch = PanicWatch()
    watch.feed(b"before\r\n" + text)
    assert watch.seen


@pytest.mark.parametrize(
    "line",
    [
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "BUG: unable to handle page fault for address: ffffffffc0000000",
        "Oops: 0002 [#1] PREEMPT SMP NOPTI",
        "Internal error: Oops: 0000000096000004 [#1] SMP",
        "Oops: Kernel access of bad area, sig: 11 [#1]",
        "Internal error: Oops: 17 [#1] SMP ARM",
        "Unable to handle kernel NULL pointer dereference at virtual address 00000008",
        "kernel BUG at mm/slub.c:379!",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "rcu: INFO: rcu_sched self-detected stall on CPU",
        "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-... } 5 jiffies s: 9 root: 0x1/.",
        "INFO: task sh:1 blocked for more than 120 seconds.",
        "general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP",
    ],
)
def test_a_fault_that_the_kernel_survived_is_no_pass(line: str) -> None:
    judgement = judged(f"[    1.000000] fine\r\n[   33.123456] {line}\r\n[   34.0] fine\r\n".encode())
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith(f"the kernel reported a fault: {line}"[:100])
    assert judgement.evidence[0].line == 2


@pytest.mark.parametrize(
    "line",
    [
        "ping| BUG: this is an application's own word",
        "[    0.000000] Kernel command line: oops=panic",
        "[    1.000000] traps: app[12] general protection fault ip:7f sp:7f error:0 in libc",
        "[    1.000000] Debug: BUG",
    ],
)
def test_other_words_are_no_fault(line: str) -> None:
    assert judged(line.encode()).verdict is Verdict.PASS


def test_the_last_lines_have_their_numbers() -> None:
    text = b"".join(b"line %d\r\n" % number for number in range(1, 21)) + b"\r\nbootmatrix 3 0123456789abcdef ready x\n"
    assert [(one.line, one.text) for one in last_lines(text)] == [(n, f"line {n}") for n in range(13, 21)]
    assert last_lines(b"") == ()
    assert [one.text for one in last_lines(b"no line end")] == ["no line end"]


def test_only_a_containers_own_lines_are_shown_for_it() -> None:
    text = b"a| one\r\nab| two\r\nx a| three\r\na| four"
    assert [(one.line, one.text) for one in container_lines(text, "a")] == [(1, "a| one"), (4, "a| four")]
    assert [one.text for one in container_lines(b"a.b| x\naxb| y\n", "a.b")] == ["a.b| x"]


def test_control_characters_are_left_to_the_report() -> None:
    assert container_lines(b"a| \x1b[31mred\xff\n", "a")[0].text == "a| \x1b[31mred\ufffd"
