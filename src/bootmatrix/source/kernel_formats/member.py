"""What every kind of kernel source gives: files by path, and how a kind looks from outside."""

from __future__ import annotations

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
    """A file of a kernel's source. It must be read before the next one is asked for, if at all."""

    path: str
    size_bytes: int
    fetch: Callable[[], bytes]

    def read(self) -> bytes:
        """All of it.

        Raises:
            BuildError: it is larger than any kernel's file, or breaks off.
            InputError: the host does not let it be read.
        """
        if self.size_bytes > FILE_LIMIT_BYTES:
            raise BuildError(f"{self.path} has {self.size_bytes} bytes, more than any kernel's file")
        try:
            return self.fetch()
        except FAULTS as error:
            if isinstance(error, OSError) and error.errno:
                raise InputError(f"{error.filename or self.path}: cannot be read: {error.strerror}") from error
            raise BuildError(f"{self.path} is in an archive that is damaged: {error}") from error


class KernelFormat(Protocol):
    """A module of a format. Formats are asked in the order of `ORDER`; the first that recognises a file reads it.

    Members' paths end as in a package: `lib/modules/<release>/…/x.ko`, `config-<release>`, `x.dtb`.
    """

    DESCRIPTION: str
    ORDER: int

    def recognises(self, path: Path) -> bool:
        """Whether a file or folder is of this kind."""

    def paths(self, path: Path) -> list[Path]:
        """The files that it is made of, which its digest covers."""

    def members(self, path: Path, platform: str) -> Iterator[Member]:
        """The files that belong to a kernel, for an OCI platform such as `linux/<arch>`."""


def starts_with(path: Path, magic: bytes, offset: int = 0) -> bool:
    """Whether a file has these bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(len(magic)) == magic


def of_file(path: Path, name: str) -> Member:
    """A file of the host."""
    return Member(name, path.stat().st_size, path.read_bytes)


def of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    """The regular files of a tar archive."""
    for member in archive:
        if member.isreg():
            yield Member(member.name.removeprefix("./"), member.size, _reader(archive, member))


def _reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        file = archive.extractfile(member)
        return file.read() if file else b""

    return read


def checked(members: Iterable[Member], path: Path, what: str) -> Iterator[Member]:
    """Members of an archive, whose damage is told as such.

    Raises:
        BuildError: it is damaged.
    """
    try:
        yield from members
    except FAULTS as error:
        raise BuildError(f"{path} is not {what}, or a damaged one: {error}") from error
