"""Findings and evidence from the console.

Programs of the guest can forge it: it can only rule out a pass.
"""

import re
from collections import deque
from collections.abc import Container, Iterator, Sequence
from typing import Literal

from bootmatrix.console.hang import blocked_in
from bootmatrix.console.kernel_messages import BEGINNING, STAMP, locate, stall_of
from bootmatrix.console.kernel_messages import PANIC as PANIC_SIGN
from bootmatrix.console.log_replay import is_replay
from bootmatrix.console.stalls import Starvation, may_be_starved
from bootmatrix.model import Evidence, KernelFault, Outcome, Verdict
from bootmatrix.model.verdict import Finding, piece

PANIC = re.compile(rb"%sKernel panic - not syncing:? ?([^\r\n]*)" % BEGINNING, re.MULTILINE)
PANIC_WORDS = b"Kernel panic - not syncing"

BANNER_WORDS = b"Linux version [0-9]"
BANNER = re.compile(rb"(?:^\r?|%s)%s[^\r\n]*" % (STAMP, BANNER_WORDS), re.MULTILINE)
MAX_REPLAYS = 4
"""Banners after the first that may be repetitions: one for each further console."""
SIGNED = re.compile(rb"^bootmatrix [0-9]+ [0-9a-f]{16} ")

NO_ROOM = "Initramfs unpacking failed: write error"
"""Message of init/initramfs.c. The other failures there are of an incomplete initrd."""
BUSY_ADVICE = "Run fewer guests at once (--jobs), or on a host with less to do."
PANIC_LINES = 20
LAST_LINES = 8
SHOWN_TRACE_LINES = 5
ADVICE = {
    b"Attempted to kill init": "The guest's init ended. Its last output is above the panic on the console.",
    b"VFS: Unable to mount root": "The kernel found no readable initrd, or no init in it.",
    b"No working init found": "The initrd has no init that this architecture can run.",
    b"Out of memory": "Give the guest more memory: --memory, or 'resources' in the matrix.",
    b"System is deadlocked on memory": "Give the guest more memory: --memory, or 'resources' in the matrix.",
}


def check_initrd(faults: Sequence[KernelFault], outcome: Outcome) -> Iterator[Finding]:
    """Yield a finding if the initrd did not fit and init reported nothing."""
    for fault in faults:
        if fault.text == NO_ROOM and not outcome.messages:
            reason = f"the initrd does not fit into the memory of the machine: {fault.text}"
            advice = "Give the guest more (--memory, or 'resources' in the matrix), or make the spec's images smaller."
            yield Finding(Verdict.BUILD_ERROR, reason, (piece("console", fault.text, fault.line),), advice)
            return


def find_panics(transcript: bytes, faults: Sequence[KernelFault] = ()) -> Iterator[Finding]:
    """Yield a finding for a kernel panic, or for its words in another form.

    The reason begins with the first fatal one of `faults` that came before.
    """
    place = transcript.find(PANIC_WORDS)
    if place < 0:  # far faster than the pattern below
        return
    match = PANIC.search(transcript)
    if match:
        why = _text(match[1]) or "no reason given"
        advice = next((words for mark, words in ADVICE.items() if mark in match[1]), "")
        evidence = tuple(_excerpt(transcript, match.start(), PANIC_LINES))
        cause = _first_fault(faults, evidence[0].line if evidence else None)
        if cause:
            reason = f"{describe(cause)}; then a kernel panic: {why}"
            yield Finding(Verdict.PANIC, reason, (*_lines_of(cause), *evidence), cause.advice or advice)
        else:
            yield Finding(Verdict.PANIC, f"kernel panic: {why}", evidence, advice)
        return
    yield Finding(
        Verdict.FAIL,
        "the console shows the words of a kernel panic, but not as the kernel prints them",
        tuple(_excerpt(transcript, place, 1)),
        "If a program of the guest prints this text, change it: no panic may go unnoticed.",
    )


