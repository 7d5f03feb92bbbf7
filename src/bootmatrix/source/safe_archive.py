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
_SKIPPABLE = b"\x2a\x4d\x18"
"""How the magic of a frame of zstd ends that readers skip."""
_ZSTD_FEED_BYTES = 2048
"""Given to zstd at once: a block of four bytes may unpack to 128 KiB."""
LONG_NAME_BYTES = 1 << 16
HEADERS_BYTES = 256 << 20
"""Of all names and extended headers of an archive together: they are held in memory."""
MAX_EXTENTS = 1 << 16
"""Pieces of data in a file with holes."""

_PLAIN_TYPES = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_LONG_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class DamagedArchive(Exception):
    """What is wrong with an archive, for the message."""


FAULTS = (
    *(DamagedArchive, tarfile.TarError, zstandard.ZstdError, lzma.LZMAError, zlib.error, EOFError, OSError),
    *(ValueError, OverflowError),  # tarfile takes the numbers of extended headers as they are
    RecursionError,  # tarfile reads a long name that belongs to a long name, and so on, in a recursion
)


@contextmanager
def open_tar(part: FileSlice, suffix: str, *, pax: bool = False) -> Iterator[tarfile.TarFile]:
    """A compressed tar archive that can be read once, from its beginning to its end; `pax` allows such headers in it.

    Raises:
        FAULTS: it is damaged, or a bomb; also while it is read.
    """
    plain = cast(IO[bytes], Bounded(part, suffix))
    kind = PaxArchive if pax else BoundedTarFile
    with kind.open(fileobj=plain, mode="r|", bufsize=1 << 16, encoding="utf-8") as archive:
        yield archive


class FileSlice(io.RawIOBase):
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


class _Zstd:
    """Zstd frames, one after the other (RFC 8878). The library's own reader takes a frame that breaks off for whole."""

    def __init__(self, part: BinaryIO) -> None:
        self._part, self._rest, self._plain = part, b"", io.BytesIO()
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def read(self, size: int) -> bytes:
        """The next bytes."""
        while not (data := self._plain.read(size)):
            if not self._fill():
                return b""
        return data

    def _fill(self) -> bool:
        """Unpack a few bytes more; False at the end."""
        packed = self._rest or self._part.read(_ZSTD_FEED_BYTES)
        if not packed:
            if self._frame:
                raise EOFError("its zstd data breaks off")
            return False
        if self._frame is None:
            packed += self._part.read(max(0, 8 - len(packed)))
            if packed[1:4] == _SKIPPABLE:
                self._rest = self._skipped(packed)
                return True
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._plain = io.BytesIO(self._frame.decompress(packed))
        self._rest = b""
        if self._frame.eof:
            self._rest, self._frame = self._frame.unused_data, None
        return True

    def _skipped(self, packed: bytes) -> bytes:
        """What follows a frame that readers skip."""
        left = 8 + int.from_bytes(packed[4:8], "little") - len(packed)
        while left > 0:
            data = self._part.read(min(left, 1 << 16))
            if not data:
                raise EOFError("its zstd data breaks off")
            left -= len(data)
        return packed[left:] if left < 0 else b""


OPENERS: dict[str, Callable[[BinaryIO], _Reader]] = {
    "": lambda part: part,
    ".gz": lambda part: gzip.GzipFile(fileobj=part),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
    ".zst": _Zstd,
}


_MAGICS = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\0": ".xz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}
_MAGICS |= {bytes([low]) + _SKIPPABLE: ".zst" for low in range(0x50, 0x60)}
"""The last ones are of skippable frames, which may stand before zstd's others (RFC 8878, section 3.1.2)."""
MAGIC_BYTES = 6


def suffix_of(start: bytes) -> str:
    """The suffix of the compression by which data begins so; empty for none that is known."""
    return next((suffix for magic, suffix in _MAGICS.items() if start.startswith(magic)), "")


class Bounded:
    """What a part unpacks to, up to a limit."""

    def __init__(self, part: FileSlice, suffix: str) -> None:
        self._part, self._plain = part, OPENERS[suffix](cast(BinaryIO, part))
        self._total_bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._plain.read(size)
        self._total_bytes += len(data)
        if self._total_bytes > FREE_BYTES and self._total_bytes > MAX_RATIO * self._part.used:
            raise DamagedArchive(f"it unpacks to more than {MAX_RATIO} times its size")
        if self._total_bytes > UNPACKED_LIMIT_BYTES:
            raise DamagedArchive(f"it unpacks to more than {UNPACKED_LIMIT_BYTES >> 30} GiB")
        return data


class BoundedTarInfo(tarfile.TarInfo):
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
            raise DamagedArchive(f"its tar archive breaks off or is corrupt: {error}") from error
        limit = UNPACKED_LIMIT_BYTES if header.type in (*_PLAIN_TYPES, tarfile.GNUTYPE_SPARSE) else LONG_NAME_BYTES
        if header.type not in cls.types:
            raise DamagedArchive(f"{header.name!r} is of the tar type {header.type!r}, which no package may have")
        if not 0 <= header.size <= limit:
            raise DamagedArchive(f"{header.name!r} is said to have {header.size} bytes")
        return header


