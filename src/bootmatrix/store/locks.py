"""Files and folders that are locked while their process lives."""

import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from bootmatrix.errors import HostError

TEMPORARY = "bootmatrix-temp-"
"""First part of the names of temporary folders."""


def open_locked(path: Path, flags: int) -> BinaryIO:
    """Open a file for writing, and lock it.

    flock belongs to the open file, so it holds between threads too.
    """
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


class FolderUse:
    """A lock on a folder that every process shares while it uses the folder."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
                text = f"the cache in {path.parent} is on a file system without locks (flock)"
                raise HostError(text, "Set BOOTMATRIX_CACHE to a folder on a local disk.") from error
            raise

    def is_alone(self) -> bool:
        """Return whether nobody else shares the lock."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        return True


def share_folder(path: Path) -> FolderUse:
    """Share a writable folder with other processes.

    Raises HostError if the file system has no locks, OSError if the folder is not writable.
    """
    if not os.access(path, os.W_OK | os.X_OK):
        read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number), str(path))
    return FolderUse(path)


def lock_folder(path: Path) -> int:
    """Make a folder, lock it, and return the descriptor that holds the lock.

    If another process removes the folder before the lock is held, it is made again.
    """
    while True:
        descriptor = _locked_folder(path, fcntl.LOCK_EX)
        if descriptor is not None:
            return descriptor


def lock_unused_folder(path: Path) -> int | None:
    """Make and lock a folder; None if another process has or removed it."""
    return _locked_folder(path, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _locked_folder(path: Path, operation: int) -> int | None:
    path.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileNotFoundError), ExitStack() as stack:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, operation)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                stack.pop_all()
                return descriptor
    return None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for temporary files; it is removed at the end.

    It is locked while its process lives. Those of killed processes are removed before.
    """
    parent = Path(tempfile.gettempdir())
    for other in parent.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            status = other.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
                remove_abandoned(other)
    path = parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    descriptor = lock_folder(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned(path: Path) -> None:
    """Remove a file or folder that no process has locked, or a link."""
    with suppress(FileNotFoundError, BlockingIOError):
        if path.is_symlink():
            path.unlink()
            return
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would keep it waiting
        descriptor = os.open(path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(descriptor)
