"""Output formats: plug-ins of the group `bootmatrix.output_formats`.

tree ─┬─ tar, docker
      ├─ squashfs, erofs, ISO  (root of a kernel that finds it)
      └─ initrd ─ kernel+initrd ─┬─ ISO, disk ─ qcow2, VHD, VMDK, tar.gz
                                 └─ files of a board's card
"""

from __future__ import annotations

from bootmatrix import plugins
from bootmatrix.assembly.formats.format import Format


def output_formats() -> dict[str, Format]:
    """Load all formats by name.

    Raises:
        HostError: a format cannot be loaded.
    """
    return plugins.load_all("output_formats")


__all__ = ["Format", "output_formats"]