def check_faults(faults: Sequence[KernelFault], starvation: Starvation) -> Iterator[Finding]:
    """Yield a finding for each fatal message but panics (find_panics).

    A stall is the host's fault if that may have caused it, and no other fault is the guest's.
    """
    fatal = [fault for fault in faults if fault.is_fatal]
    certain = [fault for fault in fatal if not may_be_starved(fault, starvation)]
    for fault in certain:
        if fault.name != PANIC_SIGN or fault.line is None:
            text = f"the kernel reported a fault: {describe(fault)}"
            cause: Literal["kernel", "stall"] = "stall" if stall_of(fault.name) else "kernel"
            yield Finding(Verdict.FAIL, text, tuple(_lines_of(fault)), fault.advice, cause=cause)
    for fault in () if certain else fatal:
        why = f"the host had no core for the guest for {starvation.during(fault):.0f} s"
        yield Finding(Verdict.INFRA_ERROR, f"{why}: its kernel reported a stall", tuple(_lines_of(fault)), BUSY_ADVICE)


def describe(fault: KernelFault) -> str:
    """Return a fault's message with its function, if the trace tells."""
    if waits := blocked_in(fault.trace):
        return f"{fault.text.removesuffix('.')}, in {waits}"
    where = locate(fault.trace)
    place, _, line = where.removesuffix(")").partition(" (")
    if not where or place in fault.text:
        return fault.text
    return f"{fault.text.removesuffix('!')}, at {place if line and line in fault.text else where}"


def _first_fault(faults: Sequence[KernelFault], line: int | None) -> KernelFault | None:
    """Return the first fatal fault on the console before a line."""
    fatal = (fault for fault in faults if fault.is_fatal and fault.name != PANIC_SIGN and fault.line and line)
    return next((fault for fault in fatal if fault.line and line and fault.line < line), None)


def fault_notes(faults: Sequence[KernelFault], lines: Container[int | None]) -> Iterator[Evidence]:
    """Yield evidence of faults, without those whose line is in `lines`."""
    for fault in faults:
        if fault.line not in lines:
            yield piece(_source(fault), f"{fault.name}: {fault.text}", fault.line)


def find_banners(transcript: bytes) -> Iterator[Evidence]:
    """Yield each kernel's banner, without a second console's repetition."""
    number = 0
    for start, stop in lines_with(transcript, b"Linux version "):
        for match in BANNER.finditer(transcript, start, stop):
            if not (0 < number <= MAX_REPLAYS and is_replay(transcript, match.start())):
                yield piece("console", _text(match[0]), _line_number(transcript, match.start()))
            number += 1


def has_kernel_output(transcript: bytes) -> bool:
    """Return whether a kernel has printed anything."""
    return re.search(STAMP, transcript) is not None or next(find_banners(transcript), None) is not None


def lines_with(text: bytes, word: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of each line with a word; faster than a pattern."""
    at = text.find(word)
    while at >= 0:
        start, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
        stop = len(text) if end < 0 else end
        yield start, stop
        at = text.find(word, stop)


def _lines_of(fault: KernelFault) -> Iterator[Evidence]:
    """Yield the first lines of a fault's trace; only the first has a line number."""
    source = _source(fault)
    yield piece(source, fault.text, fault.line)
    yield from (piece(source, line) for line in fault.trace[1:SHOWN_TRACE_LINES])


def _source(fault: KernelFault) -> str:
    """Return `kernel` for a fault that only the kernel's log has, else `console`."""
    return "kernel" if fault.line is None else "console"


def last_lines(transcript: bytes) -> tuple[Evidence, ...]:
    """Return the last lines of the console, without init's messages."""
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


def container_lines(transcript: bytes, container: str) -> tuple[Evidence, ...]:
    """Return the last lines of a container's output, by init's prefix.

    Empty lines are skipped, and prefixes that a kernel line follows.
    """
    name = re.escape(container.encode("ascii", "replace"))
    mine = re.compile(rb"^%s\| (?!%s)[^\n]*\S" % (name, STAMP), re.MULTILINE)
    match = deque(mine.finditer(transcript), maxlen=LAST_LINES)
    return tuple(piece("console", _text(part[0]), _line_number(transcript, part.start())) for part in match)


def first_failure(transcript: bytes, container: str) -> Evidence | None:
    """Return the first `not ok` line of a container's TAP."""
    name = re.escape(container.encode("ascii", "replace"))
    match = re.search(rb"^%s\| not ok\b[^\n#]*$" % name, transcript, re.MULTILINE)
    return piece("console", _text(match[0]), _line_number(transcript, match.start())) if match else None


def line_at(transcript: bytes, number: int) -> Evidence | None:
    """Return a line of the console by its number, from 1."""
    lines = transcript.split(b"\n", number)
    return piece("console", _text(lines[number - 1]), number) if number <= len(lines) else None


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
