"""Standard streams: accept any text, sanitize it, and survive a closed reader."""

import errno
import io
import os
import re
import select
import sys
from typing import Any, TextIO

from bootmatrix.report.sanitize import sanitize

ODD = re.compile(r"[^\n\t -~]")
"""Characters that may not be plain printable text."""


class _Descriptor(io.RawIOBase):
    """A file descriptor that discards data after a write error, kept in `error`."""

    def __init__(self, number: int, *, is_closed: bool) -> None:
        self._number = number
        self._is_closed = is_closed
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._is_closed and self.error is None:
            self.error = OSError(errno.EBADF, os.strerror(errno.EBADF))
        while self.error is None:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # another holder made it non-blocking
                select.select([], [self._number], [])
            except OSError as error:
                self.error = error
        return size


class Output(io.TextIOWrapper):
    """A text stream that sanitizes everything but line ends and tabs."""

    def __init__(self, number: int, encoding: str, *, is_closed: bool, line_buffering: bool) -> None:
        self._descriptor = _Descriptor(number, is_closed=is_closed)
        super().__init__(io.BufferedWriter(self._descriptor), encoding, errors="replace", line_buffering=line_buffering)

    @property
    def error(self) -> OSError | None:
        """The first write error, if any."""
        return self._descriptor.error

    def write(self, text: str) -> int:
        """Write sanitized text and return its length."""
        if ODD.search(text):
            text = sanitize(text)
        return super().write(text)

    def write_styled(self, text: str) -> int:
        """Write text that contains our own escape sequences."""
        return super().write(text)


class _Styled:
    """A stream for rich: its escapes are ours, its texts sanitized before."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.write = output.write_styled

    def __getattr__(self, name: str) -> object:
        return getattr(self._output, name)


def styled(stream: TextIO) -> TextIO:
    """Return the stream to which styled text can be written."""
    return _Styled(stream) if isinstance(stream, Output) else stream  # type: ignore[return-value]


def take_over() -> None:
    """Replace Python's streams, which end a program when nobody reads them."""
    was_closed = {number for number in (1, 2) if not _is_open(number)}
    _fill_standard_descriptors()
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        if stream is not None:
            stream.flush()
        encoding = stream.encoding if stream is not None else "utf-8"
        line_buffering = number == 2 or os.isatty(number)
        output = Output(number, encoding, is_closed=number in was_closed, line_buffering=line_buffering)
        setattr(sys, {1: "stdout", 2: "stderr"}[number], output)


def lost_output() -> OSError | None:
    """Flush the streams and return the write error of the standard output, if any."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return sys.stdout.error if isinstance(sys.stdout, Output) else None


def _fill_standard_descriptors() -> None:
    """Open closed standard descriptors, so that none of our files gets their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
