"""A kernel image: bzImage, Image, zImage or vmlinux, compressed or not.

Which one it is, its bytes tell, by data of the profiles.
"""

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.source.kernel_formats.member import Member, of_file

DESCRIPTION = "a kernel"
ORDER = 80


def recognises(path: Path) -> bool:
    """Match any file: the profiles' magic decides later."""
    return path.is_file()


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    yield of_file(path, "boot/vmlinuz")
