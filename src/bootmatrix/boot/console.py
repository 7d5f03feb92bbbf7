"""The guest's console: kept in a file of bounded size, and watched for a kernel that gives up."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import BinaryIO

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
)
"""One of these stands in every line by which a kernel tells that it is broken, or that it starts (judge/signs.toml)."""
FOUND_BYTES = 64 << 10
"""Of lines with such words that are kept although what lies around them is not."""
FOUND_LINE_BYTES = 500
MORE_FOUND = b"[bootmatrix: there were more such lines than are kept]\n"

PANIC = re.compile(rb"(?:\n|\[ *[0-9]+\.[0-9]{6}\](?:\[[^\]\n]{1,24}\])? )(?:---\[ end )?Kernel panic - not syncing")
"""The kernel's last words (kernel/panic.c), as only it writes them: after its time stamp or at a line's beginning."""
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
    """Tells when a kernel has panicked."""

    def __init__(self) -> None:
        self.seen = False
        self._before = b"\n"

    def feed(self, data: bytes) -> None:
        """Look at more of the console."""
        if self.seen:
            return
        text = self._before + data
        self.seen = PANIC.search(text) is not None
        self._before = text[-PANIC_OVERLAP_BYTES:]


class TextWatch:
    """Tells when a text has been shown."""

    def __init__(self, text: str) -> None:
        self.seen = False
        self._text = text.encode("utf-8")
        self._before = b""

    def feed(self, data: bytes) -> None:
        """Look at more of the console."""
        if not self.seen:
            whole = self._before + data
            self.seen = self._text in whole
            self._before = whole[-len(self._text) :]


class Sieve:
    """Keeps of a stream the lines that have certain words in them, so that flooding a console hides nothing."""

    def __init__(self, words: Sequence[bytes]) -> None:
        self.found = bytearray()
        self._words = words
        self._rest = b""

    def begin(self, before: bytes) -> None:
        """Know what came right before the stream, which may be a line's beginning."""
        self._rest = (self._rest + before).rpartition(b"\n")[2][-FOUND_LINE_BYTES:]

    def feed(self, data: bytes) -> None:
        """Take more of the stream; the line that is not whole yet waits for its end, if it is not too long."""
        whole = self._rest + data
        end = whole.rfind(b"\n") + 1
        if end == 0 and len(whole) > FOUND_LINE_BYTES:
            end = len(whole) - FOUND_LINE_BYTES
        self._look(whole[:end])
        self._rest = whole[end:]

    def finish(self, following: bytes) -> bytes:
        """The lines that were found; `following` comes after the stream, and may have a line's end."""
        self._look(self._rest + following.split(b"\n", 1)[0][:FOUND_LINE_BYTES])
        self._rest = b""
        return bytes(self.found)

    def _look(self, text: bytes) -> None:
        if len(self.found) >= FOUND_BYTES:
            return
        for start, stop in sorted({place for word in self._words for place in _lines_with(text, word)}):
            if len(self.found) >= FOUND_BYTES:
                self.found += MORE_FOUND
                return
            self.found += text[start:stop] + b"\n"


def _lines_with(text: bytes, word: bytes) -> Iterator[tuple[int, int]]:
    """Where lines with a word in them begin and end; of a long one, what is around the word."""
    at = text.find(word)
    while at >= 0:
        start = text.rfind(b"\n", 0, at) + 1
        end = text.find(b"\n", at)
        stop = min(len(text) if end < 0 else end, at + FOUND_LINE_BYTES)
        yield max(start, at - FOUND_LINE_BYTES), stop
        at = text.find(word, stop)


class ConsoleLog:
    """Writes the console as it comes; of a console that never ends, the first and the last KEEP_BYTES.

    Of what lies between, lines stay that have one of WORDS in them, or of `words`: what the verdict may rest on.

    A context manager; the file is complete when it is left. `received_bytes` and `dropped_bytes` count the guest's
    bytes.

    Raises:
        OSError: the disk is full, for one.
    """

    def __init__(
        self, file: BinaryIO, secret: bytes, keep_bytes: int = KEEP_BYTES, words: Sequence[bytes] = ()
    ) -> None:
        self.received_bytes = 0
        self.dropped_bytes = 0
        self._file = file
        self._redactor = Redactor(secret)
        self._room_bytes = keep_bytes
        self._keep_bytes = keep_bytes
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._sieve = Sieve((*WORDS, *words))

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
