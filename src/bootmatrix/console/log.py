"""The console log: a file of bounded size, and watches for panics and texts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import TracebackType
from typing import BinaryIO

from bootmatrix.console.kernel_lines import CONTAINER
from bootmatrix.console.kernel_messages import (
    MORE_BLANKS,
    STAMP,
    STAMPED_BANNER,
    UNSTAMPED,
    fault_patterns,
    fault_words,
    find_kernel_faults,
)
from bootmatrix.console.kernel_messages import PANIC as PANIC_NAME
from bootmatrix.console.match import strip_printk, text_pattern
from bootmatrix.console.stalls import Starvation, may_be_starved
from bootmatrix.console.transcript import BANNER_WORDS, PANIC_WORDS, lines_with
from bootmatrix.model import ConsoleProof, KernelFault

KEEP_BYTES = 4 << 20
"""Kept from the beginning, and as much from the end; what is between is dropped."""

STAMPS = re.compile(STAMP)
LINE_BEGINS = re.compile(UNSTAMPED)
BLANKS = re.compile(MORE_BLANKS)
KEPT_LINES_BYTES = 64 << 10
"""Of lines with such messages that are kept from the dropped part."""
KEPT_LINE_BYTES = 500
FURTHER_LINES = b"[bootmatrix: further such lines were dropped]\n"
CUT = b"..."
"""Prefix of a line whose beginning was dropped."""

PANIC = re.compile(rb"(?:\n|\[ *[0-9]+\.[0-9]{6}\](?:\[[^\]\n]{1,24}\])? )(?:---\[ end )?Kernel panic - not syncing")
"""A panic message (kernel/panic.c) after a time stamp, or at a line's beginning."""
LINE_END = 0x0A
CONTAINER_LINE = re.compile(CONTAINER)
FIRST_CONTAINER = re.compile(rb"^%s" % CONTAINER, re.MULTILINE)
MAX_FAULTS = 20
WATCH_BYTES = 4096
"""Overlap between two searches: the longest text, with kernel lines in it."""
PANIC_OVERLAP_BYTES = 128
"""Longer than any match of PANIC."""


class Redactor:
    """Masks a secret in a stream, also across chunks."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return the masked stream up to a possible beginning of the secret."""
        text = (self._held + data).replace(self._secret, b"*" * len(self._secret))
        start = self._beginning(text)
        self._held = text[start:]
        return text[:start]

    def rest(self) -> bytes:
        """Return the held-back bytes at the end of the stream."""
        rest, self._held = self._held, b""
        return rest

    def _beginning(self, text: bytes) -> int:
        for length in range(min(len(self._secret) - 1, len(text)), 0, -1):
            if text.endswith(self._secret[:length]):
                return len(text) - length
        return len(text)


