"""Reading .deb files, by deb(5): an ar archive that holds two tar archives. Nothing in them is run."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import zstandard
from debian.arfile import ArError, ArFile
from debian.deb822 import Deb822

from bootmatrix.errors import BuildError

CONTROL_LIMIT_BYTES = 4 << 20


@contextmanager
def open_data(path: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package, as a tar archive that can be read once, from its beginning to its end.

    Raises:
        BuildError: it is not a package, or a damaged one.
    """
    with _open_member(path, "data.tar") as archive:
        yield archive


def read_control(path: Path) -> dict[str, str]:
    """The control fields of a package, such as Package, Version, Architecture, Depends.

    Raises:
        BuildError: it is not a package, or a damaged one.
    """
    with _open_member(path, "control.tar") as archive:
        for member in archive:
            if member.name.lstrip("./") == "control" and member.size <= CONTROL_LIMIT_BYTES:
                file = archive.extractfile(member)
                return dict(Deb822(file.read())) if file else {}
    raise BuildError(f"{path} is not a Debian package: it has no control file")


@contextmanager
def _open_member(path: Path, prefix: str) -> Iterator[tarfile.TarFile]:
    try:
        with path.open("rb") as file, _tar(file, prefix) as archive:
            yield archive
    except (ArError, tarfile.TarError, zstandard.ZstdError, EOFError, StopIteration) as error:
        raise BuildError(f"{path} is not a Debian package, or a damaged one: {error}") from error


def _tar(file: BinaryIO, prefix: str) -> tarfile.TarFile:
    found = next(member for member in ArFile(fileobj=file).getmembers() if member.name.startswith(prefix))
    member = cast(IO[bytes], found)
    if found.name.endswith(".zst"):
        plain = cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(member))
        return tarfile.open(fileobj=plain, mode="r|")
    return tarfile.open(fileobj=member, mode="r|*")
