"""The root as a disk, and a small initrd with the drivers that finds it."""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bootmatrix.assembly.formats import Format, Maker
from bootmatrix.assembly.formats.media import pad
from bootmatrix.assembly.formats.source import Source
from bootmatrix.assembly.formats.tools import run, versions
from bootmatrix.assembly.image_disks import DISK_BLOCK_BYTES
from bootmatrix.assembly.initrd.cpio import compress, write_cpio
from bootmatrix.assembly.initrd.segments import PROGRAM, shell_program
from bootmatrix.assembly.kernel.package import load_order, module_tree
from bootmatrix.assembly.tree import EPOCH_S, Node, Tree, directory, text_file, write_tar
from bootmatrix.errors import BuildError
from bootmatrix.packaged import packaged

MARK = "etc/bootmatrix/root"
"""A file of the root by which it is known among all disks."""
INIT = "assembly/formats/roots.sh"
SQUASHFS_MEMORY = "64M"
"""Memory for its queues, by default a quarter of the host's. The output does not depend on it."""


@dataclass(frozen=True)
class RootKind:
    """A root file system: Linux's name, its module, and its mkfs program."""

    type: str
    module: str
    maker: str


KINDS: Mapping[str, RootKind] = {
    "squashfs": RootKind("squashfs", "squashfs", "sqfstar"),
    "erofs": RootKind("erofs", "erofs", "mkfs.erofs"),
    "iso": RootKind("iso9660", "isofs", "xorriso"),
}


def root(source: Source, kind: str) -> Path:
    """Write a file system of the root, without the kernel; changes go to memory."""
    writers = {"squashfs": _write_squashfs, "erofs": _write_erofs, "iso": _write_iso}
    return source.kept(f"root-{kind}", lambda path: writers[kind](source, path), *versions(KINDS[kind].maker))


def _tree(source: Source) -> Tree:
    tree = source.assembly.whole()
    for folder in ("dev", "proc", "sys", "run", "tmp"):
        if tree.get(folder) is None:
            tree.put(folder, directory())
    tree.put(MARK, text_file(source.id + "\n"))
    return tree


def _feed(source: Source, pipe: IO[bytes]) -> None:
    with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
        write_tar(_tree(source), archive, EPOCH_S)


def _write_squashfs(source: Source, path: Path) -> None:
    options = ["-no-xattrs", "-quiet", "-no-progress", "-exit-on-error", "-comp", "zstd", "-mem", SQUASHFS_MEMORY]
    run("sqfstar", [*options, path], lambda pipe: _feed(source, pipe))
    pad(path, DISK_BLOCK_BYTES)


def _write_erofs(source: Source, path: Path) -> None:
    options = ["--quiet", "-zlz4hc", f"-T{EPOCH_S}", f"-U{source.uuid('erofs')}", "-x-1"]
    _from_folder(source, path, f'mkfs.erofs {" ".join(options)} "$0" "$1"')


def _write_iso(source: Source, path: Path) -> None:
    options = "-as mkisofs -quiet -R -V BOOTMATRIX -no-pad --set_all_file_dates set_to_mtime"
    _from_folder(source, path, f'xorriso {options} -o "$0" "$1"')


def _from_folder(source: Source, path: Path, command: str) -> None:
    """Run a mkfs program on a folder that appears to it with devices and all owners."""
    folder = path.with_name("root")
    folder.mkdir()
    folder.chmod(0o755)
    unpack = 'tar --extract --numeric-owner --preserve-permissions --same-owner --delay-directory-restore -C "$1" -f -'
    script = f'set -e; {unpack}; touch -d @{EPOCH_S} "$1"; {command} >/dev/null'
    run("fakeroot", ["--", "sh", "-c", script, path, folder], lambda pipe: _feed(source, pipe))
    pad(path, DISK_BLOCK_BYTES)


def finder(source: Source, kind: str) -> Path:
    """Build the initrd that finds a root: a shell, and modules for disk and fs.

    Raises BuildError if the kernel lacks a module.
    """
    return source.kept(f"finder-{kind}", lambda path: _write_finder(source, KINDS[kind], path), packaged(INIT))


def _write_finder(source: Source, kind: RootKind, path: Path) -> None:
    assembly = source.assembly
    names = (*assembly.machine.modules, "virtio_blk", kind.module, "overlay")
    modules, missing = load_order(assembly.files, names)
    if lacking := [name for name in missing if name in {kind.module, "overlay"}]:
        raise BuildError(f"the kernel {assembly.kernel.name} has no module {lacking[0]}", "Choose another format.")
    tree = module_tree(assembly.kernel, assembly.files, modules, source.store)
    text = packaged(INIT, type=kind.type, mark=MARK, id=source.id)
    tree.put(PROGRAM, shell_program(assembly.profile, assembly.builder))
    tree.put("dev/console", Node("char", 0o600, device=(5, 1)))
    tree.put("init", text_file(text, 0o755))
    with path.open("wb") as file:
        for piece in compress(write_cpio(tree, EPOCH_S)):
            file.write(piece)


def _files(suffix: str, kind: str) -> dict[str, Maker]:
    return {
        "-kernel": Source.kernel,
        "-cmdline": Source.cmdline_file,
        f"-{kind}-initrd.img": lambda source: finder(source, kind),
        suffix: lambda source: root(source, kind),
    }


SQUASHFS = Format("kernel, root as squashfs", _files("-squashfs.img", "squashfs"), boots="root")
EROFS = Format("kernel, root as EROFS", _files("-erofs.img", "erofs"), boots="root")
ISO = Format("kernel, root as ISO 9660", _files(".iso", "iso"), boots="root")
