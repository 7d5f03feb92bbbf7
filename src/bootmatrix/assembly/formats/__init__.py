"""What a guest is written as: each format is a set of files, and each file is made by one function of a Source.

tree ─┬─ tar, docker
      ├─ squashfs, erofs, ISO  (root of a kernel that finds it)
      └─ initrd ─ kernel+initrd ─┬─ ISO, disk ─ qcow2, VHD, VMDK, tar.gz
                                 └─ files of a board's card
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bootmatrix.assembly.formats import archives, bios, card, clouds, efi, roots
from bootmatrix.assembly.formats.source import Source

Start = Literal["", "efi", "bios", "card"]
"""The key of the profile that says how a format is started; none for those that an emulator or a loader starts."""
Boots = Literal["", "kernel", "root", "disk", "cd"]
"""What QEMU boots of it: nothing as it is; kernel and initrd; kernel and root; a disk; or a CD."""
Maker = Callable[[Source], Path]


@dataclass(frozen=True)
class Format:
    """A format: makers of its files, by what their names have after the prefix."""

    description: str
    files: Mapping[str, Maker]
    start: Start = ""
    boots: Boots = ""


def _with_root(suffix: str, kind: str) -> dict[str, Maker]:
    return {
        "-kernel": Source.kernel,
        "-cmdline": Source.cmdline_file,
        f"-{kind}-initrd.img": lambda source: roots.finder(source, kind),
        suffix: lambda source: roots.root(source, kind),
    }


def _as_qcow2(disk: Maker) -> Maker:
    return lambda source: clouds.qcow2(disk, source)


FORMATS: Mapping[str, Format] = {
    "kernel+initrd": Format(
        "a kernel, an initrd and a command line",
        {"-kernel": Source.kernel, "-cmdline": Source.cmdline_file, "-initrd.img": Source.initrd},
        boots="kernel",
    ),
    "tar-kernel-initrd": Format("these in a tar archive", {"-initrd.tar": archives.kernel_initrd}),
    "tar": Format("the root as a tar archive, with the kernel in boot/", {".tar": archives.root}),
    "docker": Format("the root as a container image, for docker load", {".docker": archives.docker}),
    "kernel+squashfs": Format("kernel, root as squashfs", _with_root("-squashfs.img", "squashfs"), boots="root"),
    "kernel+erofs": Format("kernel, root as EROFS", _with_root("-erofs.img", "erofs"), boots="root"),
    "kernel+iso": Format("kernel, root as ISO 9660", _with_root(".iso", "iso"), boots="root"),
    "iso-bios": Format("a CD that a BIOS starts", {".iso": bios.iso}, "bios", "cd"),
    "iso-efi": Format("a CD that UEFI starts", {"-efi.iso": efi.iso}, "efi", "cd"),
    "iso-efi-initrd": Format("the same", {"-efi-initrd.iso": efi.iso}, "efi", "cd"),
    "raw-bios": Format("a disk that a BIOS starts", {"-bios.img": bios.disk}, "bios", "disk"),
    "raw-efi": Format("a disk that UEFI starts", {"-efi.img": efi.disk}, "efi", "disk"),
    "qcow2-bios": Format("a disk as qcow2", {".qcow2": _as_qcow2(bios.disk)}, "bios", "disk"),
    "qcow2-efi": Format("a disk as qcow2", {"-efi.qcow2": _as_qcow2(efi.disk)}, "efi", "disk"),
    "gcp": Format("for Google Compute Engine", {".img.tar.gz": clouds.gcp}, "bios", "disk"),
    "aws": Format("for Amazon EC2: a disk of whole GiB", {".raw": clouds.aws}, "bios", "disk"),
    "vhd": Format("for Azure: a VHD of fixed size", {".vhd": clouds.vhd}, "bios", "disk"),
    "dynamic-vhd": Format("for Hyper-V: a VHD that grows", {".vhd": clouds.dynamic_vhd}, "bios", "disk"),
    "vmdk": Format("for VMware", {".vmdk": clouds.vmdk}, "bios", "disk"),
    "rpi3": Format("files for a board's SD card, as a tar archive", {".tar": card.files}, "card"),
}
