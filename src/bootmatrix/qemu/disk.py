"""Disks of prebuilt guests: each guest writes to a private copy."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from bootmatrix.errors import InputError
from bootmatrix.model import Artefact
from bootmatrix.operating_system import is_portable

WRITES_BYTES = 64 << 30
"""Maximum size of the copy, which bounds the host disk space that a guest can fill."""
CHUNK_BYTES = 1 << 20


@contextmanager
def private_copy(disk: Artefact, folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open an unnamed sparse copy in `folder`, read-write and read-only.

    QEMU takes both, since it probes the image first.

    Raises InputError if the file has changed since it was digested, OSError if the disk is full, or the file is
    missing.
    """
    digest = hashlib.sha256()
    with disk.file.open("rb") as source, _own_file(folder) as copy:
        while data := source.read(CHUNK_BYTES):
            digest.update(data)
            if data.count(0) == len(data):
                copy.seek(len(data), os.SEEK_CUR)
            else:
                copy.write(data)
        if digest.hexdigest() != disk.sha256:
            raise InputError(f"{disk.path} has changed since it was digested", "Run again when nothing writes to it.")
        copy.truncate()
        copy.flush()
        with _path_of(copy).open("rb") as reader:
            yield copy, reader


def _own_file(folder: Path) -> AbstractContextManager[IO[bytes]]:
    return tempfile.NamedTemporaryFile(dir=folder) if is_portable() else tempfile.TemporaryFile(dir=folder)


def _path_of(file: IO[bytes]) -> Path:
    """Return a path by which an open file of `_own_file` is opened once more."""
    return Path(file.name) if is_portable() else Path(f"/proc/self/fd/{file.fileno()}")
