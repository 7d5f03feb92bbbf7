"""A kernel's build tree, after `make`: its files where make leaves them, and modules as modules.order lists them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.source.kernel_formats.member import Member, of_file

DESCRIPTION = "a build tree of Linux"
ORDER = 20
MODULES_ORDER = "modules.order"
RELEASE = "include/config/kernel.release"
IMAGES = ("arch/*/boot/bzImage", "arch/*/boot/[Izv]*mage", "arch/*/boot/vmlinuz*", "vmlinux")
"""Where kernels are; which of them a machine takes shows by their bytes."""
_OTHERS = (".config", RELEASE, "modules.builtin")


def recognises(path: Path) -> bool:
    """By what make writes first."""
    return (path / ".config").is_file() and (path / "include/config").is_dir()


def paths(path: Path) -> list[Path]:
    """Kernels first, then what goes with them."""
    images = [file for pattern in IMAGES for file in sorted(path.glob(pattern)) if _is_inside(file, path)]
    others = [path / name for name in _OTHERS if (path / name).is_file()]
    trees = sorted(path.glob("arch/*/boot/dts/**/*.dtb"))
    return [*dict.fromkeys(images), *others, *trees, *_modules(path)]


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (of every kind)
    """All of these; a module's path goes on after `kernel/`."""
    for file in paths(path):
        name = file.relative_to(path).as_posix()
        yield of_file(file, f"lib/modules/tree/kernel/{name}" if name.endswith(".ko") else name)


def _is_inside(file: Path, path: Path) -> bool:
    """Whether it is a file of the tree, and no link to another one there."""
    return file.is_file() and not file.is_symlink() and file.resolve().is_relative_to(path.resolve())


def _modules(path: Path) -> list[Path]:
    """Modules in the order in which make lists them, `x.ko` or, from Linux 6.2 on, `x.o`."""
    listed = path / MODULES_ORDER
    if not listed.is_file():
        return []
    names = listed.read_text(encoding="utf-8", errors="replace").split()
    files = [path / f"{name.removeprefix('kernel/').rpartition('.')[0]}.ko" for name in names]
    return [file for file in dict.fromkeys(files) if ".." not in file.parts and _is_inside(file, path)]
