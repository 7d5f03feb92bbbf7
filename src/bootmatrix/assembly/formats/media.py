"""Common parts of disks and CDs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO

from bootmatrix.assembly.formats.tools import run
from bootmatrix.assembly.tree import EPOCH_S
from bootmatrix.store import COPY_BYTES

MIB = 1 << 20
VOLUME = "BOOTMATRIX"


def stamp(folder: Path) -> None:
    """Set reproducible times and modes for a folder and its files."""
    for path in (*sorted(folder.rglob("*")), folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH_S, EPOCH_S))


def pad(path: Path, multiple_bytes: int) -> None:
    """Extend a file by zeros to a multiple of a size."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.truncate(size + -size % multiple_bytes)


def copy_sparse(source: Path, target: BinaryIO) -> None:
    """Append a sparse file to another, which must be a hole beyond its end."""
    with source.open("rb") as file:
        write_sparse(file, target)


def write_sparse(source: IO[bytes], target: BinaryIO) -> None:
    """Append pieces of bytes as a sparse file."""
    zeros = bytes(COPY_BYTES)
    while data := source.read(COPY_BYTES):
        if data == zeros[: len(data)]:
            target.seek(len(data), os.SEEK_CUR)
        else:
            target.write(data)


def write_iso(content: Path, path: Path, options: Sequence[str | Path], digest: str) -> None:
    """Write a reproducible ISO 9660; a GPT in it gets its ID from the digest."""
    stamp(content)
    path.unlink(missing_ok=True)
    names = ["-R", "-J", "-V", VOLUME, "-uid", "0", "-gid", "0"]
    run("xorriso", ["-as", "mkisofs", "-quiet", *names, "--gpt_disk_guid", digest[:32], *options, "-o", path, content])
