"""Output of bounded size that loses no line of TAP."""

from typing import BinaryIO

from bootmatrix.judge.tap_lines import is_tap

KEEP_BYTES = 16 << 20
"""Kept from the beginning; beyond it, lines of TAP only."""
KEEP_TAP_BYTES = 2 << 20
TAP_WORDS = (b"ok", b"1..", b"TAP", b"tap", b"ail out", b"---", b"...")
"""Each line of TAP contains one of these."""
MARK = b"| "
CUT = b"[bootmatrix: output is left out from here on, except TAP]\n"
TOO_MUCH = b"Bail out! more output than is kept\n"
"""After that, tests of a container may have failed without a trace."""


class BoundedOutput:
    """Writes lines `NAME| TEXT` to a file: the beginning, then TAP alone.

    A container can print as much as it wants; its own tests, and those of others, count all the same.
    """

    def __init__(self, file: BinaryIO, keep_bytes: int = KEEP_BYTES, keep_tap_bytes: int = KEEP_TAP_BYTES) -> None:
        self._file, self._left, self._tap_left = file, keep_bytes, keep_tap_bytes
        self._rest = b""
        self._is_cut = False
        self._bailed: set[bytes] = set()

    def feed(self, data: bytes) -> None:
        """Take output. Raises OSError if it cannot be written."""
        whole = self._rest + data
        end = whole.rfind(b"\n") + 1
        self._rest = whole[end:]
        self._take(whole[:end])

    def finish(self) -> None:
        """Take the last line, which may have no end."""
        if self._rest:
            self._take(self._rest + b"\n")
            self._rest = b""

    def _take(self, lines: bytes) -> None:
        end = len(lines) if len(lines) <= self._left else lines.rfind(b"\n", 0, self._left) + 1
        self._file.write(lines[:end])
        self._left -= end
        if end == len(lines):
            return
        if not self._is_cut:
            self._file.write(CUT)
        self._is_cut, self._left = True, 0
        for line in lines[end:].splitlines(keepends=True):
            if any(word in line for word in TAP_WORDS):
                self._take_tap(line)

    def _take_tap(self, line: bytes) -> None:
        name, _, text = line.partition(MARK)
        if not is_tap(text.decode("utf-8", "replace")):
            return
        if len(line) <= self._tap_left:
            self._tap_left -= len(line)
            self._file.write(line)
        elif name not in self._bailed:
            self._bailed.add(name)
            self._file.write(name + MARK + TOO_MUCH)
