"""Bounded readers of untrusted compressed streams and tar archives."""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO, ClassVar, Self, cast

import zstandard

from bootmatrix.source.compressed import MAGIC_BYTES, OPENERS, DamagedArchive, suffix_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

UNPACKED_LIMIT_BYTES = 4 << 30
FREE_BYTES = 128 << 20
MAX_RATIO = 200
"""Compression ratio of a bomb, for data beyond FREE_BYTES. Real packages stay below 50."""
MAX_MEMBERS = 250_000
"""Twice the number of files of Debian's largest packages."""
LONG_NAME_BYTES = 1 << 16
HEADERS_BYTES = 256 << 20
"""Limit of all names, extended headers and extents of an archive, which are held in memory."""
RECORD_BYTES = 150
"""Memory of an extended header's record, or an extent, beside its texts."""
XATTR = "SCHILY.xattr."
"""Begins the records of extended attributes, which are kept."""
MAX_EXTENTS = 1 << 16
"""Limit of data extents in a sparse file."""

_PLAIN_TYPES = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_LONG_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


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
        # The others have been applied, and every member would keep them.
        own = {name: value for name, value in member.pax_headers.items() if name.startswith(XATTR)}
        member.pax_headers = own
        self.count_headers(len(member.name) + len(member.linkname), 0)
        self.count_headers(sum(len(name) + len(value) for name, value in own.items()), len(own))
        if extents_of(member) is not None:
            member.sparse = extents = _checked_extents(member)  # type: ignore[assignment]
            self.count_headers(0, len(extents))
        return member

    def count_headers(self, size_bytes: int, records: int) -> None:
        """Count what is held in memory. Raises DamagedArchive beyond the limit."""
        self._headers_bytes += size_bytes + records * RECORD_BYTES
        if self._headers_bytes > HEADERS_BYTES:
            raise DamagedArchive(f"its names and headers exceed {HEADERS_BYTES >> 20} MiB in total")


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


_PAX_RECORD = re.compile(rb"([0-9]{1,6}) ([^=]+)=")
_KEPT_RECORDS = re.compile(
    r"path|linkpath|size|mtime|uid|gid|uname|gname|SCHILY\.xattr\..*"
    r"|GNU\.sparse\.(?:name|size|realsize|map|major|minor|offset|numbytes)",
    re.DOTALL,
)
_OLD_EXTENTS = ("GNU.sparse.offset", "GNU.sparse.numbytes")
"""Records of a sparse file of GNU's PAX format 0.0, one of each for an extent."""


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the records of an extended header that have a meaning here.

    Raises DamagedArchive if one is not of the form `LENGTH KEY=VALUE` (pax(1)).
    """
    position = 0
    while position < len(data) and data[position]:
        match = _PAX_RECORD.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise DamagedArchive("an extended header of its tar archive is corrupt")
        name, value = (text.decode("utf-8", "surrogateescape") for text in (match[2], data[match.end() : end - 1]))
        if _KEPT_RECORDS.fullmatch(name):
            yield name, value
        position = end


class PaxHeader(BoundedTarInfo):
    """A tar header that also permits POSIX extended headers (pax(1)), as in images."""

    types: ClassVar[tuple[bytes, ...]] = (*_PLAIN_TYPES, *_LONG_TYPES, *_PAX_TYPES, tarfile.GNUTYPE_SPARSE)

    def _proc_pax(self, archive: BoundedTarFile) -> tarfile.TarInfo:
        """Read an extended header, of the next file or of all that follow.

        tarfile takes hours for some, and keeps what nobody reads, for each file anew.
        """
        assert archive.fileobj
        data = archive.fileobj.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        records = list(_records(data[: self.size]))
        archive.count_headers(self.size, 0)
        is_global = self.type == tarfile.XGLTYPE
        headers = cast(dict[str, str], archive.pax_headers) if is_global else {**archive.pax_headers}
        headers.update(records)
        try:
            following = self.fromtarfile(archive)
        except tarfile.HeaderError as error:
            raise DamagedArchive(f"its tar archive is truncated or corrupt: {error}") from error
        if "GNU.sparse.map" in headers:
            self._proc_gnusparse_01(following, headers)  # type: ignore[attr-defined]
        elif "GNU.sparse.size" in headers:
            offsets, counts = ([int(text) for key, text in records if key == name] for name in _OLD_EXTENTS)
            following.sparse = list(zip(offsets, counts, strict=False))  # type: ignore[assignment]
        elif (headers.get("GNU.sparse.major"), headers.get("GNU.sparse.minor")) == ("1", "0"):
            self._proc_gnusparse_10(following, headers, archive)
        if not is_global:
            following._apply_pax_info(headers, archive.encoding, archive.errors)  # type: ignore[attr-defined]
            following.offset = self.offset
            if "size" in headers:
                has_data = following.isreg() or following.type not in tarfile.SUPPORTED_TYPES
                blocks = -(-following.size // tarfile.BLOCKSIZE) if has_data else 0
                archive.offset = following.offset_data + blocks * tarfile.BLOCKSIZE
        return following

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
