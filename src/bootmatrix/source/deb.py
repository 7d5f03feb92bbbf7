"""Read .deb files (deb(5)): an ar archive of two tar archives.

Nothing in a package is run. Packages are untrusted: input, memory and time are bounded. python-debian's reader of ar
archives loops for ever on a negative size, so it is not used.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bootmatrix.errors import BuildError
from bootmatrix.fsio import open_plain
from bootmatrix.source.compressed import OPENERS, DamagedArchive
from bootmatrix.source.safe_archive import FAULTS, FileSlice, open_tar

CONTROL_LIMIT_BYTES = 4 << 20
MAX_CONTROL_FILES = 200
NEEDED_FIELDS = {
    b"Package": re.compile(r"[a-z0-9][a-z0-9.+-]*"),
    b"Version": re.compile(r"(\d{1,9}:)?[A-Za-z0-9.+~-]{1,246}"),
    b"Architecture": re.compile(r"[a-z0-9-]+"),
    b"Filename": re.compile(r".+"),
    b"Size": re.compile(r"\d{1,12}"),
    b"SHA256": re.compile(r"[0-9a-f]{64}"),
}
"""Fields of a package, as all others rely on them (deb-control(5))."""
_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


@contextmanager
def open_data(path: Path) -> Iterator[tarfile.TarFile]:
    """Open the files of a package as a tar archive to be read once, in order.

    Raises BuildError if it is not a package, or damaged; also while it is read.
    """
    with _open_member(path, "data.tar") as archive:
        yield archive


def read_control(path: Path) -> dict[str, str]:
    """Read the control fields of a package.

    Package, Version and Architecture are always present and valid: safe as parts of a path.

    Raises BuildError if it is not a package, or damaged.
    """
    fields: dict[str, str] = {}
    with _open_member(path, "control.tar") as archive:
        for member in archive:
            if member.name.removeprefix("./") == "control" and member.isreg():
                if fields:  # dpkg and others would differ in which one they take
                    raise DamagedArchive("two control files")
                fields = _control_fields(archive, member)
        if not fields:
            raise DamagedArchive("no control file")
    return fields


def read_control_files(path: Path) -> dict[str, bytes]:
    """Read a control archive's files: `control`, `postinst` and others.

    Raises BuildError if it is not a package, or damaged.
    """
    files: dict[str, bytes] = {}
    with _open_member(path, "control.tar") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if not member.isreg() or "/" in name:
                continue
            if member.size > CONTROL_LIMIT_BYTES or len(files) >= MAX_CONTROL_FILES:
                raise DamagedArchive("the control archive is too large")
            file = archive.extractfile(member)
            files[name] = file.read() if file else b""
    return files


def _control_fields(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, str]:
    from debian.deb822 import Deb822  # slow import

    if member.size > CONTROL_LIMIT_BYTES:
        raise DamagedArchive(f"the control file has {member.size} bytes")
    file = archive.extractfile(member)
    text = file.read().decode(errors="replace") if file else ""
    fields = dict(Deb822(text))
    for name in ("Package", "Version", "Architecture"):
        if not fields.get(name):
            raise DamagedArchive(f"the control file lacks {name}")
        if not NEEDED_FIELDS[name.encode()].fullmatch(fields[name]):
            raise DamagedArchive(f"the {name} is {fields[name][:100]!r}, which is invalid (deb-control(5))")
    return fields


@contextmanager
def _open_member(path: Path, prefix: str) -> Iterator[tarfile.TarFile]:
    try:
        with open_plain(path.resolve()) as file:
            part, suffix = _find_member(file, prefix)
            with open_tar(part, suffix) as archive:
                yield archive
    except FAULTS as error:
        raise BuildError(f"{path} is not a Debian package, or a damaged one: {error}") from error


def _find_member(file: BinaryIO, prefix: str) -> tuple[FileSlice, str]:
    """Find a member by the prefix of its name; the rest is a compression's suffix."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise DamagedArchive("not an ar archive")
    end = file.seek(0, io.SEEK_END)
    offset = len(_MAGIC)
    while offset < end:
        file.seek(offset)
        header = file.read(_HEADER_BYTES)
        size_text = header[48:58].rstrip(b" ")
        if len(header) < _HEADER_BYTES or header[58:] != b"`\n" or not size_text.isdigit():
            raise DamagedArchive(f"expected an ar header at byte {offset}")
        offset, size = offset + _HEADER_BYTES, int(size_text)
        if offset + size > end:
            raise DamagedArchive(f"truncated: expected {offset + size} bytes, got {end}")
        name = header[:16].rstrip(b" ").removesuffix(b"/").decode(errors="replace")
        if name.startswith(prefix) and name.removeprefix(prefix) in OPENERS:
            return FileSlice(file, offset, size), name.removeprefix(prefix)
        offset += size + size % 2
    raise DamagedArchive(f"no {prefix} in a known compression")