class PanicWatch:
    """Detects a kernel panic on the console.

    A panic message in a container's line is ignored, as the container may have printed it: a guest whose kernel
    panicked exits or falls silent anyway.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before = b"\n"
        self._is_containers = False

    def feed(self, data: bytes) -> None:
        """Look at more of the console."""
        if self.seen:
            return
        text = self._before + data
        self.seen = any(not self._is_quote(text, match) for match in PANIC.finditer(text))
        start = max(0, len(text) - PANIC_OVERLAP_BYTES)
        self._is_containers = self._begins_in_container(text, start)
        self._before = text[start:]

    def _is_quote(self, text: bytes, match: re.Match[bytes]) -> bool:
        return text[match.start()] != LINE_END and self._begins_in_container(text, match.start())

    def _begins_in_container(self, text: bytes, offset: int) -> bool:
        """Return whether an offset is in a line that a container printed."""
        start = text.rfind(b"\n", 0, offset + 1) + 1
        return CONTAINER_LINE.match(text, start) is not None if start else self._is_containers


class FaultWatch:
    """Detects fatal kernel messages but panics, in lines of their own.

    Container lines do not count, nor a line after a torn one, nor unstamped lines after a container's, or after the
    banner of a kernel that gives its lines a time.
    """

    def __init__(self) -> None:
        self.faults: list[KernelFault] = []
        self._rest = b""
        self._is_prefixed = self._is_torn = False

    def feed(self, data: bytes) -> None:
        """Look at more of the console."""
        whole = self._rest + data
        end = whole.rfind(b"\n") + 1
        self._rest = _short(whole[end:])
        block = whole[:end]
        if any(word in block for word in fault_words()):
            self.faults += [fault for line in block.splitlines() for fault in self._read(line)]
        elif block:
            self._is_prefixed = self._is_prefixed or FIRST_CONTAINER.search(block) is not None
            self._pass(block[block.rfind(b"\n", 0, -1) + 1 :])

    def is_certain(self, starvation: Starvation) -> bool:
        """Return whether a fault was seen that the host cannot have caused."""
        return any(not may_be_starved(fault, starvation) for fault in self.faults)

    def _read(self, line: bytes) -> Iterator[KernelFault]:
        was_torn = self._is_torn
        self._pass(line)
        is_kernels = not CONTAINER_LINE.match(line) and (STAMPS.search(line) or not self._is_prefixed)
        if is_kernels and not was_torn and len(self.faults) < MAX_FAULTS:
            yield from (fault for fault in find_kernel_faults(line) if fault.is_fatal and fault.name != PANIC_NAME)

    def _pass(self, line: bytes) -> None:
        is_container = CONTAINER_LINE.match(line) is not None
        self._is_prefixed = self._is_prefixed or is_container or STAMPED_BANNER.match(line) is not None
        self._is_torn = is_container and STAMPS.search(line) is not None


class TextWatch:
    """Detects a text on the console, also with kernel lines in it."""

    def __init__(self, text: str) -> None:
        self.seen = False
        self._text = text_pattern(text)
        self._before = b""

    def feed(self, data: bytes) -> None:
        """Look at more of the console."""
        if not self.seen:
            whole = self._before + data
            self.seen = any(self._text.search(part) for part in (whole, strip_printk(whole)))
            self._before = whole[-WATCH_BYTES:]


class Sieve:
    """Keeps the lines that decide verdicts; a flood hides none of them.

    These are lines with kernel faults or banners, all lines with one of `texts`, and the first one with `once`.
    """

    def __init__(self, texts: Sequence[str] = (), once: str = "") -> None:
        self.kept = bytearray()
        self._texts = [text_pattern(text) for text in texts]
        self._once = text_pattern(once) if once else None
        self._rest = b""

    def begin(self, before: bytes) -> None:
        """Set the bytes right before the stream, which may begin a line."""
        self._rest = _short((self._rest + before).rpartition(b"\n")[2])

    def feed(self, data: bytes) -> None:
        """Search more of the stream; an incomplete line is held back, up to a length."""
        whole = self._rest + data
        end = whole.rfind(b"\n") + 1
        self._look(whole[: max(end, len(whole) - KEPT_LINE_BYTES)])
        self._rest = _short(whole[end:])

    def finish(self, following: bytes) -> bytes:
        """Return the lines kept; `following` may complete the last one."""
        self._look(self._rest + following.split(b"\n", 1)[0][:KEPT_LINE_BYTES])
        self._rest = b""
        return bytes(self.kept)

    def _look(self, text: bytes) -> None:
        if self._once and (first := self._once.search(text)):
            self.kept += _excerpt(text, first.start())
            self._once = None
        if len(self.kept) >= KEPT_LINES_BYTES:
            return
        texts = (match.start() for pattern in self._texts for match in pattern.finditer(text))
        for offset in sorted({*_fault_offsets(text), *texts}):
            if len(self.kept) >= KEPT_LINES_BYTES:
                self.kept += FURTHER_LINES
                return
            self.kept += _excerpt(text, offset)


def _fault_offsets(text: bytes) -> Iterator[int]:
    """Yield offsets of faults and banners; only lines with a word of one are parsed."""
    for start, stop in {line for word in fault_words() for line in lines_with(text, word)}:
        offset = _fault_offset(text, start, stop)
        if offset >= 0:
            yield offset


def _fault_offset(text: bytes, start: int, stop: int) -> int:
    """Return a fault's offset in a line: its beginning, or after a stamp; -1."""
    matches = _faults().match
    begins = LINE_BEGINS.match(text, start, stop)
    if begins and matches(text, begins.end(), stop):
        return begins.end()
    stamped = (offset for stamp in STAMPS.finditer(text, start, stop) for offset in _message_starts(text, stamp.end()))
    faults = (offset for offset in stamped if matches(text, offset, stop))
    return next(faults, text.find(PANIC_WORDS, start, stop))


