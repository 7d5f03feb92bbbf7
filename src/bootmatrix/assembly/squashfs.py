"""Uncompressed squashfs disks of trees, which guests mount without unpacking them."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from bootmatrix.assembly.tree import Tree, write_tar
from bootmatrix.errors import HostError
from bootmatrix.store import Store, sha256_of

DISK_BLOCK_BYTES = 64 << 10
"""Larger than any page: the guest reads whole pages, also the last one."""
PACKER = "sqfstar"
COMPLAINT_CHARACTERS = 400


def write_disk(tree: Tree, mtime_s: int, store: Store) -> tuple[str, int]:
    """Write a tree as an uncompressed squashfs into the store; return digest and bytes.

    Raises HostError if squashfs-tools are not installed, or fail.
    """
    with store.workspace() as folder:
        path = folder / "disk"
        _pack(tree, mtime_s, path)
        with path.open("r+b") as file:
            size = file.seek(0, 2)
            size += -size % DISK_BLOCK_BYTES
            file.truncate(size)
        digest = sha256_of(path)
        store.keep(path, digest)
    return digest, size


def _pack(tree: Tree, mtime_s: int, path: Path) -> None:
    options = ("-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-quiet", "-no-progress", "-exit-on-error")
    times = ("-mkfs-time", str(mtime_s), "-root-time", str(mtime_s))
    try:
        packer = subprocess.Popen(
            [PACKER, *options, *times, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise HostError(f"{PACKER} is not installed", "Install it: sudo apt-get install squashfs-tools") from error
    with packer:
        assert packer.stdin
        assert packer.stderr
        try:
            with tarfile.open(fileobj=packer.stdin, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
                write_tar(tree, archive, mtime_s)
            packer.stdin.close()
        except BrokenPipeError:
            pass  # it says why
        complaint = packer.stderr.read().decode("utf-8", "replace").strip()
    if packer.returncode:
        raise HostError(f"{PACKER} failed with status {packer.returncode}: {complaint[-COMPLAINT_CHARACTERS:]}")
