"""Files kept by their digest, small records kept by a key, and locks on what is made from both.

    blobs/sha256/<xx>/<digest>   files, read-only; the name is the content's digest
    memo/<kind>/<digest of key>  records; the first line is the digest of the rest
    partial/<digest>             downloads that can go on where they stopped
    temp/, locks/                files of running processes

Everything appears whole or not at all. A process that is killed leaves at most a temporary file, which the next one to
open the store removes.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import hashlib
import json
import os
import pwd
import secrets
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from pwd import getpwuid
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Protocol, TypeVar

from bootmatrix.errors import DamagedCache, HostError, UntrustedError

if TYPE_CHECKING:
    from pydantic import BaseModel

PARTIAL_MAX_AGE_S = 7 * 24 * 3600
"""Unfinished downloads that nobody took up for so long are removed."""

COPY_BYTES = 1 << 20

HEALS = 3
"""How often one file may be found damaged, or missing, in the course of one piece of work."""

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def default_cache() -> Path:
    """The user's cache: BOOTMATRIX_CACHE, else below XDG_CACHE_HOME, else below ~/.cache."""
    own = os.environ.get("BOOTMATRIX_CACHE")
    if own:
        return Path(own).expanduser()
    common = os.environ.get("XDG_CACHE_HOME")
    return (Path(common) if common and Path(common).is_absolute() else Path.home() / ".cache") / "bootmatrix"


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def host_faults(folder: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into a message.

    Raises:
        HostError: the disk is full, or the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            hint = "Free some space, or put the cache elsewhere with BOOTMATRIX_CACHE."
            raise HostError(f"no space left for the cache in {folder}: {error.strerror}", hint) from error
        if error.errno in _FORBIDDEN:
            hint = f"{_owned(error.filename)}Give a folder that you may write with BOOTMATRIX_CACHE."
            raise HostError(f"the cache in {folder} cannot be written: {error.strerror}", hint) from error
        raise


def _owned(path: object) -> str:
    """What to do about a path of somebody else's, as a cache is after a run with sudo; empty for one of our own."""
    with suppress(OSError, KeyError, TypeError, ValueError):
        nearest = next(one for one in (Path(str(path)), *Path(str(path)).parents) if one.exists())
        owner = nearest.stat().st_uid
        if owner != os.geteuid():
            return f"{nearest} belongs to {getpwuid(owner).pw_name}: 'sudo chown -R' gives it to you. "
    return ""


def copy_into(path: Path, file: Writer) -> None:
    """Append a file to another that is on its way into the store."""
    with path.open("rb") as source:
        while data := source.read(COPY_BYTES):
            file.write(data)


def healed(work: Callable[[], T]) -> T:
    """Do work that takes files from a store; anew after each that turned out to be damaged, as that is then gone.

    Raises:
        DamagedCache: a file is damaged or missing again after it was made anew.
    """
    found: Counter[str] = Counter()
    while True:
        try:
            return work()
        except DamagedCache as error:
            found[error.sha256] += 1
            if found[error.sha256] >= HEALS:
                raise


class Writer:
    """A file on its way into the store."""

    def __init__(self, store: Store, path: Path, file: BinaryIO) -> None:
        self._store, self._path, self._file = store, path, file
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes, and say how many.

        Raises:
            HostError: the disk is full.
        """
        with host_faults(self._store.folder):
            self._file.write(data)
        self._digest.update(data)
        count = memoryview(data).nbytes
        self._size_bytes += count
        return count

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._digest.hexdigest()

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size_bytes

    def commit(self, expected_sha256: str | None = None) -> str:
        """Put the file into the store under its digest, and give the digest.

        Raises:
            UntrustedError: the digest is not the one expected; nothing is kept.
            HostError: the disk is full.
        """
        digest = self._digest.hexdigest()
        if expected_sha256 not in {None, digest}:
            raise UntrustedError(f"a file has the SHA-256 {digest}, and {expected_sha256} was expected")
        with host_faults(self._store.folder):
            self._file.flush()
            self._store.keep(self._path, digest)
        return digest


@dataclass(frozen=True)
class Codec(Generic[T]):
    """Converts a value to a record and back."""

    load: Callable[[bytes], T]
    dump: Callable[[T], bytes]


JSON: Codec[Any] = Codec(json.loads, lambda value: json.dumps(value).encode())
TEXT = Codec(bytes.decode, str.encode)


def model_codec(model: type[M]) -> Codec[M]:
    """Return the codec of a pydantic model."""
    return Codec(model.model_validate_json, lambda value: value.model_dump_json().encode())


class Memos(Protocol):
    """Small records kept by a kind and a key, as the store keeps them."""

    def memo(self, kind: str, key: str) -> bytes | None:
        """The record of a kind under a key, if there is one."""

    def set_memo(self, kind: str, key: str, value: bytes) -> None:
        """Keep a record."""


class Store:
    """A folder of files by digest and records by key, for any number of threads and processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self._blobs = f"{self.folder}/blobs/sha256"
        self._checked: dict[str, tuple[int, int, int]] = {}
        with host_faults(self.folder):
            for name in ("", "blobs", "blobs/sha256", "memo", "partial", "temp", "locks"):
                (self.folder / name).mkdir(mode=0o755, parents=True, exist_ok=True)
                _check_trusted(self.folder / name)
            self._clean()

    def blob(self, sha256: str) -> Path:
        """Where the file with this digest is, or would be."""
        return Path(self._blob(sha256))

    def _blob(self, sha256: str) -> str:
        return f"{self._blobs}/{sha256[:2]}/{sha256}"

    def has(self, sha256: str) -> bool:
        """Whether there is a file with this digest; its content is not looked at."""
        # A kernel may have a thousand files, and a Path of each takes longer than the kernel needs to look for it.
        return os.path.isfile(self._blob(sha256))  # noqa: PTH113

    def verified(self, sha256: str) -> Path:
        """The file with this digest, its content checked once a process.

        Raises:
            UntrustedError: the file was damaged, and is removed; or there is none.
        """
        path = self.blob(sha256)
        if not path.is_file():
            raise DamagedCache(f"the cache in {self.folder} has no file {sha256}", "Run again to get it anew.", sha256)
        now = _identity(path)
        if self._checked.get(sha256) != now:
            with host_faults(self.folder):
                is_sound = sha256_of(path) == sha256
            if not is_sound:
                path.unlink(missing_ok=True)
                message = f"a file of the cache was damaged, and has been removed: {path}"
                hint = "Run again to get it anew. If it happens often, check the disk."
                raise DamagedCache(message, hint, sha256)
            self._checked[sha256] = now
        return path

    def is_sound(self, sha256: str) -> bool:
        """Return whether the store has a file of this digest, with this content. A damaged one is removed."""
        try:
            self.verified(sha256)
        except DamagedCache:
            return False
        return True

    def add_bytes(self, data: bytes) -> str:
        """Keep bytes, and give their digest.

        Raises:
            HostError: the disk is full.
        """
        digest = hashlib.sha256(data).hexdigest()
        if self.is_sound(digest):  # if it is damaged, this replaces it
            return digest
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """A file that enters the store when it is committed, and leaves nothing behind when it is not."""
        with self.temporary() as (path, file):
            yield Writer(self, path, file)

    def keep(self, path: Path, sha256: str) -> Path:
        """Move a file, whose digest the caller has computed, to its place. It must be on the store's file system."""
        target = self.blob(sha256)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        path.chmod(0o444)
        path.replace(target)
        self._checked[sha256] = _identity(target)
        return target

    def partial(self, sha256: str) -> Path:
        """Where an unfinished download of this digest is kept; only for who holds `once("download", sha256)`."""
        return self.folder / "partial" / sha256

    def memo(self, kind: str, key: str) -> bytes | None:
        """The record of a kind under a key; None where there is none, or a damaged one."""
        path = self._memo_path(kind, key)
        try:
            with host_faults(self.folder):
                data = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, _, value = data.partition(b"\n")
        if hashlib.sha256(value).hexdigest().encode() != digest:
            path.unlink(missing_ok=True)
            return None
        return value

    def set_memo(self, kind: str, key: str, value: bytes) -> None:
        """Keep a record.

        Raises:
            HostError: the disk is full.
        """
        path = self._memo_path(kind, key)
        with host_faults(self.folder):
            path.parent.mkdir(mode=0o755, exist_ok=True)
            with self.temporary() as (temporary, file):
                file.write(hashlib.sha256(value).hexdigest().encode() + b"\n" + value)
                file.flush()
                temporary.replace(path)

    def cached(
        self,
        kind: str,
        key: str,
        make: Callable[[], T],
        codec: Codec[T] = JSON,
        is_whole: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Load the value that is kept under a kind and key, or make and keep it. One thread and process makes it.

        `is_whole` returns whether the files that a kept value names still exist; if not, it is made anew.
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
        """Return the digest of a file of the store that `make` adds if it is missing."""
        return self.cached(kind, key, make, TEXT, self.has)

    def cached_file(self, kind: str, key: str, make: Callable[[], tuple[str, int]]) -> tuple[str, int]:
        """Return the digest and the size in bytes of a file of the store that `make` adds if it is missing."""
        return self.cached(kind, key, make, is_whole=lambda file: self.has(file[0]))

    @contextmanager
    def once(self, kind: str, key: str) -> Iterator[None]:
        """Hold the lock of a kind and key, against other threads and other processes; the kernel frees it on a kill.

        Not to be taken twice by one thread.
        """
        path = self.folder / "locks" / f"{_safe(kind)}-{_digest_of(key)}"
        with host_faults(self.folder):
            file = _open_locked(path, os.O_CREAT)
        with file:
            try:
                yield
            finally:
                # Removed while still held: whoever waits for it sees that, and makes another.
                path.unlink(missing_ok=True)

    def _memo_path(self, kind: str, key: str) -> Path:
        return self.folder / "memo" / _safe(kind) / _digest_of(key)

    @contextmanager
    def temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file, locked for as long as its maker lives, so that others see that it is not abandoned."""
        path = self.folder / "temp" / f"{os.getpid()}-{secrets.token_hex(8)}"
        with host_faults(self.folder):
            file = _open_locked(path, os.O_CREAT | os.O_EXCL)
        try:
            yield path, file
        finally:
            path.unlink(missing_ok=True)
            # A full disk shows again when the buffer is flushed on closing; it has been told once.
            with suppress(OSError):
                file.close()

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A new folder of the store, locked for as long as its maker lives, and removed with all in it."""
        path = self.folder / "temp" / f"{os.getpid()}-{secrets.token_hex(8)}"
        with host_faults(self.folder):
            descriptor = _locked_folder(path)
        try:
            with host_faults(self.folder):
                yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)

    def _clean(self) -> None:
        for path in (self.folder / "temp").iterdir():
            _remove_abandoned(path)
        oldest_s = time.time() - PARTIAL_MAX_AGE_S
        for path in (self.folder / "partial").iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()


def _check_trusted(folder: Path) -> None:
    """Refuse a cache that others can write to: what it says of an image or a kernel is believed.

    A group of the user alone (the usual one of many distributions) has no others in it, and in a sticky folder such
    as /tmp nobody replaces what is somebody else's.

    Raises:
        HostError: they can.
    """
    status = folder.stat()
    if status.st_mode & stat.S_ISVTX:
        return
    is_ours = status.st_uid in {os.geteuid(), 0}
    open_to = [
        who
        for bit, who in ((0o020, "its group"), (0o002, "everybody"))
        if status.st_mode & bit and not (bit == 0o020 and _is_private(status.st_gid))
    ]
    if is_ours and not open_to:
        return
    found = f"may be written by {open_to[0]}" if open_to else f"belongs to the user {status.st_uid}"
    raise HostError(
        f"the cache {folder} {found}, and what is in it is trusted",
        f"Remove it, or, if nobody else wrote to it: chmod -R go-w {folder}. BOOTMATRIX_CACHE names another one."
        if open_to
        else "Name another one with BOOTMATRIX_CACHE, or with --cache.",
    )


def _is_private(group: int) -> bool:
    """Return whether a group is the user's own and has nobody else in it."""
    if group != os.getegid():
        return False
    try:
        user, found = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == user and set(found.gr_mem) <= {user}


def _open_locked(path: Path, flags: int) -> BinaryIO:
    """A file open for writing and locked. flock belongs to the open file, so it holds between threads too."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600), "wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except BaseException:
            file.close()
            raise
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _locked_folder(path: Path) -> int:
    """Make a folder and lock it; the descriptor that holds the lock. If it was cleaned away before that, once more."""
    while True:
        path.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    with suppress(FileNotFoundError, BlockingIOError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(descriptor)


def _identity(path: Path) -> tuple[int, int, int]:
    """Differs when the file was replaced or written to since."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _safe(kind: str) -> str:
    if not kind.replace("-", "").isalnum():
        raise ValueError(f"{kind!r} is no name for a kind of record")
    return kind
