"""Files written whole or not at all."""

from __future__ import annotations

import ctypes
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

BUFFER_BYTES = 1 << 16


def write_atomic(path: Path, data: bytes | Iterable[bytes], durable: bool = True) -> None:
    """Write a file, whole or not at all, also when the power fails. `data` is what it holds, or its pieces.

    What is not `durable` does not wait for the disk: a kill leaves it whole, but when the power fails it may be empty,
    unless `sync_disk` came between.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb", buffering=BUFFER_BYTES) as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_whole(path: Path) -> bytes:
    """A file, read at once: without the buffer that Python would make for it, in half the time.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return file.read()


def replace_link(link: Path, target: str) -> None:
    """Point a symbolic link to a target, atomically.

    Raises:
        OSError: the file system has no links, or cannot be written.
    """
    temporary = link.with_name(f".{link.name}.{os.getpid()}.{time.monotonic_ns()}")
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)


def sync_disk(folder: Path) -> None:
    """Wait until all that was written to the folder's file system is on its disk: one wait for any number of files.

    Raises:
        OSError: it cannot be written.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):  # syncfs(2), for which Python has no name
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
    finally:
        os.close(handle)
