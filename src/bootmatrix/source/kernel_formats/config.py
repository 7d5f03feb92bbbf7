"""A kernel's configuration, named beside a kernel without one."""

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.source.kernel_formats.member import Member, of_file

DESCRIPTION = "a configuration"
ORDER = 100


def recognises(path: Path) -> bool:  # noqa: ARG001  (protocol)
    """Return False: a configuration is named explicitly."""
    return False


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    yield of_file(path, ".config")
