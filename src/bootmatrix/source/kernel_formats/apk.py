"""A package of apk 2 (apk-package(5)).

It is a sequence of gzip streams, with the signature, the control data and the files, that make one tar archive. Files
are read from the last of them only: nothing vouches for what the first one has.
"""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from bootmatrix.errors import BuildError
from bootmatrix.source.compressed import DamagedArchive
from bootmatrix.source.kernel_formats.member import Member, checked, of_tar, starts_with
from bootmatrix.source.safe_archive import open_packed_tar

DESCRIPTION = "an apk package"
ORDER = 60
VERSION_3 = b"ADB"
"""Magic of packages and indexes of apk 3 (apk-v3(5)), which no well-kept reader in Python supports."""
_FIRST = (b".SIGN.", b".PKGINFO\0")
_SIGNATURE = b".SIGN."
_START_BYTES = 4096
_PIECE_BYTES = 1 << 16
_SKIPPED_LIMIT_BYTES = 64 << 20
"""Signatures and control data, unpacked; those of kernels have a few KiB."""


def recognises(path: Path) -> bool:
    """Match the name of the first member, or the magic of the newer format."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    with suppress(zlib.error):
        return start.startswith(VERSION_3) or zlib.decompressobj(31).decompress(start, 512).startswith(_FIRST)
    return False


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    """Iterate over its files. Raises BuildError if damaged, or of apk 3."""
    if starts_with(path, VERSION_3):
        raise BuildError(f"{path}: packages of apk 3 are not supported", "Name the kernel image itself.")
    return checked(_members(path), path, DESCRIPTION)


def parts_of(file: BinaryIO) -> tuple[int, int]:
    """Return where control data and files begin, in bytes. Raises FAULTS."""
    first = end_of_stream(file, 0)
    file.seek(0)
    is_signed = zlib.decompressobj(31).decompress(file.read(_START_BYTES), len(_SIGNATURE)) == _SIGNATURE
    return (first, end_of_stream(file, first)) if is_signed else (0, first)


def end_of_stream(file: BinaryIO, offset: int, limit_bytes: int = _SKIPPED_LIMIT_BYTES) -> int:
    """Return the end of the gzip stream that begins at an offset.

    Raises FAULTS if it is damaged, or unpacks to more than the limit.
    """
    file.seek(offset)
    stream, size, packed = zlib.decompressobj(31), 0, b""  # 31: with gzip's header (zlib.h)
    while not stream.eof:
        packed = packed or file.read(_PIECE_BYTES)
        if not packed:
            raise EOFError("it is truncated")
        size += len(stream.decompress(packed, _PIECE_BYTES))
        if size > limit_bytes:
            raise DamagedArchive(f"a part of it has more than {limit_bytes >> 20} MiB")
        packed = stream.unconsumed_tail
    return file.tell() - len(stream.unused_data)


def _members(path: Path) -> Iterator[Member]:
    with path.open("rb") as file:
        _, start = parts_of(file)
        with open_packed_tar(file, start) as archive:
            yield from of_tar(archive)
