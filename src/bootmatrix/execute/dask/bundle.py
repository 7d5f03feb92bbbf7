"""Bundles: a cell's record with its files, as one tar."""

import hashlib
import io
import os
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
    text = as_json(record)
    with target.open("xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_member(RECORD_FILE, len(text)), io.BytesIO(text))
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as contents:
                    size_bytes = os.fstat(contents.fileno()).st_size
                    archive.addfile(_member(str(path.relative_to(folder)), size_bytes), contents)
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
                return _record(_extract(archive, folder, host), host)
        except (tarfile.TarError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
            raise InfraError(f"the bundle of the host {host} is not a tar: {str(error)[:200]}") from error


def _record(data: bytes, host: str) -> Record:
    try:
        if not data:
            raise InfraError(f"the bundle of the host {host} has no record")
        return Record.model_validate_json(data)
    except ValidationError as error:
        raise InfraError(f"the record of the host {host} is invalid: {error.errors()[0]['msg']}") from error


def _extract(archive: tarfile.TarFile, folder: Path, host: str) -> bytes:
    """Extract all but the record, which is returned.

    A record in `folder` would count as one that the run has written.
    """
    data, size_bytes, count = b"", 0, 0
    for member in archive:
        size_bytes, count = size_bytes + max(member.size, 0), count + 1
        if size_bytes > LIMIT_BYTES or count > MAX_FILES:
            raise InfraError(f"the bundle of the host {host} is too large")
        parts = member.name.split("/")
        is_plain = member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and member.sparse is None
        is_below_record = parts[0] == RECORD_FILE != member.name
        if not is_plain or is_below_record or len(parts) > MAX_DEPTH or not all(map(PART.fullmatch, parts)):
            raise InfraError(f"the bundle of the host {host} has an invalid member: {member.name[:200]!r}")
        source = archive.extractfile(member)
        assert source is not None
        if member.name == RECORD_FILE:
            if member.size > RECORD_LIMIT_BYTES:
                raise InfraError(f"the record of the host {host} is larger than {RECORD_LIMIT_BYTES >> 20} MiB")
            data = source.read()
            continue
        target = folder.joinpath(*parts)
        if len(parts) > 1:
            target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("xb") as file:
            shutil.copyfileobj(source, file)
    return data


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    return member
