"""Use of the cache's disk space, bounded by least recent use.

A removed file is fetched or built again when it is needed. Files that were used in the last hour are kept while other
processes use the cache, since a guest may be about to open them.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import open_plain
from bootmatrix.store.host_faults import host_faults
from bootmatrix.store.store import TIDIED_FILE, Store

LIMIT_VARIABLE = "BOOTMATRIX_CACHE_MAX"
DEFAULT_LIMIT_BYTES = 20 << 30
IN_USE_S = 3600
"""Files used within this time are kept while other processes use the cache."""
JOINED_KEPT_S = 3600
"""Whole initrds are kept for this long: they are joined from segments in a moment, and each change makes new ones."""
PAUSE_S = 600
"""Least time between two automatic checks of the limit."""
JOINED = "initrd"
"""Kind of the records of whole initrds (assembly.initrd.cache)."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_KINDS = (
    (0, b"!<arch>\n", "packages"),
    (0, b"\x28\xb5\x2f\xfd", "initrds and their segments"),
    (0, b"hsqs", "roots on disks"),
    (257, b"ustar", "layers of images"),
    (0, b"\x7fELF", "kernels, modules and programs"),
    (2, b"\xe2\xe1\xf5\xe0", "roots on disks"),
    (1024, b"\xe2\xe1\xf5\xe0", "roots on disks"),
    (514, b"HdrS", "kernels, modules and programs"),
    (56, bytes.fromhex("41524d64"), "kernels, modules and programs"),
    (36, b"\x18\x28\x6f\x01", "kernels, modules and programs"),
    (0, b"\xd0\x0d\xfe\xed", "kernels, modules and programs"),
    (0, b"SQLite format 3\0", "indexes of packages"),
    (0, b"QFI\xfb", "disks and other outputs"),
    (510, b"\x55\xaa", "disks and other outputs"),
)
"""Signatures of the files' forms: offset, bytes, words."""
SNAPSHOTS = "snapshots"
"""Folder of the snapshots of booted guests."""
_HEAD_BYTES = 1032
_UNUSED = getattr(os, "O_NOATIME", 0)
"""Flag of reads that do not count as uses of a file."""


@dataclass(frozen=True)
class StoredFile:
    """A file by digest: size, last use in seconds since the epoch."""

    path: Path
    size_bytes: int
    used_at: float


@dataclass(frozen=True)
class Trimmed:
    """Result of a trim; `busy_bytes` stay, as others may use them."""

    removed: int
    removed_bytes: int
    kept_bytes: int
    busy_bytes: int = 0


def parse_size(text: str) -> int:
    """Parse `10G`, in powers of 1024. Raises InputError if not a size."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        raise InputError(f"{text!r}: expected a size, such as 10G or 500M")
    return int(match[1]) * _UNITS[match[2].upper()]


def limit_bytes() -> int:
    """Return the cache's limit, of BOOTMATRIX_CACHE_MAX; 0 means none.

    Raises InputError if the variable is invalid.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        return parse_size(text) if text else DEFAULT_LIMIT_BYTES
    except InputError as error:
        raise InputError(f"{LIMIT_VARIABLE}={error.message}") from error


def stored_files(folder: Path) -> Iterator[StoredFile]:
    """List the files that can be made again: those by digest, and snapshots."""
    for place, _, names in chain(os.walk(folder / "blobs" / "sha256"), os.walk(folder / SNAPSHOTS)):
        for name in names:
            path = Path(place, name)
            with suppress(FileNotFoundError):  # another process removed it
                status = path.stat()
                yield StoredFile(path, status.st_size, max(status.st_atime, status.st_mtime))


def usage(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the number of files and bytes of each kind of contents."""
    totals: dict[str, tuple[int, int]] = {}
    kinds = [(_kind(file.path), file.size_bytes) for file in stored_files(folder)]
    counted = {"blobs", SNAPSHOTS}
    others = [
        ("interrupted downloads" if place == "partial" else "records and locks", size)
        for place in sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name not in counted)
        for size in _sizes(folder / place)
    ]  # fmt: skip
    for kind, size in (*kinds, *others):
        count, total = totals.get(kind, (0, 0))
        totals[kind] = count + 1, total + size
    return dict(sorted(totals.items(), key=lambda entry: -entry[1][1]))


def _sizes(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                yield Path(place, name).lstat().st_size


def _kind(path: Path) -> str:
    if path.parent.name == SNAPSHOTS:
        return "booted guests (snapshots)"
    try:
        with open_plain(path, flags=_UNUSED) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return "other files"
    return next((words for at, magic, words in _KINDS if head[at : at + len(magic)] == magic), "other files")


def trim(store: Store, keep_bytes: int, *, now: float | None = None) -> Trimmed:
    """Remove the least recently used files until at most `keep_bytes` are left.

    Raises HostError if the cache is not writable.
    """
    now = time.time() if now is None else now
    newest_first = sorted(stored_files(store.folder), key=lambda file: -file.used_at)
    is_alone = store.is_alone()
    kept = removed = removed_bytes = busy = 0
    for file in newest_first:
        if kept + file.size_bytes <= keep_bytes:
            kept += file.size_bytes
        elif not is_alone and now - file.used_at < IN_USE_S:
            kept += file.size_bytes
            busy += file.size_bytes
        elif _remove(file.path, store.folder):
            removed, removed_bytes = removed + 1, removed_bytes + file.size_bytes
    return Trimmed(removed, removed_bytes, kept, busy)


def _remove(path: Path, folder: Path) -> bool:
    with host_faults(folder):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def drop_joined(store: Store, *, now: float | None = None) -> None:
    """Remove whole initrds that were not used for a while, and their records."""
    oldest = (time.time() if now is None else now) - JOINED_KEPT_S
    with suppress(FileNotFoundError):
        for record in (store.folder / "memo" / JOINED).iterdir():
            digest = ""
            with suppress(OSError), open_plain(record) as file:
                digest = file.read().partition(b"\n")[2].decode("ascii", "replace")
            if not re.fullmatch("[0-9a-f]{64}", digest):
                continue
            path = store.blob(digest)
            with suppress(FileNotFoundError):
                status = path.stat()
                if max(status.st_atime, status.st_mtime) >= oldest:
                    continue
                path.unlink()
            record.unlink(missing_ok=True)


def tidy(store: Store) -> None:
    """Keep the cache within its limit, every ten minutes, without faults."""
    mark = store.folder / "locks" / TIDIED_FILE
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC  # which do not wait for the other end of a pipe
    with suppress(OSError, InputError), os.fdopen(os.open(mark, flags, 0o644), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if file.tell() and time.time() - os.fstat(file.fileno()).st_mtime < PAUSE_S:
            return
        os.utime(mark)
        if not file.tell():
            file.write(b"\n")
        drop_joined(store)
        limit = limit_bytes()
        if limit:
            trim(store, limit)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the cache's disk."""
    return shutil.disk_usage(folder).free
