"""A package of apk 2 (apk-package(5)).

It is a sequence of gzip streams, with the signature, the control data and the files, that make one tar archive.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bootmatrix.errors import BuildError
from bootmatrix.source.kernel_formats.member import Member, checked, of_tar, starts_with
from bootmatrix.source.safe_archive import FileSlice, open_tar

DESCRIPTION = "an apk package"
ORDER = 60
_VERSION_3 = b"ADB"
_FIRST = (b".SIGN.", b".PKGINFO\0")
_START_BYTES = 4096


def recognises(path: Path) -> bool:
    """Match the name of the first member, or the magic of the newer format."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    with suppress(zlib.error):
        return start.startswith(_VERSION_3) or zlib.decompressobj(31).decompress(start, 512).startswith(_FIRST)
    return False


def paths(path: Path) -> list[Path]:
    return [path]


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    """Iterate over its files.

    Raises:
        BuildError: the package is damaged, or of the format of apk 3.
    """
    if starts_with(path, _VERSION_3):
        raise BuildError(f"{path}: packages of apk 3 are not supported", "Name the kernel image itself.")
    return checked(_members(path), path, DESCRIPTION)


def _members(path: Path) -> Iterator[Member]:
    with path.open("rb") as file, open_tar(FileSlice(file, 0, path.stat().st_size), ".gz", pax=True) as archive:
        yield from of_tar(archive)
