"""A format that a guest is written in: makers of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
