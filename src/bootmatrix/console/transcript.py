"""What the console says. It can be forged by whatever runs in the guest, so it never makes a pass, only unmakes one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container, Iterator, Sequence

from bootmatrix.console.kernel_messages import PANIC as PANIC_SIGN
from bootmatrix.console.kernel_messages import STAMP, is_stall
from bootmatrix.model import Evidence, KernelFault, Outcome, Verdict
from bootmatrix.model.finding import Finding, piece

PANIC = re.compile(rb"(?:^|%s)Kernel panic - not syncing:? ?([^\r\n]*)" % STAMP, re.MULTILINE)
PANIC_WORDS = b"Kernel panic - not syncing"

BANNER_WORDS = b"Linux version [0-9]"
BANNER = re.compile(rb"(?:^\r?|%s)%s[^\r\n]*" % (STAMP, BANNER_WORDS), re.MULTILINE)
SIGNED = re.compile(rb"^bootmatrix [0-9]+ [0-9a-f]{16} ")

NO_ROOM = "Initramfs unpacking failed: write error"
"""As the kernel says it (init/initramfs.c). Its other words for a failure are of an initrd that is not whole."""
PANIC_LINES = 20
LAST_LINES = 8
SHOWN_TRACE_LINES = 5
STARVED_S = 10.0
"""Kernels begin to speak of stalls after some 20 s, by a clock that goes on while the host lets them wait."""

ADVICE = {
    b"Attempted to kill init": "The guest's init ended. What it said before is above the panic on the console.",
    b"VFS: Unable to mount root": "The kernel found no initrd that it can read, or no init in it.",
    b"No working init found": "The initrd has no init that this architecture can run.",
    b"Out of memory": "Give the machine more memory: memory_mib in its profile.",
    b"System is deadlocked on memory": "Give the machine more memory: memory_mib in its profile.",
}


def cut_off(troubles: Sequence[KernelFault], outcome: Outcome) -> Iterator[Finding]:
    """A complaint for an initrd that its machine has no room for, in a guest that came to nothing without the rest."""
    for trouble in troubles:
        if trouble.text == NO_ROOM and not outcome.messages:
            reason = f"the initrd does not fit into the memory of the machine: {trouble.text}"
            advice = "Give the machine more, by memory_mib in its profile, or put less into the spec's images."
            yield Finding(Verdict.BUILD_ERROR, reason, (piece("console", trouble.text, trouble.line),), advice)
            return


def panics(transcript: bytes) -> Iterator[Finding]:
    """A complaint for a kernel's panic, or for what only looks like one."""
    place = transcript.find(PANIC_WORDS)
    if place < 0:  # which takes far less time to see than where a line begins
        return
    found = PANIC.search(transcript)
    if found:
        why = _text(found[1]) or "without a reason"
        advice = next((words for mark, words in ADVICE.items() if mark in found[1]), "")
        evidence = tuple(_excerpt(transcript, found.start(), PANIC_LINES))
        yield Finding(Verdict.PANIC, f"kernel panic: {why}", evidence, advice)
        return
    yield Finding(
        Verdict.FAIL,
        "the console has the words of a kernel panic, though not in the way in which the kernel prints them",
        tuple(_excerpt(transcript, place, 1)),
        "If something in the guest prints this text, have it print another: no panic may go unnoticed.",
    )


def faults(troubles: Sequence[KernelFault], starved_s: float) -> Iterator[Finding]:
    """A complaint for each of the kernel's own faults that it survived. Panics have one of their own.

    A stall in a guest for which the host had no core is the host's.
    """
    for trouble in troubles:
        if trouble.is_fatal and starved_s >= STARVED_S and is_stall(trouble.name):
            reason = f"the host had no core for the guest for {starved_s:.0f} s, so that its kernel saw a stall"
            advice = "Run fewer guests at once (--jobs), or on a host with less to do."
            yield Finding(Verdict.INFRA_ERROR, reason, tuple(_lines_of(trouble)), advice)
        elif trouble.is_fatal and (trouble.name != PANIC_SIGN or trouble.line is None):
            text = f"the kernel reported a fault: {trouble.text}"
            yield Finding(Verdict.FAIL, text, tuple(_lines_of(trouble)), trouble.advice)


