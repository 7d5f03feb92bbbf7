"""Snapshots in the cache, across runs: atomic, bounded, evicted by last use."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from bootmatrix.errors import InputError
from bootmatrix.snapshot.snapshot import DamagedSnapshot, ReadSnapshot, Snapshot, load, read, write
from bootmatrix.store import Store, host_faults
from bootmatrix.store.trim import SNAPSHOTS

LIMIT_MIB = 4096
"""Limit of all snapshots on disk. One takes 40 to 130 MiB."""
LIMIT_VARIABLE = "BOOTMATRIX_SNAPSHOTS_MIB"

T = TypeVar("T")


def limit_bytes() -> int:
    """Return the limit of the environment, or the usual one. Raises InputError."""
    text = os.environ.get(LIMIT_VARIABLE) or str(LIMIT_MIB)
    if not re.fullmatch("[0-9]{1,12}", text):
        raise InputError(f"{LIMIT_VARIABLE}={text!r}: expected a number of MiB; 0 keeps none")
    return int(text) << 20


class SnapshotCache:
    """Snapshots by a key of all inputs, for any number of processes."""

    def __init__(self, store: Store, most_bytes: int | None = None) -> None:
        self._store = store
        self._most_bytes = limit_bytes() if most_bytes is None else most_bytes
        self._folder = store.own_folder(SNAPSHOTS)

    def path(self, key: str) -> Path:
        """Return the path of a key's snapshot."""
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def get(self, key: str) -> Snapshot | None:
        """Return the snapshot of a key, or None. A damaged one is removed."""
        return self._used(key, read)

    def load(self, key: str) -> ReadSnapshot | None:
        """Return the snapshot of a key, which is to be verified, or None."""
        return self._used(key, load)

    def _used(self, key: str, how: Callable[[Path], T]) -> T | None:
        path = self.path(key)
        try:
            value = how(path)
        except OSError:
            return None
        except DamagedSnapshot:
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # removed or read-only meanwhile: it is read already
            os.utime(path)
        return value

    def put(self, key: str, snapshot: Snapshot) -> None:
        """Keep a snapshot within the limit. Raises HostError on a full disk."""
        with host_faults(self._folder):
            self._store.own_folder(SNAPSHOTS)
            with self._store.temporary() as (path, file):
                kept = self.path(key)
                if write(snapshot, file, kept.name) > self._most_bytes:
                    return
                path.replace(kept)
            self._evict()

    def discard(self, key: str) -> None:
        """Forget a snapshot that does not do."""
        self.path(key).unlink(missing_ok=True)

    def _evict(self) -> None:
        taken_bytes = 0
        for _, size_bytes, path in sorted(self._files(), reverse=True):
            taken_bytes += size_bytes
            if taken_bytes > self._most_bytes:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process makes room too
                status = path.stat()
                yield status.st_mtime_ns, status.st_size, path
