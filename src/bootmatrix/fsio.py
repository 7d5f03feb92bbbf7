"""Files written whole or not at all."""

import ctypes
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

BUFFER_BYTES = 1 << 16
DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/")
"""Beginnings of names of open descriptors, which may lead to regular files that are written to already."""


def write_atomic(path: Path, data: bytes | Iterable[bytes], durable: bool = True) -> None:
    """Write a file, whole or not at all, even when the power fails.

    `data` is what it holds, or its pieces.

    What is not `durable` does not wait for the disk: a kill leaves it whole, but when the power fails it may be empty,
    unless `sync_disk` came between.

    Raises OSError if it cannot be written; the error names `path`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb", buffering=BUFFER_BYTES) as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_named(path: Path, data: bytes) -> None:
    """Write a file that a user named: atomically, and through links.

    A device, a pipe or a descriptor is never replaced, but written to.

    Raises OSError if it cannot be written.
    """
    if not is_stream(path):
        write_atomic(path.resolve(), data)
        return
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            while data:
                data = data[file.write(data) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_stream(path: Path) -> bool:
    """Return whether a name is a device, pipe, folder or open descriptor."""
    return str(path).startswith(DESCRIPTORS) or (path.exists() and not path.is_file())


def open_plain(path: Path | str, limit_bytes: int | None = None, flags: int = 0, dir_fd: int | None = None) -> BinaryIO:
    """Open a regular file of a folder that may be somebody else's, for reading.

    Neither links nor files that never end, such as pipes and devices, are opened. `flags` and `dir_fd` are those of
    os.open.

    Raises OSError if it cannot be opened, is not a regular file, or larger than the limit.
    """
    flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        handle = os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.EINVAL, "not a regular file, but a link", str(path)) from error
        raise
    status = os.fstat(handle)
    fault = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
    if not fault and limit_bytes is not None and status.st_size > limit_bytes:
        fault = f"larger than {limit_bytes >> 20} MiB"
    if fault:
        os.close(handle)
        raise OSError(errno.EINVAL, fault, str(path))
    return os.fdopen(handle, "rb")


def create_plain(path: Path, buffering: int = -1) -> BinaryIO:
    """Open an empty regular file for writing, in a folder that others may write to.

    A link there, to a file that would be overwritten, is not followed.

    Raises OSError if it cannot be opened, or is not a regular file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.EINVAL, "not a regular file, but a link", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    os.ftruncate(handle, 0)
    return os.fdopen(handle, "wb", buffering=buffering)


def open_below(folder: Path, names: Sequence[str], limit_bytes: int | None = None) -> BinaryIO:
    """Open a regular file below a folder, by all names between, the last its own.

    None of them may be a link, nor become one meanwhile: the folder may be somebody else's.

    Raises OSError as `open_plain` does.
    """
    with opened_folder(folder, names[:-1]) as handle:
        return open_plain(names[-1], limit_bytes, dir_fd=handle)


@contextmanager
def opened_folder(folder: Path, names: Sequence[str]) -> Iterator[int]:
    """Open a folder below another, by all names between, the last its own.

    None of them may be a link.

    Raises OSError if one is not a folder.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with ExitStack() as stack:
        handle = os.open(folder, flags)
        stack.callback(os.close, handle)
        for number, name in enumerate(names, 1):
            try:
                handle = os.open(name, flags | os.O_NOFOLLOW, dir_fd=handle)
            except OSError as error:
                is_other = error.errno in {errno.ENOTDIR, errno.ELOOP}
                words = "not a folder, or a link to one" if is_other else error.strerror
                raise OSError(error.errno, words, str(folder.joinpath(*names[:number]))) from error
            stack.callback(os.close, handle)
        yield handle


def write_atomic_in(folder: int, name: str, data: bytes) -> None:
    """Write a file of an open folder, whole or not at all, as `write_atomic` does.

    Raises OSError if it cannot be written.
    """
    temporary = f".{name}.{secrets.token_hex(8)}.part"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def read_whole(path: Path) -> bytes:
    """A file, read at once without a buffer: in half the time.

    Raises OSError if it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return file.read()


def replace_link(link: Path, target: str) -> None:
    """Point a symbolic link to a target, atomically.

    Raises OSError if the file system has no links, or cannot be written.
    """
    temporary = link.with_name(f".{link.name}.{os.getpid()}.{time.monotonic_ns()}")
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)


def sync_disk(folder: Path) -> None:
    """Wait until a folder's whole file system is on its disk: one wait.

    Raises OSError if it cannot be written.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):  # syncfs(2), for which Python has no name
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
    finally:
        os.close(handle)
