"""The protocol of output formats: makers of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bootmatrix.assembly.formats.source import Source

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