def noted(troubles: Sequence[KernelFault], complained: Container[int | None]) -> Iterator[Evidence]:
    """What else the console tells of, in lines that no complaint shows."""
    for trouble in troubles:
        if trouble.line not in complained:
            yield piece(_source(trouble), f"{trouble.name}: {trouble.text}", trouble.line)


def find_banners(transcript: bytes) -> Iterator[Evidence]:
    """The first line of each kernel that started."""
    for start, stop in lines_with(transcript, b"Linux version "):
        for found in BANNER.finditer(transcript, start, stop):
            yield piece("console", _text(found[0]), _line_number(transcript, found.start()))


def lines_with(text: bytes, word: bytes) -> Iterator[tuple[int, int]]:
    """Where lines with a word in them begin and end: far quicker than a regular expression, where there are few."""
    at = text.find(word)
    while at >= 0:
        start, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
        stop = len(text) if end < 0 else end
        yield start, stop
        at = text.find(word, stop)


def _lines_of(trouble: KernelFault) -> Iterator[Evidence]:
    """The beginning of a trouble's trace; only the first line's number is known, as others' output may lie between."""
    source = _source(trouble)
    yield piece(source, trouble.text, trouble.line)
    yield from (piece(source, line) for line in trouble.trace[1:SHOWN_TRACE_LINES])


def _source(trouble: KernelFault) -> str:
    """The console, or the kernel's log where the console does not show a trouble."""
    return "kernel" if trouble.line is None else "console"


def last_lines(transcript: bytes) -> tuple[Evidence, ...]:
    """What the console showed last."""
    lines: deque[tuple[int, bytes]] = deque(maxlen=LAST_LINES)
    end = len(transcript)
    number = transcript.count(b"\n") + 1
    while end >= 0 and len(lines) < LAST_LINES:
        start = transcript.rfind(b"\n", 0, end) + 1
        line = transcript[start:end]
        if line.strip() and not SIGNED.match(line):
            lines.appendleft((number, line))
        number -= 1
        end = start - 1
    return tuple(piece("console", _text(line), number) for number, line in lines)


def said_by(transcript: bytes, container: str) -> tuple[Evidence, ...]:
    """The last lines of a container's output: init puts its name before each.

    Not empty ones, nor those whose name alone was printed when the kernel wrote a line.
    """
    name = re.escape(container.encode("ascii", "replace"))
    mine = re.compile(rb"^%s\| (?!%s)[^\n]*\S" % (name, STAMP), re.MULTILINE)
    found = deque(mine.finditer(transcript), maxlen=LAST_LINES)
    return tuple(piece("console", _text(one[0]), _line_number(transcript, one.start())) for one in found)


def failed_first(transcript: bytes, container: str) -> Evidence | None:
    """The first line in which a container says, in TAP, that something failed."""
    name = re.escape(container.encode("ascii", "replace"))
    found = re.search(rb"^%s\| not ok\b[^\n#]*$" % name, transcript, re.MULTILINE)
    return piece("console", _text(found[0]), _line_number(transcript, found.start())) if found else None


def _excerpt(transcript: bytes, position: int, lines: int) -> Iterator[Evidence]:
    start = transcript.rfind(b"\n", 0, position) + 1 if transcript[position : position + 1] != b"\n" else position + 1
    number = _line_number(transcript, start)
    for offset in range(lines):
        end = transcript.find(b"\n", start)
        line = transcript[start : end if end >= 0 else None]
        if line.strip():
            yield piece("console", _text(line), number + offset)
        if end < 0:
            return
        start = end + 1


def _line_number(transcript: bytes, position: int) -> int:
    return transcript.count(b"\n", 0, position) + 1


def _text(line: bytes) -> str:
    return line[:4096].decode("utf-8", "replace").strip()
