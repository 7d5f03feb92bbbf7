"""Disks that guests write to: copies of prebuilt guests' own, and empty ones."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from bootmatrix.errors import HostError, InputError, ToolMissing
from bootmatrix.model import Artefact
from bootmatrix.operating_system import is_portable
from bootmatrix.qemu.version import install_hint

WRITES_BYTES = 64 << 30
"""Maximum size of the copy, which bounds the host disk space that a guest can fill."""
CHUNK_BYTES = 1 << 20
MAKER, PACKAGE = "mke2fs", "e2fsprogs"
FEATURES = "none,dir_index,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,sparse_super"
"""All kernels since 2.6 have them. No journal, for nobody reads such a disk after its guest."""
MAKER_OPTIONS = (
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-m",
    "0",
    "-O",
    FEATURES,
    "-E",
    "lazy_itable_init=1,nodiscard",
)
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MKE2FS_CONFIG": "/dev/null"}


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


@contextmanager
def scratch_disk(size_mib: int, folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open an unnamed sparse file system in `folder`, read-write and read-only.

    Raises ToolMissing if e2fsprogs is not installed, HostError if it cannot be made.
    """
    with _own_file(folder) as disk:
        disk.truncate(size_mib << 20)
        path = _path_of(disk)
        try:
            command = (MAKER, *MAKER_OPTIONS, str(path))
            done = subprocess.run(command, check=False, capture_output=True, pass_fds=(disk.fileno(),), env=ENVIRONMENT)
        except FileNotFoundError as error:
            raise ToolMissing(f"{MAKER} is not installed, which makes scratch disks", install_hint(PACKAGE)) from error
        if done.returncode:
            raise HostError(f"{MAKER} failed: {done.stderr.decode('utf-8', 'replace').strip()[-400:]}")
        with path.open("rb") as reader:
            yield disk, reader


def _own_file(folder: Path) -> AbstractContextManager[IO[bytes]]:
    return tempfile.NamedTemporaryFile(dir=folder) if is_portable() else tempfile.TemporaryFile(dir=folder)


def _path_of(file: IO[bytes]) -> Path:
    """Return a path by which an open file of `_own_file` is opened once more."""
    return Path(file.name) if is_portable() else Path(f"/proc/self/fd/{file.fileno()}")
