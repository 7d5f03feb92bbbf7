"""Prebuilt guests: a kernel and an initrd, or a disk, instead of a spec."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from bootmatrix.assembly.image.recipe import placeholders
from bootmatrix.assembly.kernel.package import KernelFiles, dtb_artefact, kernel_artefact
from bootmatrix.assembly.user_files import filled, take
from bootmatrix.errors import BuildError, readable
from bootmatrix.model import Artefact, Bootable, Kernel, Machine, PrebuiltGuest, Profile
from bootmatrix.model.artefact import ArtefactKind, DiskFormat
from bootmatrix.qemu.command import CARD_READER, DISK_BUSES
from bootmatrix.store import Store, sha256_of

QCOW2 = b"QFI\xfb"
"""Magic of qcow2 (QEMU's docs/interop/qcow2.txt). Its header has at 8 the backing file's offset, at 24
the disk's size, at 72 (from version 3 on) features that a reader must know, of which bit 2 is an external data file."""
EXTERNAL_DATA = 1 << 2
SMALLEST_CARD_BYTES = 1 << 20
"""Minimum size in the hint; real cards are larger."""
VMDK, VMDK_CAPACITY_AT = b"KDMV", 12
"""Magic of a VMDK of one file, and the offset of its sector count; 0 means that it describes other files."""
VMDK_PARENT, VMDK_TEXT_END_BYTES = b"parentFileNameHint", 512 + 20 * 512
"""Key of a parent in its description, and the end of that: QEMU reads 20 sectors from the second one on."""
VHD, VHD_FOOTER_BYTES = b"conectix", 512
"""Magic of the last sector of a VHD."""
FORMATS: Mapping[bytes, DiskFormat] = {QCOW2: "qcow2", VMDK: "vmdk"}


def prebuilt_bootable(guest: PrebuiltGuest, base: Path, profile: Profile, machine: Machine) -> Bootable:
    """Return a prebuilt guest without a kernel; names are relative to `base`.

    Raises BuildError if a file is missing, or a disk image refers to other files of the host.
    """
    names = placeholders(profile)
    disk = _disk(guest, base, names, machine)
    return Bootable(
        kernel=_file("kernel", guest.kernel, base, names),
        initrd=_file("initrd", guest.initrd, base, names),
        dtb=_file("dtb", guest.dtb, base, names),
        disk=disk,
        disk_format=disk_format(disk.file) if disk else "raw",
        cmdline=without_consoles(guest.cmdline)[0],
        reports=False,
        proof=guest.proof,
    )


def with_copies(bootable: Bootable, store: Store) -> Bootable:
    """Replace a guest's files by copies in the store with the same digests.

    Disks are too large for that: each guest's own copy is compared (qemu/disk.py).

    Raises InputError if a file has changed since it was digested.
    """
    with readable():
        copies = {
            name: part.model_copy(update={"path": str(take(part.file, part.sha256, store))})
            for name, part in (("kernel", bootable.kernel), ("initrd", bootable.initrd), ("dtb", bootable.dtb))
            if part
        }
    return bootable.model_copy(update=copies)


def with_kernel(bootable: Bootable, kernel: Kernel, files: KernelFiles, machine: Machine, store: Store) -> Bootable:
    """Add a kernel to a prebuilt guest.

    Raises BuildError if the kernel lacks the machine's device tree.
    """
    dtb = dtb_artefact(machine.dtb, kernel, files, store) if machine.dtb and not bootable.dtb else bootable.dtb
    fields = {"kernel": kernel_artefact(kernel, files, machine, store), "kernel_release": kernel.release, "dtb": dtb}
    return bootable.model_copy(update=fields)


def without_consoles(cmdline: str) -> tuple[str, tuple[str, ...]]:
    """Split a kernel command line into the part without consoles, and the consoles."""
    words = cmdline.split()
    consoles = tuple(word for word in words if word.startswith("console="))
    return " ".join(word for word in words if word not in consoles), consoles


def _file(kind: ArtefactKind, name: str, base: Path, names: Mapping[str, str]) -> Artefact | None:
    if not name:
        return None
    try:
        path = base / filled(name, names)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            raise BuildError(f"the {kind} {path} is not a regular file")
        sha256, size = sha256_of(path), status.st_size
        return Artefact(kind=kind, name=path.name, path=str(path.resolve()), sha256=sha256, size_bytes=size)
    except ValueError as error:
        raise BuildError(f"the {kind} {name!r} cannot be read: {error}") from error
    except OSError as error:
        raise BuildError(f"the {kind} {error.filename} cannot be read: {error.strerror}") from error


def _disk(guest: PrebuiltGuest, base: Path, names: Mapping[str, str], machine: Machine) -> Artefact | None:
    disk = _file("disk", guest.disk, base, names)
    if disk and not machine.disk and machine.bus not in DISK_BUSES:
        raise BuildError(
            f"{disk.path}: {machine.machine} has no place for a disk: neither virtio, nor 'disk' in its profile",
            "Exclude this machine.",
        )
    if disk:
        _check_disk(disk, is_card=machine.disk == CARD_READER)
    return disk


def _check_disk(disk: Artefact, is_card: bool) -> None:
    size_bytes = disk.size_bytes
    if refers(disk.file):
        raise BuildError(f"{disk.path}: this image refers to another file", "Make it standalone: qemu-img convert.")
    if disk_format(disk.file) == "qcow2":
        with disk.file.open("rb") as file:
            size_bytes = int.from_bytes(file.read(32)[24:], "big")
    if is_card and size_bytes.bit_count() != 1:
        larger = 1 << max(size_bytes.bit_length(), SMALLEST_CARD_BYTES.bit_length() - 1)
        raise BuildError(
            f"{disk.path}: an SD card has a size that is a power of two, and this has {size_bytes} bytes",
            f"Make a larger one: qemu-img resize FILE {larger}",
        )


def disk_format(path: Path) -> DiskFormat:
    """Detect the format of a disk from its first or last bytes.

    QEMU gets it explicitly, as a guest could overwrite the beginning.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(max(0, file.seek(0, os.SEEK_END) - VHD_FOOTER_BYTES))
        footer = file.read(len(VHD))
    return "vpc" if footer == VHD else FORMATS.get(magic, "raw")


def refers(path: Path) -> bool:
    """Return whether a disk image names other files, which QEMU would open."""
    with path.open("rb") as file:
        header = file.read(VMDK_TEXT_END_BYTES)
    if header.startswith(VMDK):
        return VMDK_PARENT in header or not any(header[VMDK_CAPACITY_AT : VMDK_CAPACITY_AT + 8])
    if not header.startswith(QCOW2):
        return False
    newer = int.from_bytes(header[4:8], "big") >= 3
    return any(header[8:16]) or (newer and bool(int.from_bytes(header[72:80], "big") & EXTERNAL_DATA))
