"""A kernel's own file: bzImage, Image, zImage, vmlinux, packed or not. Its bytes tell which, by the profiles' data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.source.kernel_formats.member import Member, of_file

DESCRIPTION = "a kernel"
ORDER = 80


def recognises(path: Path) -> bool:
    """Any file: what it is will show."""
    return path.is_file()


def paths(path: Path) -> list[Path]:
    """The file."""
    return [path]


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (of every kind)
    """The kernel."""
    yield of_file(path, "boot/vmlinuz")
