"""Reading .deb files, by deb(5): an ar archive that holds two tar archives. Nothing in them is run.

A package may be hostile: what it makes this program read, hold and compute is bounded. python-debian's reader of ar
archives is not used, since a negative size keeps it busy for ever.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bootmatrix.errors import BuildError
from bootmatrix.source.safe_archive import FAULTS, OPENERS, DamagedArchive, FileSlice, open_tar

CONTROL_LIMIT_BYTES = 4 << 20
_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


@contextmanager
def open_data(path: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package, as a tar archive that can be read once, from its beginning to its end.

    Raises:
        BuildError: it is not a package, or a damaged one; also while it is read.
    """
    with _open_member(path, "data.tar") as archive:
        yield archive


def read_control(path: Path) -> dict[str, str]:
    """The control fields of a package. Package, Version and Architecture are always there.

    Raises:
        BuildError: it is not a package, or a damaged one.
    """
    with _open_member(path, "control.tar") as archive:
        for member in archive:
            if member.name.removeprefix("./") == "control" and member.isreg():
                return _control_fields(archive, member)
        raise DamagedArchive("it has no control file")


def _control_fields(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, str]:
    from debian.deb822 import Deb822  # it takes long to load

    if member.size > CONTROL_LIMIT_BYTES:
        raise DamagedArchive(f"its control file has {member.size} bytes")
    file = archive.extractfile(member)
    text = file.read().decode(errors="replace") if file else ""
    fields = dict(Deb822(text))
    for name in ("Package", "Version", "Architecture"):
        if not fields.get(name):
            raise DamagedArchive(f"its control file does not say {name}")
    return fields


@contextmanager
def _open_member(path: Path, prefix: str) -> Iterator[tarfile.TarFile]:
    try:
        with path.open("rb") as file:
            part, suffix = _find_member(file, prefix)
            with open_tar(part, suffix) as archive:
                yield archive
    except FAULTS as error:
        raise BuildError(f"{path} is not a Debian package, or a damaged one: {error}") from error


def _find_member(file: BinaryIO, prefix: str) -> tuple[FileSlice, str]:
    """A member of the ar archive, whose name is a prefix and the suffix of a compression."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise DamagedArchive("it is no ar archive")
    end = file.seek(0, io.SEEK_END)
    offset = len(_MAGIC)
    while offset < end:
        file.seek(offset)
        header = file.read(_HEADER_BYTES)
        size_text = header[48:58].rstrip(b" ")
        if len(header) < _HEADER_BYTES or header[58:] != b"`\n" or not size_text.isdigit():
            raise DamagedArchive(f"at byte {offset} there should be an ar header")
        offset, size = offset + _HEADER_BYTES, int(size_text)
        if offset + size > end:
            raise DamagedArchive(f"it ends at byte {end}, and should go on to byte {offset + size}")
        name = header[:16].rstrip(b" ").removesuffix(b"/").decode(errors="replace")
        if name.startswith(prefix) and name.removeprefix(prefix) in OPENERS:
            return FileSlice(file, offset, size), name.removeprefix(prefix)
        offset += size + size % 2
    raise DamagedArchive(f"it has no {prefix} in a known compression")
