"""Standard output and error of all commands: they take any text, carry no escapes, and outlive whoever reads them."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import sys
from typing import Any, TextIO

ODD = re.compile(r"[^\n\t -~]")
"""What may be more than a character that shows itself."""


class _Descriptor(io.RawIOBase):
    """An open file that swallows what it cannot write any more; `error` says why."""

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
            except BlockingIOError:  # somebody who has it too made it so
                select.select([], [self._number], [])
            except OSError as error:
                self.error = error
        return size


class Output(io.TextIOWrapper):
    """A stream of text in which nothing but line ends and tabs has a power of its own."""

    def __init__(self, number: int, encoding: str, *, is_closed: bool, line_buffering: bool) -> None:
        self._descriptor = _Descriptor(number, is_closed=is_closed)
        super().__init__(io.BufferedWriter(self._descriptor), encoding, errors="replace", line_buffering=line_buffering)

    @property
    def error(self) -> OSError | None:
        """Why nothing is written any more, if that is so."""
        return self._descriptor.error

    def write(self, text: str) -> int:
        """Write text, made harmless; its length."""
        if ODD.search(text):
            from bootmatrix.report.sanitize import sanitize

            text = sanitize(text)
        return super().write(text)

    def write_styled(self, text: str) -> int:
        """Write text with escapes of our own."""
        return super().write(text)


class _Styled:
    """A stream as rich takes it: its escapes are ours, and the texts between them are made harmless before."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.write = output.write_styled

    def __getattr__(self, name: str) -> object:
        return getattr(self._output, name)


def styled(stream: TextIO) -> TextIO:
    """The stream for who writes colours to a terminal."""
    return _Styled(stream) if isinstance(stream, Output) else stream  # type: ignore[return-value]


def take_over() -> None:
    """Put our streams in the place of Python's, which end a program in the middle of its work when nobody reads."""
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
    """Why the standard output is not what was printed, if that is so."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return sys.stdout.error if isinstance(sys.stdout, Output) else None


def _fill_standard_descriptors() -> None:
    """Open what was closed, so that no file of ours takes its number, and with it what others print."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
