"""Compressed streams and tar archives that may be hostile: what they make this program read and hold is bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol, Self, cast

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

UNPACKED_LIMIT_BYTES = 4 << 30
FREE_BYTES = 128 << 20
MAX_RATIO = 200
"""Beyond FREE_BYTES a package that unpacks to so many times its size is a bomb: real ones stay below 50."""
MAX_MEMBERS = 250_000
"""Twice the files of the archive's largest packages."""
LONG_NAME_BYTES = 1 << 16

_PLAIN_TYPES = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_LONG_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Damaged(Exception):
    """What is wrong with an archive, for the message."""


FAULTS = (
    *(Damaged, tarfile.TarError, zstandard.ZstdError, lzma.LZMAError, zlib.error, EOFError, OSError),
    *(ValueError, OverflowError),  # tarfile takes the numbers of extended headers as they are
    RecursionError,  # tarfile reads a long name that belongs to a long name, and so on, in a recursion
)


@contextmanager
def open_tar(part: Part, suffix: str, *, pax: bool = False) -> Iterator[tarfile.TarFile]:
    """A compressed tar archive that can be read once, from its beginning to its end; `pax` allows such headers in it.

    Raises:
        FAULTS: it is damaged, or a bomb; also while it is read.
    """
    plain = cast(IO[bytes], Bounded(part, suffix))
    kind = PaxArchive if pax else Archive
    with kind.open(fileobj=plain, mode="r|", bufsize=1 << 16, encoding="utf-8") as archive:
        yield archive


class Part(io.RawIOBase):
    """A part of a file, as a file of its own that is read from its beginning to its end."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._left, self.used = file, size, 0
        file.seek(offset)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read the next bytes."""
        data = self._file.read(min(self._left, memoryview(buffer).nbytes))
        memoryview(buffer)[: len(data)] = data
        self._left -= len(data)
        self.used += len(data)
        return len(data)


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


OPENERS: dict[str, Callable[[BinaryIO], _Reader]] = {
    "": lambda part: part,
    ".gz": lambda part: gzip.GzipFile(fileobj=part),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
    ".zst": lambda part: zstandard.ZstdDecompressor().stream_reader(part, read_across_frames=True),
}


_MAGICS = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\0": ".xz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}


def suffix_of(start: bytes) -> str:
    """The suffix of the compression by which data begins so; empty for none that is known."""
    return next((suffix for magic, suffix in _MAGICS.items() if start.startswith(magic)), "")


class Bounded:
    """What a part unpacks to, up to a limit."""

    def __init__(self, part: Part, suffix: str) -> None:
        self._part, self._plain = part, OPENERS[suffix](cast(BinaryIO, part))
        self._total_bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._plain.read(size)
        self._total_bytes += len(data)
        if self._total_bytes > FREE_BYTES and self._total_bytes > MAX_RATIO * self._part.used:
            raise Damaged(f"it unpacks to more than {MAX_RATIO} times its size")
        if self._total_bytes > UNPACKED_LIMIT_BYTES:
            raise Damaged(f"it unpacks to more than {UNPACKED_LIMIT_BYTES >> 30} GiB")
        return data


class Header(tarfile.TarInfo):
    """A tar header of the kinds that deb(5) allows."""

    types: ClassVar[tuple[bytes, ...]] = (*_PLAIN_TYPES, *_LONG_TYPES)

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header. An archive that ends without its end mark is damaged; tarfile lets that pass."""
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise Damaged(f"its tar archive breaks off or is corrupt: {error}") from error
        limit = UNPACKED_LIMIT_BYTES if header.type in _PLAIN_TYPES else LONG_NAME_BYTES
        if header.type not in cls.types:
            raise Damaged(f"{header.name!r} is of the tar type {header.type!r}, which no package may have")
        if not 0 <= header.size <= limit:
            raise Damaged(f"{header.name!r} is said to have {header.size} bytes")
        return header


class Archive(tarfile.TarFile):
    """A tar archive with a limit on its members."""

    tarinfo = Header

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._count = 0
        super().__init__(*arguments, **named)

    def next(self) -> tarfile.TarInfo | None:
        """The next member."""
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise Damaged(f"it has more than {MAX_MEMBERS} files")
        found = super().next()
        if found and not 0 <= found.size <= UNPACKED_LIMIT_BYTES:  # as an extended header has it
            raise Damaged(f"{found.name!r} is said to have {found.size} bytes")
        return found


class _PaxHeader(Header):
    """A tar header of those kinds, or one of POSIX's extended headers (pax(1)), as images have."""

    types: ClassVar[tuple[bytes, ...]] = (*_PLAIN_TYPES, *_LONG_TYPES, *_PAX_TYPES)


class PaxArchive(Archive):
    """A tar archive that may have extended headers."""

    tarinfo = _PaxHeader
