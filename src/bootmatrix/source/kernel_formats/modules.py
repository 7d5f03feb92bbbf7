"""A folder of modules, as filled by `make modules_install`.

lib/modules/<release> is below it or above it.
"""

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.errors import BuildError
from bootmatrix.source.kernel_formats.member import Member, of_file
from bootmatrix.source.kernel_formats.tree import check_inside

DESCRIPTION = "a folder of modules"
ORDER = 90
PATTERNS = ("*.ko", "*.ko.gz", "*.ko.xz", "*.ko.zst", "modules.builtin", "modules.builtin.modinfo")


def recognises(path: Path) -> bool:  # noqa: ARG001  (protocol)
    """Return False: a folder of modules is named explicitly."""
    return False


def paths(path: Path) -> list[Path]:
    """List the modules, and the list of built-in modules."""
    files = sorted({file for pattern in PATTERNS for file in path.rglob(pattern) if file.is_file()})
    for file in files:
        if ".ko" not in file.resolve().suffixes:  # a link may lead to another kernel's module, as in weak-updates
            check_inside(file, path)
    return files


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    """Iterate over modules by host paths. Raises BuildError without any."""
    files = paths(path)
    if not files:
        raise BuildError(f"no modules found in {path}", "Fill it with `make modules_install INSTALL_MOD_PATH=…`.")
    for file in files:
        yield of_file(file, file.resolve().as_posix().lstrip("/"))
