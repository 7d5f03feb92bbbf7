"""The protocol of kernel formats, and the files that they yield."""

import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bootmatrix.errors import BuildError, InputError
from bootmatrix.source.safe_archive import FAULTS

FILE_LIMIT_BYTES = 1 << 30
"""A vmlinux with debug information has several hundred MiB."""


@dataclass(frozen=True)
class Member:
    """A file of a kernel's source. If at all, it is read before the next one."""

    path: str
    size_bytes: int
    fetch: Callable[[], bytes]

    def read(self) -> bytes:
        """Read the whole file.

        Raises BuildError if it is too large, or truncated; InputError if the host denies access.
        """
        if self.size_bytes > FILE_LIMIT_BYTES:
            raise BuildError(f"{self.path} has {self.size_bytes} bytes, more than the limit of {FILE_LIMIT_BYTES}")
        try:
            return self.fetch()
        except FAULTS as error:
            if isinstance(error, OSError) and error.errno:
                raise InputError(f"{error.filename or self.path}: cannot be read: {error.strerror}") from error
            raise BuildError(f"{self.path} is in a damaged archive: {error}") from error


class KernelFormat(Protocol):
    """Module of a kernel format.

    Formats are tried in the order of `ORDER`; the first that recognises a file reads it. Members' paths end as in a
    package: `lib/modules/<release>/…/x.ko`, `config-<release>`, `x.dtb`. A format of several files may have one more
    function, `paths(path) -> list[Path]`: those that belong to it, which its digest covers.
    """

    DESCRIPTION: str
    ORDER: int

    def recognises(self, path: Path) -> bool:
        """Return whether a file or folder is of this format."""

    def members(self, path: Path, platform: str) -> Iterator[Member]:
        """Iterate over its files for an OCI platform such as `linux/<arch>`."""


def starts_with(path: Path, magic: bytes, offset: int = 0) -> bool:
    """Return whether a file has these bytes at an offset."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(len(magic)) == magic


def of_file(path: Path, name: str) -> Member:
    """Return a file of the host."""
    return Member(name, path.stat().st_size, path.read_bytes)


def of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    """Iterate over the regular files of a tar archive."""
    for member in archive:
        if member.isreg():
            yield Member(member.name.removeprefix("./"), member.size, _reader(archive, member))


def _reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        file = archive.extractfile(member)
        return file.read() if file else b""

    return read


def checked(members: Iterable[Member], path: Path, description: str) -> Iterator[Member]:
    """Iterate over members. Raises BuildError if the archive is damaged."""
    try:
        yield from members
    except FAULTS as error:
        raise BuildError(f"{path} is not {description}, or a damaged one: {error}") from error