class BoundedTarFile(tarfile.TarFile):
    """A tar archive with a limit on its members."""

    tarinfo = BoundedTarInfo

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._count = self._headers_bytes = 0
        super().__init__(*arguments, **named)

    def next(self) -> tarfile.TarInfo | None:
        """The next member."""
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise DamagedArchive(f"it has more than {MAX_MEMBERS} files")
        found = super().next()
        if found is None:
            return None
        if not 0 <= found.size <= UNPACKED_LIMIT_BYTES:  # as an extended header has it
            raise DamagedArchive(f"{found.name[:200]!r} is said to have {found.size} bytes")
        self._headers_bytes += len(found.name) + len(found.linkname)
        self._headers_bytes += sum(len(name) + len(str(value)) for name, value in found.pax_headers.items())
        if self._headers_bytes > HEADERS_BYTES:
            raise DamagedArchive(f"its names and headers have more than {HEADERS_BYTES >> 20} MiB in all")
        if extents_of(found) is not None:
            found.sparse = _checked_extents(found)  # type: ignore[assignment]
        return found


def extents_of(file: tarfile.TarInfo) -> list[tuple[int, int]] | None:
    """The offsets and sizes of the pieces of data of a file with holes; None for one without."""
    return cast("list[tuple[int, int]] | None", file.sparse)


def _checked_extents(file: tarfile.TarInfo) -> list[tuple[int, int]]:
    """The pieces of data of a file with holes; tarfile reads pieces that overlap for ever.

    Raises:
        Damaged: they overlap, or lie beyond the file's end.
    """
    extents, end = [(offset, size) for offset, size in extents_of(file) or () if size], 0
    if len(extents) > MAX_EXTENTS:
        raise DamagedArchive(f"{file.name[:200]!r} has more than {MAX_EXTENTS} pieces between holes")
    for offset, size in extents:
        if size < 0 or offset < end:
            raise DamagedArchive(f"the pieces of {file.name[:200]!r} overlap")
        end = offset + size
    if end > file.size:
        raise DamagedArchive(f"the pieces of {file.name[:200]!r} go on behind its end")
    return extents


class _PaxHeader(BoundedTarInfo):
    """A tar header of those kinds, or one of POSIX's extended headers (pax(1)), as images have."""

    types: ClassVar[tuple[bytes, ...]] = (*_PLAIN_TYPES, *_LONG_TYPES, *_PAX_TYPES, tarfile.GNUTYPE_SPARSE)

    def _proc_sparse(self, archive: tarfile.TarFile) -> Self:
        """Read the map of a file with holes, of GNU's old form: tarfile does, but of any length."""
        extents, more, size = self._sparse_structs  # type: ignore[attr-defined]
        del self._sparse_structs  # type: ignore[attr-defined]
        block, data_bytes = archive.fileobj, self.size
        assert block
        while more:
            found = block.read(tarfile.BLOCKSIZE)
            if len(found) < tarfile.BLOCKSIZE or len(extents) > MAX_EXTENTS:
                raise DamagedArchive(f"the map of the holes in {self.name[:200]!r} breaks off, or is too long")
            values = (tarfile.nti(found[at : at + 12]) for at in range(0, 504, 12))  # type: ignore[attr-defined]
            extents += [(offset, count) for offset, count in zip(values, values, strict=True) if offset and count]
            more = bool(found[504])
        self.sparse = extents
        self.offset_data = block.tell()
        archive.offset = self.offset_data + -(-data_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        self.size = size
        return self

    def _proc_gnusparse_10(self, following: tarfile.TarInfo, _headers: object, archive: tarfile.TarFile) -> None:
        """Read the map of a file with holes, of GNU's PAX form 1.0, which stands before the data."""
        file = archive.fileobj
        assert file
        numbers, rest, wanted = list[int](), b"", 1
        while len(numbers) < wanted:
            while b"\n" not in rest:
                found = file.read(tarfile.BLOCKSIZE)
                if not found or len(rest) > tarfile.BLOCKSIZE:
                    raise DamagedArchive(f"the map of the holes in {following.name[:200]!r} breaks off")
                rest += found
            text, _, rest = rest.partition(b"\n")
            numbers.append(int(text[:20]))
            wanted = 1 + 2 * numbers[0]
            if not 0 <= numbers[0] <= MAX_EXTENTS:
                raise DamagedArchive(f"the map of the holes in {following.name[:200]!r} is too long")
        following.offset_data = file.tell()
        following.sparse = list(zip(numbers[1::2], numbers[2::2], strict=True))  # type: ignore[assignment]


class PaxArchive(BoundedTarFile):
    """A tar archive that may have extended headers, and files with holes."""

    tarinfo = _PaxHeader
