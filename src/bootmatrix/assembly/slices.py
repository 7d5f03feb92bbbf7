"""File contents as slices of other files, which are not held in memory."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from bootmatrix.store import host_faults

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Slice:
    """A part of a file of the store."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Read all bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def open(self) -> BinaryIO:
        """Open a file at the beginning of the slice; it extends beyond the end."""
        file = self.path.open("rb")
        file.seek(self.offset)
        return file

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in pieces."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            left = self.size
            while data := file.read(min(left, PIECE_BYTES)):
                left -= len(data)
                yield data


@dataclass(frozen=True)
class SparseSlice(Slice):
    """A sparse file; the other file holds only its data, piece after piece.

    `extents` are the offsets and sizes of the pieces in the sparse file, in order.
    """

    extents: tuple[tuple[int, int], ...]

    @property
    def holes_bytes(self) -> int:
        """The size of all holes."""
        return self.size - sum(size for _, size in self.extents)

    def read(self) -> bytes:
        """Read all bytes, with zeros in holes."""
        return b"".join(self.pieces())

    def open(self) -> BinaryIO:
        """Open as a file that can be read sequentially."""
        return cast(BinaryIO, io.BufferedReader(_Pieces(self.pieces()), PIECE_BYTES))

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in pieces, with zeros in holes."""
        at, place = 0, self.offset
        for offset, size in (*self.extents, (self.size, 0)):
            yield from _zeros(offset - at)
            yield from Slice(self.path, place, size).pieces()
            at, place = offset + size, place + size


def _zeros(count: int) -> Iterator[bytes]:
    piece = bytes(min(count, PIECE_BYTES))
    while count > 0:
        yield piece[:count]
        count -= len(piece)


class _Pieces(io.RawIOBase):
    """A file of pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read the next bytes."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        target = memoryview(buffer)
        count = min(len(self._rest), target.nbytes)
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class Spool:
    """A file that holds the contents of others one after the other."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def add(self, source: IO[bytes]) -> Slice:
        """Append all; return its slice. Raises HostError if the disk is full."""
        offset = self._file.tell()
        with host_faults(self._path.parent):
            shutil.copyfileobj(source, self._file, PIECE_BYTES)
            self._file.flush()
        return Slice(self._path, offset, self._file.tell() - offset)
