"""An RPM package: a lead, two headers, and a compressed cpio archive of files.

The format is rpm.org's version 4. Only the length of the headers is needed, so they are skipped. The library rpmfile
unpacks archives of any size into memory, so it is unsuitable for untrusted packages.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bootmatrix.source.compressed import DamagedArchive
from bootmatrix.source.kernel_formats.member import FILE_LIMIT_BYTES, Member, checked, starts_with
from bootmatrix.source.safe_archive import MAX_MEMBERS, Bounded, unpacking

DESCRIPTION = "an RPM package"
ORDER = 50
_LEAD = b"\xed\xab\xee\xdb"
_LEAD_BYTES = 96
_HEADER = b"\x8e\xad\xe8\x01"
_CPIO = (b"070701", b"070702")
_CPIO_HEADER_BYTES = 110
_NAME_LIMIT_BYTES = 4096
_REGULAR = 0o100000


def recognises(path: Path) -> bool:
    """Match the magic of the lead."""
    return starts_with(path, _LEAD)


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    """Iterate over its files. Raises BuildError if the package is damaged."""
    return checked(_members(path), path, DESCRIPTION)


def _members(path: Path) -> Iterator[Member]:
    with path.open("rb") as file:
        offset = _end_of_header(file, _LEAD_BYTES)
        offset = _end_of_header(file, -(-offset // 8) * 8)  # the signature is padded to eight bytes
        if path.stat().st_size <= offset:
            raise DamagedArchive("truncated before its files")
        yield from _cpio(_Exact(unpacking(file, offset)))


def _end_of_header(file: BinaryIO, offset: int) -> int:
    """Return the end of a header: 16 bytes, entries of 16 bytes, and their data."""
    file.seek(offset)
    start = file.read(16)
    if len(start) < 16 or not start.startswith(_HEADER):
        raise DamagedArchive(f"expected a header at byte {offset}")
    entries, data_bytes = struct.unpack(">II", start[8:])
    return offset + 16 + 16 * int(entries) + int(data_bytes)


class _Exact:
    """A stream that returns exactly the requested number of bytes."""

    def __init__(self, plain: Bounded) -> None:
        self._plain, self.offset = plain, 0

    def read(self, size: int) -> bytes:
        """Read `size` bytes. Raises DamagedArchive if the stream ends early."""
        parts, left = [], size
        while left:
            part = self._plain.read(min(left, 1 << 20))
            if not part:
                raise DamagedArchive("its files are truncated")
            parts.append(part)
            left -= len(part)
        self.offset += size
        return b"".join(parts)

    def drain(self) -> None:
        """Read to the end, to notice truncation."""
        while self._plain.read(1 << 20):
            pass

    def align(self) -> None:
        """Skip to a multiple of four bytes."""
        self.read(-self.offset % 4)


def _cpio(stream: _Exact) -> Iterator[Member]:
    """Iterate over the regular files of a newc archive (cpio(5)).

    Of hard links the last one has the data.
    """
    for _ in range(MAX_MEMBERS):
        header = stream.read(_CPIO_HEADER_BYTES)
        if not header.startswith(_CPIO):
            raise DamagedArchive("its files are not in a cpio archive")
        try:
            mode, size, name_bytes = (int(header[start : start + 8], 16) for start in (14, 54, 94))
        except ValueError as error:
            raise DamagedArchive("invalid number in a header of its cpio archive") from error
        if not 0 < name_bytes <= _NAME_LIMIT_BYTES or size > FILE_LIMIT_BYTES:
            raise DamagedArchive(f"a name of {name_bytes} bytes, or a file of {size}")
        name = stream.read(name_bytes)[:-1].decode(errors="replace")
        stream.align()
        if name == "TRAILER!!!":
            stream.drain()
            return
        data = stream.read(size)
        stream.align()
        if mode & 0o170000 == _REGULAR:
            yield Member(name.removeprefix("./").lstrip("/"), size, lambda data=data: data)  # type: ignore[misc]
    raise DamagedArchive(f"it has more than {MAX_MEMBERS} files")
