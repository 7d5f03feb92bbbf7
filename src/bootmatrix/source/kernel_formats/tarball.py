"""A tar archive with a kernel's files, compressed or not.

It is from `make tar-pkg` or alike, or a pacman package.
"""

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.errors import BuildError
from bootmatrix.source.kernel_formats.member import Member, checked, of_tar
from bootmatrix.source.safe_archive import FAULTS, open_packed_tar, unpacking

DESCRIPTION = "a tar archive"
ORDER = 70
_MAGIC, _MAGIC_AT = b"ustar", 257
_IMAGES = ("index.json", "manifest.json", "oci-layout")
"""Files that mark container images."""


def recognises(path: Path) -> bool:
    """Match tar's magic in the decompressed file."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            plain, start = unpacking(file), b""
            while len(start) < _MAGIC_AT + len(_MAGIC) and (data := plain.read(512)):
                start += data
    except FAULTS:
        return False
    return start[_MAGIC_AT:].startswith(_MAGIC)


def paths(path: Path) -> list[Path]:
    return [path]


def members(path: Path, platform: str) -> Iterator[Member]:  # noqa: ARG001  (protocol)
    """Iterate over its files. Raises BuildError if damaged, or an image."""
    return checked(_members(path), path, DESCRIPTION)


def _members(path: Path) -> Iterator[Member]:
    with path.open("rb") as file, open_packed_tar(file) as archive:
        for member in of_tar(archive):
            if member.path in _IMAGES:
                raise BuildError(
                    f"{path} is a container image in a compressed archive",
                    f"Name it docker-archive:{path.name} or oci-archive:{path.name}.",
                )
            yield member
