"""A kernel's build tree after `make`, with the modules of modules.order."""

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.errors import BuildError, InputError
from bootmatrix.source.kernel_formats.member import Member, of_file

DESCRIPTION = "a build tree of Linux"
ORDER = 20
CONFIG = ".config"
MODULES_ORDER = "modules.order"
RELEASE = "include/config/kernel.release"
IMAGES = ("arch/*/boot/bzImage", "arch/*/boot/[Izv]*mage", "arch/*/boot/vmlinuz*", "vmlinux")
"""Paths of kernel images. Their bytes decide which of them a machine boots."""
_OTHERS = (CONFIG, RELEASE, "modules.builtin")


def recognises(path: Path) -> bool:
    """Match the files that make writes first."""
    return (path / CONFIG).is_file() and (path / "include/config").is_dir()


def paths(path: Path) -> list[Path]:
    """List kernels first, then configuration, device trees and modules."""
    images = find_images(path)
    others = [path / name for name in _OTHERS if (path / name).is_file()]
    trees = sorted(path.glob("arch/*/boot/dts/**/*.dtb"))
    for file in (*others, *trees):
        check_inside(file, path)
    return [*images, *others, *trees, *_modules(path)]


def find_images(path: Path) -> list[Path]:
    """List the files of a tree that may be its kernel."""
    images = (file for pattern in IMAGES for file in sorted(path.glob(pattern)) if _is_inside(file, path))
    return list(dict.fromkeys(images))


def is_outdated(path: Path) -> bool:
    """Return whether a configuration is newer than its kernels."""
    newest = max((file.stat().st_mtime for file in find_images(path)), default=None)
    return newest is not None and (path / CONFIG).stat().st_mtime > newest


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    """Iterate over these files. A module's path continues after `kernel/`.

    Raises BuildError if the tree has no kernel.
    """
    if not find_images(path):
        raise BuildError(f"{path}: a build tree without a kernel: no arch/*/boot image", "Has make finished?")
    for file in paths(path):
        name = file.relative_to(path).as_posix()
        yield of_file(file, f"lib/modules/tree/kernel/{name}" if name.endswith(".ko") else name)


def _is_inside(file: Path, path: Path) -> bool:
    """Return whether a file is in the tree, and not a link."""
    return file.is_file() and not file.is_symlink() and file.resolve().is_relative_to(path.resolve())


def check_inside(file: Path, path: Path) -> None:
    """Refuse a link out of a kernel's folder, which may be anybody's.

    The guest gets what the file contains. Raises InputError.
    """
    if not file.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{file}: a link out of {path}", "Copy the file into the folder.")


def _modules(path: Path) -> list[Path]:
    """List modules in make's order: `x.ko` or, from Linux 6.2 on, `x.o`."""
    listed = path / MODULES_ORDER
    if not listed.is_file():
        return []
    check_inside(listed, path)
    names = listed.read_text(encoding="utf-8", errors="replace").split()
    modules = [f"{name.removeprefix('kernel/').rpartition('.')[0]}.ko" for name in names if ".." not in name.split("/")]
    return [path / module for module in dict.fromkeys(modules) if _is_inside(path / module, path)]
