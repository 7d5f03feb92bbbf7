"""Bounded readers of untrusted compressed streams and tar archives."""

from __future__ import annotations

import bz2
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
"""Compression ratio of a bomb, for data beyond FREE_BYTES. Real packages stay below 50."""
MAX_MEMBERS = 250_000
"""Twice the number of files of Debian's largest packages."""
MAX_STREAMS, STREAM_BYTES = 250_000, 512
"""Limit of compressed streams in a row, and data of a further one: a layer with a stream for each file has more."""
_SKIPPABLE = b"\x2a\x4d\x18"
"""End of the magic of zstd's skippable frames."""
_ZSTD_FEED_BYTES = 2048
"""Input of one step of zstd: a block of four bytes may unpack to 128 KiB."""
XZ_MEMORY_BYTES = 256 << 20
"""xz -9 needs 65 MiB; a header may ask for 4 GiB, which its data then fills."""
LONG_NAME_BYTES = 1 << 16
HEADERS_BYTES = 256 << 20
"""Limit of all names and extended headers of an archive, which are held in memory."""
MAX_EXTENTS = 1 << 16
"""Limit of data extents in a sparse file."""

_PLAIN_TYPES = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_LONG_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class DamagedArchive(Exception):
    """Damage of an archive; the text completes a message."""


FAULTS = (
    *(DamagedArchive, tarfile.TarError, zstandard.ZstdError, lzma.LZMAError, zlib.error, EOFError, OSError),
    *(ValueError, OverflowError),  # tarfile does not check the numbers of extended headers
    RecursionError,  # tarfile reads long names of long names recursively
)


@contextmanager
def open_tar(part: FileSlice, suffix: str) -> Iterator[tarfile.TarFile]:
    """Open a compressed tar archive without extended headers, to be read once.

    Raises FAULTS if it is damaged, or a bomb; also while it is read.
    """
    with _read_once(Bounded(part, suffix), BoundedTarFile) as archive:
        yield archive


@contextmanager
def open_packed_tar(file: BinaryIO, offset: int = 0, size: int | None = None) -> Iterator[tarfile.TarFile]:
    """Open a tar archive of any compression in a part of a file, to be read once.

    Raises FAULTS if it is damaged, or a bomb; also while it is read.
    """
    with _read_once(unpacking(file, offset, size), PaxArchive) as archive:
        yield archive


def _read_once(plain: Bounded, kind: type[BoundedTarFile]) -> BoundedTarFile:
    return kind.open(fileobj=cast(IO[bytes], plain), mode="r|", bufsize=1 << 16, encoding="utf-8")


