"""Contents of files that stand somewhere in another file, so that they need not be in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from bootmatrix.store import host_faults

PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Slice:
    """A part of a file of the store."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, a few at a time."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            left = self.size
            while data := file.read(min(left, PIECE_BYTES)):
                left -= len(data)
                yield data


class Spool:
    """A file that holds the contents of others, one after the other, so that they need not be in memory."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def add(self, source: IO[bytes]) -> Slice:
        """Append what can be read, and say where it is.

        Raises:
            HostError: the disk is full.
        """
        offset = self._file.tell()
        with host_faults(self._path.parent):
            while data := source.read(PIECE_BYTES):
                self._file.write(data)
            self._file.flush()
        return Slice(self._path, offset, self._file.tell() - offset)
