"""Files and folders of the host as records for a guest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bootmatrix.errors import InputError, described
from bootmatrix.guest.records import RecordType, TreeRecord

CHUNK_BYTES = 1 << 20
MAX_FILES = 50_000
MAX_BYTES = 4 << 30
MAX_DEPTH = 128

Known = dict[str, tuple[int, int, int]]
"""Size, time (ns) and mode of files that a guest has already, by their paths on the host."""


@dataclass
class TreeLimits:
    """Limits of a tree; `files` and `bytes` count down. `hint` is the remedy for the user."""

    files: int = MAX_FILES
    bytes: int = MAX_BYTES
    hint: str = ""
    skipped: list[str] = field(default_factory=list)
    """Sockets, devices and pipes, which are left out."""

    def take(self, path: str, size: int) -> None:
        """Count a file.

        Raises:
            InputError: it is beyond a limit.
        """
        self.files -= 1
        self.bytes -= size
        if self.files < 0 or self.bytes < 0:
            lack = "files" if self.files < 0 else "bytes"
            raise InputError(f"{path}: too many {lack} to copy into the guest", self.hint)


def tree_records(top: Path, limits: TreeLimits, known: Known | None = None) -> Iterator[bytes]:
    """Yield a file, or a folder with all below it, as the agent's `put` reads it.

    Files in `known` that have not changed are left out; the others are added to it.

    Raises:
        InputError: it cannot be read, or is too large.
    """
    try:
        status = top.stat()
        yield from _records(str(top), "", status, limits, known, 0)
    except OSError as error:
        text, hint = described(error)
        raise InputError(text, hint) from error
    yield TreeRecord(RecordType.END).encoded()


def _records(  # noqa: PLR0913, PLR0917
    path: str, below: str, status: os.stat_result, limits: TreeLimits, known: Known | None, depth: int
) -> Iterator[bytes]:
    mode, mtime_s = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISREG(status.st_mode):
        yield from _file(path, below, status, limits, known)
    elif stat.S_ISLNK(status.st_mode):
        limits.take(path, 0)
        yield TreeRecord(RecordType.LINK, below, mode, 0, mtime_s, os.readlink(path)).encoded()  # noqa: PTH115
    elif stat.S_ISDIR(status.st_mode):
        if depth > MAX_DEPTH:
            raise InputError(f"{path}: more than {MAX_DEPTH} folders deep")
        limits.take(path, 0)
        yield TreeRecord(RecordType.FOLDER, below, mode, 0, mtime_s).encoded()
        with os.scandir(path) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            inner = f"{below}/{entry.name}" if below else entry.name
            yield from _records(entry.path, inner, entry.stat(follow_symlinks=False), limits, known, depth + 1)
    else:
        limits.skipped.append(path)


def _file(path: str, below: str, status: os.stat_result, limits: TreeLimits, known: Known | None) -> Iterator[bytes]:
    limits.take(path, status.st_size)
    identity = (status.st_size, status.st_mtime_ns, status.st_mode)
    if known is not None and known.get(path) == identity:
        return
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        size = os.fstat(file.fileno()).st_size
        head = TreeRecord(RecordType.FILE, below, stat.S_IMODE(status.st_mode), size, int(status.st_mtime))
        yield head.encoded()
        yield from _contents(file.fileno(), size)
    if known is not None:
        known[path] = identity


def _contents(file: int, size: int) -> Iterator[bytes]:
    """Yield exactly so many bytes: zeros where the file has become shorter."""
    while size:
        data = os.read(file, min(size, CHUNK_BYTES)) or bytes(min(size, CHUNK_BYTES))
        size -= len(data)
        yield data
