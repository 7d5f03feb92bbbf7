"""Bundles: a cell's record with its files, as one tar."""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from pathlib import Path

from pydantic import ValidationError

from bootmatrix.errors import InfraError
from bootmatrix.model import Record
from bootmatrix.model.base import as_json
from bootmatrix.runs.run_store import RECORD_FILE
from bootmatrix.store import sha256_of

LIMIT_BYTES = 8 << 30
"""More than consoles, result files and one memory dump of a guest."""
RECORD_LIMIT_BYTES = 64 << 20
MAX_FILES = 20_000
PART = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,254}")
MAX_DEPTH = 4


def pack(record: Record, folder: Path, target: Path) -> tuple[str, int]:
    """Write a bundle; return SHA-256 and bytes. Blocking. Raises OSError."""
    (folder / RECORD_FILE).write_bytes(as_json(record))
    with target.open("xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.add(path, str(path.relative_to(folder)), recursive=False, filter=_plain)
    return sha256_of(target), target.stat().st_size


def unpack(bundle: Path, sha256: str, folder: Path, host: str) -> Record:
    """Verify and extract a bundle into an empty folder; return its record.

    Raises InfraError if it is not what the host announced, or not a bundle; OSError if it cannot be read or written.
    """
    with bundle.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise InfraError(f"the bundle of the host {host} was damaged on its way", "The cell is run again.")
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                _extract(archive, folder, host)
        except (tarfile.TarError, UnicodeError) as error:
            raise InfraError(f"the bundle of the host {host} is not a tar: {error}") from error
    return _record(folder / RECORD_FILE, host)


def _record(path: Path, host: str) -> Record:
    try:
        if path.stat().st_size > RECORD_LIMIT_BYTES:
            raise InfraError(f"the record of the host {host} is larger than {RECORD_LIMIT_BYTES >> 20} MiB")
        data = path.read_bytes()
        path.unlink()
        return Record.model_validate_json(data)
    except FileNotFoundError as error:
        raise InfraError(f"the bundle of the host {host} has no record") from error
    except ValidationError as error:
        raise InfraError(f"the record of the host {host} is invalid: {error.errors()[0]['msg']}") from error


def _extract(archive: tarfile.TarFile, folder: Path, host: str) -> None:
    size_bytes = count = 0
    for member in archive:
        size_bytes, count = size_bytes + max(member.size, 0), count + 1
        if size_bytes > LIMIT_BYTES or count > MAX_FILES:
            raise InfraError(f"the bundle of the host {host} is too large")
        parts = member.name.split("/")
        if not member.isreg() or len(parts) > MAX_DEPTH or not all(map(PART.fullmatch, parts)):
            raise InfraError(f"the bundle of the host {host} has an invalid member: {member.name[:200]!r}")
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        source = archive.extractfile(member)
        assert source is not None
        with source, target.open("xb") as file:
            shutil.copyfileobj(source, file)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode, member.mtime = 0o644, 0
    return member
