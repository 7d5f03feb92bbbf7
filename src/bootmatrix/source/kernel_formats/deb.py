"""A Debian package of a kernel, as made by `make bindeb-pkg` and Debian."""

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.source.deb import open_data
from bootmatrix.source.kernel_formats.member import Member, of_tar, starts_with

DESCRIPTION = "a Debian package"
ORDER = 40


def recognises(path: Path) -> bool:
    """Match the magic of an ar archive."""
    return starts_with(path, b"!<arch>\n")


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    with open_data(path) as archive:
        yield from of_tar(archive)
