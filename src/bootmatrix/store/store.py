"""The store: files by digest, records by key, and locks."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from bootmatrix.errors import DamagedCache, UntrustedError
from bootmatrix.fsio import open_plain
from bootmatrix.store.host_faults import FOLDERS, check_holds_nothing_else, check_trusted, host_faults
from bootmatrix.store.locks import lock_folder, open_locked, remove_abandoned, share_folder
from bootmatrix.store.records import JSON, TEXT, Codec

PARTIAL_MAX_AGE_S = 7 * 24 * 3600
"""Interrupted downloads that were not resumed for this long are removed."""

COPY_BYTES = 1 << 20
DIGEST_BYTES = 4 << 20

TIDIED_FILE = "tidied"
"""File among the locks that stays; the others are of running processes."""

HEALS = 3
"""Maximum number of times that one file may be damaged or missing during one call of `healed`."""

T = TypeVar("T")


def default_cache() -> Path:
    """Return the user's cache folder.

    It is BOOTMATRIX_CACHE, else below XDG_CACHE_HOME, else below ~/.cache.
    """
    configured = os.environ.get("BOOTMATRIX_CACHE")
    if configured:
        return Path(configured).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / ".cache") / "bootmatrix"


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    In large pieces: another thread may hold the interpreter's lock for 5 ms after each of them.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        piece = bytearray(min(max(os.fstat(file.fileno()).st_size, COPY_BYTES >> 4), DIGEST_BYTES))
        while size := file.readinto(piece):
            digest.update(memoryview(piece)[:size])
    return digest.hexdigest()


def _put(file: Path, target: Path) -> None:
    """Move a file to its place, even where damage has left a folder."""
    try:
        file.replace(target)
    except IsADirectoryError:
        shutil.rmtree(target)
        file.replace(target)


def healed(work: Callable[[], T]) -> T:
    """Call `work`, and call it again after each damaged file of the store.

    A damaged file is removed when it is read, so that the next call makes it again.

    Raises DamagedCache if a file is damaged or missing again after it was made again.
    """
    damages: Counter[str] = Counter()
    while True:
        try:
            return work()
        except DamagedCache as error:
            damages[error.sha256] += 1
            if damages[error.sha256] >= HEALS:
                raise


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Writer:
    """A temporary file that enters the store on commit."""

    def __init__(self, store: Store, path: Path, file: BinaryIO) -> None:
        self._store, self._path, self._file = store, path, file
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes, and return their number. Raises HostError if the disk is full."""
        with host_faults(self._store.folder):
            self._file.write(data)
        self._digest.update(data)
        count = memoryview(data).nbytes
        self._size_bytes += count
        return count

    def take(self, source: _Readable) -> None:
        """Append all that a file has. Raises HostError if the disk is full."""
        while data := source.read(COPY_BYTES):
            self.write(data)

    @property
    def sha256(self) -> str:
        """Return the digest of the bytes written so far."""
        return self._digest.hexdigest()

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._size_bytes

    def commit(self, expected_sha256: str | None = None) -> str:
        """Put the file into the store under its digest, and return the digest.

        Raises UntrustedError if the digest is not the expected one (nothing is kept), HostError if the disk is full.
        """
        digest = self._digest.hexdigest()
        if expected_sha256 not in {None, digest}:
            raise UntrustedError(f"SHA-256 mismatch: expected {expected_sha256}, got {digest}")
        with host_faults(self._store.folder):
            self._file.flush()
            self._store.keep(self._path, digest)
        return digest


