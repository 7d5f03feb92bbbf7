"""Uncompressed squashfs disks with the roots of large images.

Each is packed once, for all kernels and specs.

A guest mounts such a disk instead of unpacking it, and needs no memory for what it does not read.
"""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.image.roots import completed
from bootmatrix.assembly.initrd.bundle import disk_serial
from bootmatrix.assembly.initrd.bundle_spec import BundleSpec
from bootmatrix.assembly.kernel.package import KernelFiles, load_order
from bootmatrix.assembly.tree import EPOCH_S, Tree, write_tar
from bootmatrix.errors import BuildError, HostError
from bootmatrix.model import Artefact, Machine, RootPlace, StoredImage
from bootmatrix.qemu.command import DISK_BUSES
from bootmatrix.store import Store, sha256_of

LABEL = "bootmatrix.roots"
"""Label of an init image whose init mounts roots from disks."""
MODULES = ("virtio_blk", "squashfs", "overlay")
SCRATCH_MODULES = ("virtio_blk", "ext4", "overlay")
FORMAT = 1
"""Changes whenever the same image would give another disk."""
MIN_BYTES = 8 << 20
"""Smaller images are unpacked as fast as a disk is mounted: docs/speed.md."""
MAX_DISKS = 6
"""Some boards have few slots on their bus."""


def images_on_disk(
    place: RootPlace, machine: Machine, files: KernelFiles, bundles: Sequence[BundleSpec], init: Iterable[StoredImage]
) -> tuple[StoredImage, ...]:
    """Return the images whose roots are on disks, the largest first.

    Raises BuildError if the roots must be on disks, and cannot be.
    """
    if place == "ram":
        return ()
    reason = _why_not(machine, files, init, MODULES)
    if not reason and shutil.which(PACKER) is None:
        reason = f"{PACKER} of squashfs-tools is not installed"
    if place == "disk" and reason:
        raise BuildError(f"the roots of containers cannot be on disks: {reason}", "Use --roots auto or ram.")
    if reason:
        return ()
    images = {bundle.image.digest: bundle.image for bundle in bundles}.values()
    large = [image for image in images if place == "disk" or image.size_bytes >= MIN_BYTES]
    return tuple(sorted(large, key=lambda image: (-image.size_bytes, image.digest))[:MAX_DISKS])


def check_scratch(machine: Machine, files: KernelFiles, init: Iterable[StoredImage]) -> None:
    """Check that a guest can use a scratch disk. Raises BuildError if not."""
    if reason := _why_not(machine, files, init, SCRATCH_MODULES):
        raise BuildError(f"the guest cannot have a scratch disk: {reason}", "Leave out --disk, or exclude this cell.")


def _why_not(machine: Machine, files: KernelFiles, init: Iterable[StoredImage], modules: tuple[str, ...]) -> str:
    if machine.bus not in DISK_BUSES:
        return "the machine has no virtio bus"
    if not any(LABEL in image.config.labels for image in init):
        return f"no init image has the label {LABEL}"
    missing = [name for name in load_order(files, modules)[1] if name in modules]
    return f"the kernel has no module {missing[0]}" if missing else ""


def image_disks(images: Collection[StoredImage], store: Store) -> tuple[Artefact, ...]:
    """Return the disks of images, packed if missing; names are serial numbers.

    Raises HostError if squashfs-tools are not installed, or fail.
    """
    return tuple(_disk(image, store) for image in images)


def _disk(image: StoredImage, store: Store) -> Artefact:
    def make() -> tuple[str, int]:
        return write_disk(completed(image_tree(image, store)), EPOCH_S, store)

    digest, size = store.cached_file("root", json.dumps([FORMAT, image.digest]), make)
    name, path = disk_serial(image.digest), str(store.verified(digest))
    return Artefact(kind="root", name=name, path=path, sha256=digest, size_bytes=size)


DISK_BLOCK_BYTES = 64 << 10
"""Larger than any page: the guest reads whole pages, also the last one."""
PACKER = "sqfstar"
COMPLAINT_CHARACTERS = 400


def write_disk(tree: Tree, mtime_s: int, store: Store) -> tuple[str, int]:
    """Write a tree as a squashfs into the store; return digest and bytes.

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
