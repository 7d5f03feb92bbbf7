"""What the console says. It can be forged by whatever runs in the guest, so it never makes a pass, only unmakes one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from bootmatrix.judge.complaint import Complaint, piece
from bootmatrix.model import Evidence, Verdict

STAMP = rb"\[ *[0-9]+\.[0-9]{6}\](?:\[[^\]\n]{1,24}\])? "
"""How the kernel begins a line."""

PANIC = re.compile(rb"(?:^|%s)Kernel panic - not syncing:? ?([^\r\n]*)" % STAMP, re.MULTILINE)
LOOKS_LIKE_PANIC = re.compile(rb"Kernel panic - not syncing")

TROUBLE = re.compile(
    rb"(?:^|%s)(?:"
    rb"[^\r\n]{0,80}\bOops\b[^\r\n]{0,80}\[#[0-9]+\]|Internal error: |"
    rb"kernel BUG at |Kernel BUG at |(?:watchdog: )?BUG: |"
    rb"Unable to handle kernel |general protection fault|stack segment: |"
    rb"INFO: task \S+ blocked for more than|"
    rb"rcu: INFO: \S+ (?:self-)?detected (?:expedited )?stall"
    rb")[^\r\n]*" % STAMP,
    re.MULTILINE,
)
"""The kernel's words for a fault of its own which it survived; a sound boot has none of them."""

MEMORY = re.compile(rb"(?:^|%s)Out of memory: Killed process [^\r\n]*" % STAMP, re.MULTILINE)
SIGNED = re.compile(rb"^bootmatrix [0-9]+ [0-9a-f]{16} ")

PANIC_LINES = 20
LAST_LINES = 8
MAX_TROUBLES = 5

ADVICE = {
    b"Attempted to kill init": "The guest's init ended. What it said before is above the panic on the console.",
    b"VFS: Unable to mount root": "The kernel found no initrd that it can read, or no init in it.",
    b"No working init found": "The initrd has no init that this architecture can run.",
    b"Out of memory": "Give the machine more memory: memory_mib in its profile.",
    b"System is deadlocked on memory": "Give the machine more memory: memory_mib in its profile.",
}


def panics(transcript: bytes) -> Iterator[Complaint]:
    """A complaint for a kernel's panic, or for what only looks like one."""
    found = PANIC.search(transcript)
    if found:
        why = _text(found[1]) or "without a reason"
        advice = next((words for mark, words in ADVICE.items() if mark in found[1]), "")
        evidence = tuple(_excerpt(transcript, found.start(), PANIC_LINES))
        yield Complaint(Verdict.PANIC, f"kernel panic: {why}", evidence, advice)
        return
    found = LOOKS_LIKE_PANIC.search(transcript)
    if found:
        yield Complaint(
            Verdict.FAIL,
            "the console has the words of a kernel panic, though not in the way in which the kernel prints them",
            tuple(_excerpt(transcript, found.start(), 1)),
            "If something in the guest prints this text, have it print another: no panic may go unnoticed.",
        )


def troubles(transcript: bytes) -> Iterator[Complaint]:
    """A complaint for each of the first faults of its own that the kernel told of."""
    for number, found in enumerate(TROUBLE.finditer(transcript)):
        if number == MAX_TROUBLES:
            return
        words = re.sub(rb"^%s" % STAMP, b"", found[0])
        yield Complaint(
            Verdict.FAIL,
            f"the kernel reported a fault: {_text(words)}",
            tuple(_excerpt(transcript, found.start(), 3)),
            "See the console around this line. On a very busy host a stall can be the host's: run the cell alone.",
        )


def memory(transcript: bytes) -> tuple[Evidence, ...]:
    """Where the kernel ran out of memory: no complaint, since it may be meant, but the cause of many."""
    found = MEMORY.search(transcript)
    return tuple(_excerpt(transcript, found.start(), 1)) if found else ()


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
    """The last lines of a container's output: init puts its name before each."""
    mine = re.compile(rb"^%s\| [^\n]*" % re.escape(container.encode("ascii", "replace")), re.MULTILINE)
    found = deque(mine.finditer(transcript), maxlen=LAST_LINES)
    return tuple(piece("console", _text(one[0]), _line_number(transcript, one.start())) for one in found)


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
