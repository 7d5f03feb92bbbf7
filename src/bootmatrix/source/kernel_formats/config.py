"""A kernel's configuration, named beside a kernel that comes without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.source.kernel_formats.member import Member, of_file

DESCRIPTION = "a configuration"
ORDER = 100


def recognises(path: Path) -> bool:  # noqa: ARG001  (it is named, never recognised)
    """Never."""
    return False


def paths(path: Path) -> list[Path]:
    """The file."""
    return [path]


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (of every kind)
    """The configuration."""
    yield of_file(path, ".config")
