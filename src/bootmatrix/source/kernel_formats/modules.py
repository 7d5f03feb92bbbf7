"""A folder of modules, as `make modules_install` fills it: below it, or above it, is lib/modules/<release>."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.errors import BuildError
from bootmatrix.source.kernel_formats.member import Member, of_file

DESCRIPTION = "a folder of modules"
ORDER = 90
PATTERNS = ("*.ko", "*.ko.gz", "*.ko.xz", "*.ko.zst", "modules.builtin", "modules.builtin.modinfo")


def recognises(path: Path) -> bool:  # noqa: ARG001  (it is named, never recognised)
    """Never."""
    return False


def paths(path: Path) -> list[Path]:
    """Modules, and the list of those that are built in."""
    return sorted({file for pattern in PATTERNS for file in path.rglob(pattern) if file.is_file()})


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (of every kind)
    """The modules, by their paths from the host's root.

    Raises:
        BuildError: there are none.
    """
    found = paths(path)
    if not found:
        raise BuildError(f"there are no modules in {path}", "Fill it with `make modules_install INSTALL_MOD_PATH=…`.")
    for file in found:
        yield of_file(file, file.resolve().as_posix().lstrip("/"))