class FileSlice(io.RawIOBase):
    """A byte range of a file, as a stream."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._left, self.used = file, size, 0
        file.seek(offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        data = self._file.read(min(self._left, memoryview(buffer).nbytes))
        memoryview(buffer)[: len(data)] = data
        self._left -= len(data)
        self.used += len(data)
        return len(data)


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Streams:
    """Counts successive streams, each of which takes time, also without data."""

    def __init__(self) -> None:
        self._left = float(MAX_STREAMS)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise DamagedArchive(f"it has more than {MAX_STREAMS} compressed streams of little data")

    def _counted(self, data: bytes) -> bytes:
        self._left += len(data) / STREAM_BYTES
        return data


class _Gzip(_Streams):
    """Decompress successive gzip members (RFC 1952).

    GzipFile reads a header's name, which may have no end, byte by byte.
    """

    def __init__(self, part: BinaryIO) -> None:
        super().__init__()
        self._part, self._stream, self._rest = part, zlib.decompressobj(31), b""  # 31: with gzip's header (zlib.h)

    def read(self, size: int) -> bytes:
        while True:
            if self._stream.eof:
                if not self._begin():
                    return b""
                continue
            packed = self._rest or self._part.read(1 << 16)
            try:
                data = self._stream.decompress(packed, size)
            except zlib.error as error:
                raise DamagedArchive(f"its gzip data is damaged: {error}") from error
            self._rest = self._stream.unconsumed_tail
            if data:
                return self._counted(data)
            if not packed and not self._stream.eof:
                raise EOFError("its gzip data is truncated")

    def _begin(self) -> bool:
        """Begin the next member; False at the end. Zeros may pad a member."""
        packed = self._stream.unused_data.lstrip(b"\0")
        while not packed:
            if not (more := self._part.read(1 << 16)):
                return False
            packed = more.lstrip(b"\0")
        self._count()
        self._stream, self._rest = zlib.decompressobj(31), packed
        return True


class _Zstd(_Streams):
    """Decompress successive zstd frames (RFC 8878).

    The library's own reader accepts a truncated frame as complete.
    """

    def __init__(self, part: BinaryIO) -> None:
        super().__init__()
        self._part, self._rest, self._plain = part, b"", io.BytesIO()
        self._context = zstandard.ZstdDecompressor()  # to make one takes longer than a small frame
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def read(self, size: int) -> bytes:
        while not (data := self._plain.read(size)):
            if not self._fill():
                return b""
        return self._counted(data)

    def _fill(self) -> bool:
        """Decompress a few more bytes; False at the end."""
        packed = self._rest or self._part.read(_ZSTD_FEED_BYTES)
        if not packed:
            if self._frame:
                raise EOFError("its zstd data is truncated")
            return False
        if self._frame is None:
            self._count()
            packed += self._part.read(max(0, 8 - len(packed)))
            if packed[1:4] == _SKIPPABLE:
                self._rest = self._skipped(packed)
                return True
            self._frame = self._context.decompressobj()
        self._plain = io.BytesIO(self._frame.decompress(packed))
        self._rest = b""
        if self._frame.eof:
            self._rest, self._frame = self._frame.unused_data, None
        return True

    def _skipped(self, packed: bytes) -> bytes:
        """Skip a skippable frame, and return the data after it."""
        left = 8 + int.from_bytes(packed[4:8], "little") - len(packed)
        while left > 0:
            data = self._part.read(min(left, 1 << 16))
            if not data:
                raise EOFError("its zstd data is truncated")
            left -= len(data)
        return packed[left:] if left < 0 else b""


class _Xz(_Streams):
    """Decompress successive xz streams (xz-file-format.txt), of bounded memory.

    LZMAFile has no limit of memory.
    """

    def __init__(self, part: BinaryIO) -> None:
        super().__init__()
        self._part, self._stream = part, self._begin()

    @staticmethod
    def _begin() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)

    def read(self, size: int) -> bytes:
        while True:
            if self._stream.eof:
                packed = self._stream.unused_data.lstrip(b"\0")  # zeros may pad a stream
                while not packed:
                    if not (more := self._part.read(1 << 16)):
                        return b""
                    packed = more.lstrip(b"\0")
                self._count()
                self._stream = self._begin()
            elif self._stream.needs_input:
                if not (packed := self._part.read(1 << 16)):
                    raise EOFError("its xz data is truncated")
            else:
                packed = b""
            if data := self._stream.decompress(packed, size):
                return self._counted(data)


OPENERS: dict[str, Callable[[BinaryIO], _Reader]] = {
    "": lambda part: part,
    ".gz": _Gzip,
    ".xz": _Xz,
    ".bz2": bz2.BZ2File,
    ".zst": _Zstd,
}


_MAGICS = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\0": ".xz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}
_MAGICS |= {bytes([low]) + _SKIPPABLE: ".zst" for low in range(0x50, 0x60)}
"""The last ones are skippable frames, which may precede others (RFC 8878, section 3.1.2)."""
MAGIC_BYTES = 6


def suffix_of(start: bytes) -> str:
    """Return the suffix of a compression by its magic; empty if unknown."""
    return next((suffix for magic, suffix in _MAGICS.items() if start.startswith(magic)), "")


class Bounded:
    """Decompressed content of a file slice, with a limit."""

    def __init__(self, part: FileSlice, suffix: str) -> None:
        self._part, self._plain = part, OPENERS[suffix](cast(BinaryIO, part))
        self._total_bytes = 0

    def read(self, size: int) -> bytes:
        """Return so many bytes; fewer at the end, which has been checked then."""
        data = self._plain.read(size)
        if len(data) < size:
            data = b"".join((data, *self._more(size - len(data))))
        self._total_bytes += len(data)
        if self._total_bytes > FREE_BYTES and self._total_bytes > MAX_RATIO * self._part.used:
            raise DamagedArchive(f"it unpacks to more than {MAX_RATIO} times its size")
        if self._total_bytes > UNPACKED_LIMIT_BYTES:
            raise DamagedArchive(f"it unpacks to more than {UNPACKED_LIMIT_BYTES >> 30} GiB")
        return data

    def _more(self, size: int) -> Iterator[bytes]:
        while size and (data := self._plain.read(size)):
            size -= len(data)
            yield data


def unpacking(file: BinaryIO, offset: int = 0, size: int | None = None) -> Bounded:
    """Return a part of a file, decompressed as its first bytes say."""
    file.seek(offset)
    suffix = suffix_of(file.read(MAGIC_BYTES))
    return Bounded(FileSlice(file, offset, file.seek(0, io.SEEK_END) - offset if size is None else size), suffix)


class BoundedTarInfo(tarfile.TarInfo):
    """A tar header of the types that deb(5) permits."""

    types: ClassVar[tuple[bytes, ...]] = (*_PLAIN_TYPES, *_LONG_TYPES)
    limit_bytes: ClassVar[int] = UNPACKED_LIMIT_BYTES
    """Limit of a file."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header. Unlike in tarfile, a missing end mark is damage."""
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise DamagedArchive(f"its tar archive is truncated or corrupt: {error}") from error
        limit = cls.limit_bytes if header.type in (*_PLAIN_TYPES, tarfile.GNUTYPE_SPARSE) else LONG_NAME_BYTES
        if header.type not in cls.types:
            raise DamagedArchive(f"{header.name!r} has the forbidden tar type {header.type!r}")
        if not 0 <= header.size <= limit:
            raise DamagedArchive(f"invalid size of {header.name!r}: {header.size} bytes")
        return header