class Store:
    """Files by digest and records by key, for any number of threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self._blobs = f"{self.folder}/blobs/sha256"
        self._checked: dict[str, tuple[int, int, int]] = {}
        with host_faults(self.folder):
            check_holds_nothing_else(self.folder)
            for name in ("", "blobs", *FOLDERS):
                self.own_folder(name)
            for name in ("blobs/sha256", "memo"):
                for entry in os.scandir(self.folder / name):
                    if entry.is_dir():
                        check_trusted(Path(entry.path))
            self._users = share_folder(self.folder / "locks")
            self._clean()

    def own_folder(self, name: str) -> Path:
        """Return a folder of the cache, which is made if missing.

        Raises HostError if others can write to it, as its content is trusted; or the cache is not writable.
        """
        path = self.folder / name
        with host_faults(self.folder):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            check_trusted(path, is_top=not name)
        return path

    def blob(self, sha256: str) -> Path:
        """Return the path of the file with this digest, which may be missing."""
        return Path(self._blob(sha256))

    def _blob(self, sha256: str) -> str:
        return f"{self._blobs}/{sha256[:2]}/{sha256}"

    def has(self, sha256: str) -> bool:
        """Return whether a file with this digest exists. Its content is not read."""
        # A kernel may have a thousand files, and making a Path of each takes longer than the system call.
        return os.path.isfile(self._blob(sha256))  # noqa: PTH113

    def verified(self, sha256: str) -> Path:
        """Return the file with this digest. Its content is checked once per process.

        Raises DamagedCache if the file is missing, or was damaged and is removed.
        """
        path = self.blob(sha256)
        if not path.is_file():
            raise DamagedCache(f"{sha256} is missing in the cache {self.folder}", "Run again.", sha256)
        identity = _identity(path)
        if self._checked.get(sha256) != identity:
            with host_faults(self.folder):
                is_sound = sha256_of(path) == sha256
            if not is_sound:
                path.unlink(missing_ok=True)
                message = f"a damaged file of the cache was removed: {path}"
                hint = "Run again to restore it. If this happens often, check the disk."
                raise DamagedCache(message, hint, sha256)
            self._checked[sha256] = identity
            touch(path)
        return path

    def is_alone(self) -> bool:
        """Return whether nobody else uses the cache."""
        return self._users.is_alone()

    def is_sound(self, sha256: str) -> bool:
        """Return whether the store has this file undamaged. A damaged one is removed."""
        try:
            self.verified(sha256)
        except DamagedCache:
            return False
        return True

    def add_bytes(self, data: bytes) -> str:
        """Keep bytes, and return their digest. Raises HostError if the disk is full."""
        digest = hashlib.sha256(data).hexdigest()
        if self.is_sound(digest):  # if it is damaged, this replaces it
            return digest
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Open a file that enters the store on commit. Without a commit it is removed."""
        with self.temporary() as (path, file):
            yield Writer(self, path, file)

    def keep(self, path: Path, sha256: str) -> Path:
        """Move a file of this digest to its place, and return the path.

        The caller has computed the digest. The file must be on the store's file system.
        """
        target = self.blob(sha256)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        path.chmod(0o444)
        _put(path, target)
        self._checked[sha256] = _identity(target)
        return target

    def partial(self, sha256: str) -> Path:
        """Return the path of an interrupted download: a file, or nothing.

        Only for the holder of `once("download", sha256)`.
        """
        path = self.folder / "partial" / sha256
        if path.is_symlink() or (path.exists() and not path.is_file()):
            with self.temporary() as (temporary, _):
                _put(temporary, path)
        return path

    def memo(self, kind: str, key: str) -> bytes | None:
        """Return the record of a kind under a key; None if it is missing or damaged."""
        path = self._memo_path(kind, key)
        try:
            with host_faults(self.folder), open_plain(path) as file:
                data = file.read()
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EINVAL}:  # missing, or not a regular file
                return None
            raise
        digest, _, value = data.partition(b"\n")
        if hashlib.sha256(value).hexdigest().encode() != digest:
            path.unlink(missing_ok=True)
            return None
        return value

    def set_memo(self, kind: str, key: str, value: bytes) -> None:
        """Keep a record. Raises HostError if the disk is full."""
        path = self._memo_path(kind, key)
        with host_faults(self.folder):
            path.parent.mkdir(mode=0o755, exist_ok=True)
            with self.temporary() as (temporary, file):
                file.write(hashlib.sha256(value).hexdigest().encode() + b"\n" + value)
                file.flush()
                _put(temporary, path)

    def forget_memos(self, kind: str, *, older_than_s: float) -> None:
        """Remove the records of a kind that were made longer ago than this."""
        oldest_s = time.time() - older_than_s
        for path in (self.folder / "memo" / _safe(kind)).iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()

    def cached(
        self,
        kind: str,
        key: str,
        make: Callable[[], T],
        codec: Codec[T] = JSON,
        is_whole: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Load the value kept under a kind and key, or make and keep it.

        Only one thread of one process makes it. `is_whole` returns whether the files of a kept value still exist.
        If not, the value is made again.
        """
        with self.once(kind, key):
            record = self.memo(kind, key)
            if record is not None:
                value = codec.load(record)
                if is_whole(value):
                    return value
            value = make()
            self.set_memo(kind, key, codec.dump(value))
            return value

    def cached_digest(self, kind: str, key: str, make: Callable[[], str]) -> str:
        """Return the digest of a file that `make` adds to the store if it is missing."""
        return self.cached(kind, key, make, TEXT, self.has)

    def cached_file(self, kind: str, key: str, make: Callable[[], tuple[str, int]]) -> tuple[str, int]:
        """Return digest and size in bytes of a file that `make` adds if it is missing."""
        return self.cached(kind, key, make, is_whole=lambda file: self.has(file[0]))

    @contextmanager
    def once(self, kind: str, key: str) -> Iterator[None]:
        """Hold the lock of a kind and key against other threads and processes.

        The kernel frees it when the process ends. One thread must not take it twice.
        """
        path = self.folder / "locks" / f"{_safe(kind)}-{_digest_of(key)}"
        with host_faults(self.folder):
            file = open_locked(path, os.O_CREAT)
        with file:
            try:
                yield
            finally:
                # Removed while it is held: a waiter notices that, and makes another.
                path.unlink(missing_ok=True)

    def _memo_path(self, kind: str, key: str) -> Path:
        return self.folder / "memo" / _safe(kind) / _digest_of(key)

    @contextmanager
    def temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Open a new file. It is locked while its process lives, so that others keep it."""
        path = self.folder / "temp" / f"{os.getpid()}-{secrets.token_hex(8)}"
        with host_faults(self.folder):
            file = open_locked(path, os.O_CREAT | os.O_EXCL)
        try:
            yield path, file
        finally:
            path.unlink(missing_ok=True)
            # A full disk fails again when closing flushes the buffer. The first failure was reported.
            with suppress(OSError):
                file.close()

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Make a new folder, locked while its process lives. It is removed at the end."""
        path = self.folder / "temp" / f"{os.getpid()}-{secrets.token_hex(8)}"
        with host_faults(self.folder):
            descriptor = lock_folder(path)
        try:
            with host_faults(self.folder):
                yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)

    def _clean(self) -> None:
        for path in (self.folder / "temp").iterdir():
            remove_abandoned(path)
        for path in (self.folder / "locks").iterdir():
            if path.name != TIDIED_FILE:
                remove_abandoned(path)
        oldest_s = time.time() - PARTIAL_MAX_AGE_S
        for path in (self.folder / "partial").iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()


def touch(path: Path) -> None:
    """Record a file's use in its access time, which disks may not keep."""
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _identity(path: Path) -> tuple[int, int, int]:
    """Return a value that changes when the file is replaced or written to."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _safe(kind: str) -> str:
    if not kind.replace("-", "").isalnum():
        raise ValueError(f"invalid kind of record: {kind!r}")
    return kind
