"""Output formats: plug-ins of the group `bootmatrix.output_formats`.

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

from bootmatrix import plugins
from bootmatrix.assembly.formats.source import Source


def output_formats() -> dict[str, Format]:
    """Load all formats by name. Raises HostError if a format cannot be loaded."""
    return plugins.load_all("output_formats")


Start = Literal["", "efi", "bios", "card"]
"""The key of the profile that says how a format is started; none for those that an emulator or a loader starts."""
Boots = Literal["", "kernel", "root", "disk", "cd"]
"""Ways in which QEMU boots a format: none; kernel and initrd; kernel and root; a disk; or a CD."""
Maker = Callable[[Source], Path]


@dataclass(frozen=True)
class Format:
    """An output format: makers of its files, by the suffix of their names."""

    description: str
    files: Mapping[str, Maker]
    start: Start = ""
    boots: Boots = ""