class BoundedTarFile(tarfile.TarFile):
    """A tar archive with limits on its members."""

    tarinfo: type[BoundedTarInfo] = BoundedTarInfo

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._count = self._headers_bytes = 0
        super().__init__(*arguments, **named)

    def next(self) -> tarfile.TarInfo | None:
        """Return the next member."""
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise DamagedArchive(f"it has more than {MAX_MEMBERS} files")
        member = super().next()
        if member is None:
            return None
        if not 0 <= member.size <= self.tarinfo.limit_bytes:  # set by an extended header
            raise DamagedArchive(f"invalid size of {member.name[:200]!r}: {member.size} bytes")
        self._headers_bytes += len(member.name) + len(member.linkname)
        self._headers_bytes += sum(len(name) + len(str(value)) for name, value in member.pax_headers.items())
        if self._headers_bytes > HEADERS_BYTES:
            raise DamagedArchive(f"its names and headers exceed {HEADERS_BYTES >> 20} MiB in total")
        if extents_of(member) is not None:
            member.sparse = _checked_extents(member)  # type: ignore[assignment]
        return member


def extents_of(file: tarfile.TarInfo) -> list[tuple[int, int]] | None:
    """Return offsets and sizes of a sparse file's data extents; None if not sparse."""
    return cast("list[tuple[int, int]] | None", file.sparse)


def _checked_extents(file: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Return a sparse file's data extents.

    tarfile never finishes reading overlapping extents.

    Raises DamagedArchive if they overlap, or exceed the file.
    """
    extents, end = [(offset, size) for offset, size in extents_of(file) or () if size], 0
    if len(extents) > MAX_EXTENTS:
        raise DamagedArchive(f"{file.name[:200]!r} has more than {MAX_EXTENTS} extents")
    for offset, size in extents:
        if size < 0 or offset < end:
            raise DamagedArchive(f"the extents of {file.name[:200]!r} overlap")
        end = offset + size
    if end > file.size:
        raise DamagedArchive(f"the extents of {file.name[:200]!r} exceed its size")
    return extents


class PaxHeader(BoundedTarInfo):
    """A tar header that also permits POSIX extended headers (pax(1)), as in images."""

    types: ClassVar[tuple[bytes, ...]] = (*_PLAIN_TYPES, *_LONG_TYPES, *_PAX_TYPES, tarfile.GNUTYPE_SPARSE)

    def _proc_sparse(self, archive: tarfile.TarFile) -> Self:
        """Read the sparse map of GNU's old format, with a limit on its length."""
        extents, more, size = self._sparse_structs  # type: ignore[attr-defined]
        del self._sparse_structs  # type: ignore[attr-defined]
        block, data_bytes = archive.fileobj, self.size
        assert block
        while more:
            data = block.read(tarfile.BLOCKSIZE)
            if len(data) < tarfile.BLOCKSIZE or len(extents) > MAX_EXTENTS:
                raise DamagedArchive(f"the sparse map of {self.name[:200]!r} is truncated or too long")
            values = (tarfile.nti(data[at : at + 12]) for at in range(0, 504, 12))  # type: ignore[attr-defined]
            extents += [(offset, count) for offset, count in zip(values, values, strict=True) if offset and count]
            more = bool(data[504])
        self.sparse = extents
        self.offset_data = block.tell()
        archive.offset = self.offset_data + -(-data_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        self.size = size
        return self

    def _proc_gnusparse_10(self, following: tarfile.TarInfo, _headers: object, archive: tarfile.TarFile) -> None:
        """Read the sparse map of GNU's PAX format 1.0, which precedes the data."""
        file = archive.fileobj
        assert file
        numbers, rest, count = list[int](), b"", 1
        while len(numbers) < count:
            while b"\n" not in rest:
                data = file.read(tarfile.BLOCKSIZE)
                if not data or len(rest) > tarfile.BLOCKSIZE:
                    raise DamagedArchive(f"the sparse map of {following.name[:200]!r} is truncated")
                rest += data
            text, _, rest = rest.partition(b"\n")
            numbers.append(int(text[:20]))
            count = 1 + 2 * numbers[0]
            if not 0 <= numbers[0] <= MAX_EXTENTS:
                raise DamagedArchive(f"the sparse map of {following.name[:200]!r} is too long")
        following.offset_data = file.tell()
        following.sparse = list(zip(numbers[1::2], numbers[2::2], strict=True))  # type: ignore[assignment]


class PaxArchive(BoundedTarFile):
    """A tar archive that may have extended headers and sparse files."""

    tarinfo = PaxHeader
