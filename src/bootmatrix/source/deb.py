"""Reading .deb files, by deb(5): an ar archive that holds two tar archives. Nothing in them is run.

A package may be hostile: what it makes this program read, hold and compute is bounded. python-debian's reader of ar
archives is not used, since a negative size keeps it busy for ever.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol, Self, cast

import zstandard
from debian.deb822 import Deb822

from bootmatrix.errors import BuildError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONTROL_LIMIT_BYTES = 4 << 20
UNPACKED_LIMIT_BYTES = 4 << 30
FREE_BYTES = 128 << 20
MAX_RATIO = 200
"""Beyond FREE_BYTES a package that unpacks to so many times its size is a bomb: real ones stay below 50."""
MAX_MEMBERS = 250_000
"""Twice the files of the archive's largest packages."""
LONG_NAME_BYTES = 1 << 16

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_PLAIN_TYPES = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)
_LONG_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class _Damaged(Exception):
    """What is wrong with a package, for the message."""


_FAULTS = (
    *(_Damaged, tarfile.TarError, zstandard.ZstdError, lzma.LZMAError, zlib.error, EOFError, OSError),
    RecursionError,  # tarfile reads a long name that belongs to a long name, and so on, in a recursion
)


@contextmanager
def open_data(path: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package, as a tar archive that can be read once, from its beginning to its end.

    Raises:
        BuildError: it is not a package, or a damaged one; also while it is read.
    """
    with _open_member(path, "data.tar") as archive:
        yield archive


def read_control(path: Path) -> dict[str, str]:
    """The control fields of a package. Package, Version and Architecture are always there.

    Raises:
        BuildError: it is not a package, or a damaged one.
    """
    with _open_member(path, "control.tar") as archive:
        for member in archive:
            if member.name.removeprefix("./") == "control" and member.isreg():
                return _control_fields(archive, member)
        raise _Damaged("it has no control file")


def _control_fields(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, str]:
    if member.size > CONTROL_LIMIT_BYTES:
        raise _Damaged(f"its control file has {member.size} bytes")
    file = archive.extractfile(member)
    text = file.read().decode(errors="replace") if file else ""
    fields = dict(Deb822(text))
    for name in ("Package", "Version", "Architecture"):
        if not fields.get(name):
            raise _Damaged(f"its control file does not say {name}")
    return fields


@contextmanager
def _open_member(path: Path, prefix: str) -> Iterator[tarfile.TarFile]:
    try:
        with path.open("rb") as file:
            part, suffix = _find_member(file, prefix)
            plain = cast(IO[bytes], _Bounded(part, suffix))
            with _Archive.open(fileobj=plain, mode="r|", bufsize=1 << 16, encoding="utf-8") as archive:
                yield archive
    except _FAULTS as error:
        raise BuildError(f"{path} is not a Debian package, or a damaged one: {error}") from error


def _find_member(file: BinaryIO, prefix: str) -> tuple[_Part, str]:
    """A member of the ar archive, whose name is a prefix and the suffix of a compression."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise _Damaged("it is no ar archive")
    end = file.seek(0, io.SEEK_END)
    offset = len(_MAGIC)
    while offset < end:
        file.seek(offset)
        header = file.read(_HEADER_BYTES)
        size_text = header[48:58].rstrip(b" ")
        if len(header) < _HEADER_BYTES or header[58:] != b"`\n" or not size_text.isdigit():
            raise _Damaged(f"at byte {offset} there should be an ar header")
        offset, size = offset + _HEADER_BYTES, int(size_text)
        if offset + size > end:
            raise _Damaged(f"it ends at byte {end}, and should go on to byte {offset + size}")
        name = header[:16].rstrip(b" ").removesuffix(b"/").decode(errors="replace")
        if name.startswith(prefix) and name.removeprefix(prefix) in _OPENERS:
            return _Part(file, offset, size), name.removeprefix(prefix)
        offset += size + size % 2
    raise _Damaged(f"it has no {prefix} in a known compression")


class _Part(io.RawIOBase):
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


_OPENERS: dict[str, Callable[[BinaryIO], _Reader]] = {
    "": lambda part: part,
    ".gz": lambda part: gzip.GzipFile(fileobj=part),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
    ".zst": lambda part: zstandard.ZstdDecompressor().stream_reader(part, read_across_frames=True),
}


class _Bounded:
    """What a part unpacks to, up to a limit."""

    def __init__(self, part: _Part, suffix: str) -> None:
        self._part, self._plain = part, _OPENERS[suffix](cast(BinaryIO, part))
        self._total_bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._plain.read(size)
        self._total_bytes += len(data)
        if self._total_bytes > FREE_BYTES and self._total_bytes > MAX_RATIO * self._part.used:
            raise _Damaged(f"it unpacks to more than {MAX_RATIO} times its size")
        if self._total_bytes > UNPACKED_LIMIT_BYTES:
            raise _Damaged(f"it unpacks to more than {UNPACKED_LIMIT_BYTES >> 30} GiB")
        return data


class _Header(tarfile.TarInfo):
    """A tar header of the kinds that deb(5) allows."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header. An archive that ends without its end mark is damaged; tarfile lets that pass."""
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise _Damaged(f"its tar archive breaks off or is corrupt: {error}") from error
        limit = LONG_NAME_BYTES if header.type in _LONG_TYPES else UNPACKED_LIMIT_BYTES
        if header.type not in (*_PLAIN_TYPES, *_LONG_TYPES):
            raise _Damaged(f"{header.name!r} is of the tar type {header.type!r}, which no package may have")
        if not 0 <= header.size <= limit:
            raise _Damaged(f"{header.name!r} is said to have {header.size} bytes")
        return header


class _Archive(tarfile.TarFile):
    """A tar archive with a limit on its members."""

    tarinfo = _Header

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._count = 0
        super().__init__(*arguments, **named)

    def next(self) -> tarfile.TarInfo | None:
        """The next member."""
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise _Damaged(f"it has more than {MAX_MEMBERS} files")
        return super().next()
