"""The guest's console: kept in a file of bounded size, and watched for a kernel that gives up."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import TracebackType
from typing import BinaryIO

from bootmatrix.console.kernel_lines import CONTAINER
from bootmatrix.console.kernel_messages import MORE_BLANKS, STAMP, faults
from bootmatrix.console.match import shown, without_printk
from bootmatrix.console.transcript import BANNER_WORDS, PANIC_WORDS, lines_with
from bootmatrix.model import ConsoleProof

KEEP_BYTES = 4 << 20
"""Kept from the beginning and again from the end of a console; what lies between is dropped."""

WORDS = (
    *(b"[#", b"BUG", b"LOCKUP", b"stall", b"blocked for more", b"Oops", b"nternal error: ", b"nable to handle"),
    *(
        b"eneral protection",
        b"tack segment",
        b"stack overflow",
        b"nsufficient stack",
        b"Bad mode in",
        b"Bad kernel stack",
    ),
    *(b"Unrecoverable", b"SError", b"Unhandled", b"ernel panic", b"Linux version "),
    *(b"PANIC: ", b"stack corrupted", b"Corrupt kernel", b"recursive fault", b": Vector: ", b"achine "),
    *(b"lab error", b"lab corruption", b"list_", b"corruption", b"refcount_t: ", b"ODEBUG: ", b"KASAN: ", b"VFS: "),
    *(b"CFI failure", b"ENDBR", b"usercopy: ", b"exploit attempt", b"unregister_netdevice", b"starved for", b"not ok"),
    *(b"lock", b"LOCKS", b"suspicious RCU", b"nvalid wait context", b"non-static key", b"chain_key", b"die for more"),
    b"contention detected",
)
"""One of these stands in every line by which a kernel tells that it is broken, or that it starts.

See kernel_messages.toml."""
STAMPS = re.compile(STAMP)
BLANKS = re.compile(MORE_BLANKS)
FOUND_BYTES = 64 << 10
"""Of lines that tell of such things and are kept although what lies around them is not."""
FOUND_LINE_BYTES = 500
MORE_FOUND = b"[bootmatrix: there were more such lines than are kept]\n"
CUT = b"..."
"""Before what is not a line from its beginning."""

PANIC = re.compile(rb"(?:\n|\[ *[0-9]+\.[0-9]{6}\](?:\[[^\]\n]{1,24}\])? )(?:---\[ end )?Kernel panic - not syncing")
"""The kernel's last words (kernel/panic.c), as only it writes them: after its time stamp or at a line's beginning."""
LINE_END = 0x0A
CONTAINER_LINE = re.compile(CONTAINER)
WATCH_BYTES = 4096
"""How much of a console is looked at again when more comes: a text, with what the kernel wrote into it."""
PANIC_OVERLAP_BYTES = 128
"""Longer than anything that PANIC matches."""


class Redactor:
    """Blots out a secret from a stream, also where it is cut in two."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The stream so far, up to what may be the beginning of the secret."""
        text = (self._held + data).replace(self._secret, b"*" * len(self._secret))
        start = self._beginning(text)
        self._held = text[start:]
        return text[:start]

    def rest(self) -> bytes:
        """What was held back, at the stream's end."""
        rest, self._held = self._held, b""
        return rest

    def _beginning(self, text: bytes) -> int:
        for length in range(min(len(self._secret) - 1, len(text)), 0, -1):
            if text.endswith(self._secret[:length]):
                return len(text) - length
        return len(text)