def _message_starts(text: bytes, stamp_end: int) -> tuple[int, int]:
    """Return a message's possible beginnings: after its stamp and blanks."""
    blanks = BLANKS.match(text, stamp_end)
    return stamp_end, blanks.end() if blanks else stamp_end


@lru_cache(maxsize=1)
def _faults() -> re.Pattern[bytes]:
    return re.compile(b"|".join((*fault_patterns(), BANNER_WORDS)))


def _short(line: bytes) -> bytes:
    """Return the end of an incomplete line, marked as cut."""
    return line if len(line) <= KEPT_LINE_BYTES else CUT + line[-KEPT_LINE_BYTES:]


def _excerpt(text: bytes, offset: int) -> bytes:
    """Return the line at an offset; of a long line, the part around it."""
    start, end = text.rfind(b"\n", 0, offset) + 1, text.find(b"\n", offset)
    stop = min(len(text) if end < 0 else end, offset + KEPT_LINE_BYTES)
    cut = CUT if offset - start > KEPT_LINE_BYTES else b""
    return cut + text[max(start, offset - KEPT_LINE_BYTES) : stop] + b"\n"


class ConsoleLog:
    """Writes the beginning and the end of the console, and deciding lines between.

    Beginning and end have KEEP_BYTES each. The lines between are those that decide verdicts (see Sieve).

    A context manager; the file is complete on exit. `received_bytes` and `dropped_bytes` count the guest's bytes.

    Raises OSError if writing failed.
    """

    def __init__(
        self, file: BinaryIO, secret: bytes, keep_bytes: int = KEEP_BYTES, proof: ConsoleProof | None = None
    ) -> None:
        self.received_bytes = 0
        self.dropped_bytes = 0
        self._file = file
        self._redactor = Redactor(secret)
        self._room_bytes = keep_bytes
        self._keep_bytes = keep_bytes
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._sieve = Sieve(proof.forbid, proof.console) if proof else Sieve()

    def __enter__(self) -> ConsoleLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keep(self._redactor.rest())
        if self.dropped_bytes:
            self._file.write(b"\n[bootmatrix: %d bytes of console are left out here]\n" % self.dropped_bytes)
            self._file.write(self._sieve.finish(b"".join(self._tail)[:KEPT_LINE_BYTES]))
        for part in self._tail:
            self._file.write(part)
        self._file.flush()

    def write(self, data: bytes) -> None:
        """Take more of the console."""
        self.received_bytes += len(data)
        self._keep(self._redactor.feed(data))

    def _keep(self, data: bytes) -> None:
        head, rest = data[: self._room_bytes], data[self._room_bytes :]
        if head:
            self._file.write(head)
            self._sieve.begin(head)
            self._room_bytes -= len(head)
        if rest:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
            self._trim()

    def _trim(self) -> None:
        while self._tail_bytes > self._keep_bytes:
            first = self._tail.popleft()
            surplus = min(self._tail_bytes - self._keep_bytes, len(first))
            self._sieve.feed(first[:surplus])
            if surplus < len(first):
                self._tail.appendleft(first[surplus:])
            self._tail_bytes -= surplus
            self.dropped_bytes += surplus