class PanicWatch:
    """Tells when a kernel has panicked.

    A container can print what looks like a panic, and a kernel may print its own into a container's line. What stands
    in such a line ends no guest: one that has really panicked leaves or falls silent.
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
        self.seen = any(not self._quotes(text, found) for found in PANIC.finditer(text))
        start = max(0, len(text) - PANIC_OVERLAP_BYTES)
        self._is_containers = self._begins_in_container(text, start)
        self._before = text[start:]

    def _quotes(self, text: bytes, found: re.Match[bytes]) -> bool:
        return text[found.start()] != LINE_END and self._begins_in_container(text, found.start())

    def _begins_in_container(self, text: bytes, place: int) -> bool:
        """Return whether a place is in a line that a container printed."""
        start = text.rfind(b"\n", 0, place + 1) + 1
        return CONTAINER_LINE.match(text, start) is not None if start else self._is_containers


class TextWatch:
    """Tells when a text has been shown, also one that the kernel tore."""

    def __init__(self, text: str) -> None:
        self.seen = False
        self._text = shown(text)
        self._before = b""

    def feed(self, data: bytes) -> None:
        """Look at more of the console."""
        if not self.seen:
            whole = self._before + data
            self.seen = any(self._text.search(one) for one in (whole, without_printk(whole)))
            self._before = whole[-WATCH_BYTES:]


class Sieve:
    """Keeps of a stream the lines that a verdict may rest on, so that flooding a console hides nothing.

    These are lines in which a kernel tells that it is broken or that it starts, all that show one of `texts`, and the
    first one that shows `once`.
    """

    def __init__(self, texts: Sequence[str] = (), once: str = "") -> None:
        self.found = bytearray()
        self._texts = [shown(text) for text in texts]
        self._once = shown(once) if once else None
        self._rest = b""

    def begin(self, before: bytes) -> None:
        """Know what came right before the stream, which may be a line's beginning."""
        self._rest = _short((self._rest + before).rpartition(b"\n")[2])

    def feed(self, data: bytes) -> None:
        """Take more of the stream; the line that is not whole yet waits for its end, if it is not too long."""
        whole = self._rest + data
        end = whole.rfind(b"\n") + 1
        self._look(whole[: max(end, len(whole) - FOUND_LINE_BYTES)])
        self._rest = _short(whole[end:])

    def finish(self, following: bytes) -> bytes:
        """The lines that were found; `following` comes after the stream, and may have a line's end."""
        self._look(self._rest + following.split(b"\n", 1)[0][:FOUND_LINE_BYTES])
        self._rest = b""
        return bytes(self.found)

    def _look(self, text: bytes) -> None:
        if self._once and (first := self._once.search(text)):
            self.found += _around(text, first.start())
            self._once = None
        if len(self.found) >= FOUND_BYTES:
            return
        shown_at = (one.start() for pattern in self._texts for one in pattern.finditer(text))
        for place in sorted({*_complaints(text), *shown_at}):
            if len(self.found) >= FOUND_BYTES:
                self.found += MORE_FOUND
                return
            self.found += _around(text, place)


def _complaints(text: bytes) -> Iterator[int]:
    """Where a kernel tells that it is broken or that it starts: only lines with one of WORDS need a closer look."""
    for start, stop in {line for word in WORDS for line in lines_with(text, word)}:
        place = _complaint(text, start, stop)
        if place >= 0:
            yield place


def _complaint(text: bytes, start: int, stop: int) -> int:
    """Where in a line it does so, at the line's beginning or after a kernel's time stamp; -1 if it does not."""
    matches = _faults().match
    begins = start + text.startswith(b"\r", start)
    if matches(text, begins, stop):
        return begins
    stamped = (place for stamp in STAMPS.finditer(text, start, stop) for place in _behind(text, stamp.end()))
    found = (place for place in stamped if matches(text, place, stop))
    return next(found, text.find(PANIC_WORDS, start, stop))


def _behind(text: bytes, stamp_end: int) -> tuple[int, int]:
    """Where a message may begin: right behind its stamp, and behind the blanks that are there."""
    blanks = BLANKS.match(text, stamp_end)
    return stamp_end, blanks.end() if blanks else stamp_end


@lru_cache(maxsize=1)
def _faults() -> re.Pattern[bytes]:
    return re.compile(b"|".join((*faults(), BANNER_WORDS)))


def _short(line: bytes) -> bytes:
    """The end of a line that is not whole yet, which is not to be taken for its beginning."""
    return line if len(line) <= FOUND_LINE_BYTES else CUT + line[-FOUND_LINE_BYTES:]


def _around(text: bytes, place: int) -> bytes:
    """The line at a place; of a long one, what is around it."""
    start, end = text.rfind(b"\n", 0, place) + 1, text.find(b"\n", place)
    stop = min(len(text) if end < 0 else end, place + FOUND_LINE_BYTES)
    cut = CUT if place - start > FOUND_LINE_BYTES else b""
    return cut + text[max(start, place - FOUND_LINE_BYTES) : stop] + b"\n"


class ConsoleLog:
    """Writes the console as it comes; of a console that never ends, the first and the last KEEP_BYTES.

    Of what lies between, lines stay in which a kernel complains, or that show one of the texts of a `proof`: what the
    verdict may rest on.

    A context manager; the file is complete when it is left. `received_bytes` and `dropped_bytes` count the guest's
    bytes.

    Raises:
        OSError: the disk is full, for one.
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
            self._file.write(self._sieve.finish(b"".join(self._tail)[:FOUND_LINE_BYTES]))
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
