"""Faults of the file system that holds the cache, as errors with a hint."""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bootmatrix.errors import HostError, InputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FOLDERS = ("blobs/sha256", "memo", "partial", "temp", "locks")
"""Folders of each cache."""
_TIDIED = ("blobs/sha256", "partial", "temp", "locks", "snapshots", "reservations", "try")
"""Folders of a cache from which files are removed without being asked."""
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


@contextmanager
def host_faults(folder: Path) -> Iterator[None]:
    """Raise a full disk or a forbidden folder as an error with a hint.

    Raises HostError if the disk is full, or the folder is not writable.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            hint = "Free some space, or move the cache with BOOTMATRIX_CACHE."
            raise HostError(f"no space left for the cache in {folder}: {error.strerror}", hint) from error
        if error.errno in _FORBIDDEN:
            hint = f"{_owner_hint(error.filename)}Set BOOTMATRIX_CACHE to a folder that you can write to."
            raise HostError(f"the cache in {folder} is not writable: {error.strerror}", hint) from error
        raise


def _owner_hint(path: object) -> str:
    """Return a hint on a path that another user owns, as after sudo, or ""."""
    with suppress(OSError, KeyError, TypeError, ValueError):
        nearest = next(folder for folder in (Path(str(path)), *Path(str(path)).parents) if folder.exists())
        owner = nearest.stat().st_uid
        if owner != os.geteuid():
            return f"{nearest} belongs to {pwd.getpwuid(owner).pw_name}: change that with 'sudo chown -R'. "
    return ""


def is_cache(folder: Path) -> bool:
    """Return whether a folder was made as a cache.

    Empty folders of it may be missing: tools that save a cache for CI leave them out.
    """
    return (folder / "blobs/sha256").is_dir() and any((folder / name).is_dir() for name in ("memo", "locks"))


def check_holds_nothing_else(folder: Path) -> None:
    """Refuse a folder as a cache if its tidying would remove other files.

    Raises InputError if it was not made as a cache, and has files where a cache has its own.
    """
    taken = next((folder / name for name in _TIDIED if not is_cache(folder) and _has_entries(folder / name)), None)
    if taken and not is_cache(folder):  # another process may have made it meanwhile
        raise InputError(
            f"{folder} is not a cache, and {taken} has files, which would be removed as a cache's",
            "Name a new or empty folder: --cache, or BOOTMATRIX_CACHE.",
        )


def _has_entries(folder: Path) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return next(entries, None) is not None
    return False


def check_trusted(folder: Path, is_top: bool = False) -> None:
    """Refuse a cache that other users can write to, as its content is trusted.

    The user's private group, the default of many distributions, has no other members. The top folder may be sticky,
    such as /tmp: there nobody but its owner can replace the folders in it, which are checked too. They may not, as
    others could add files to them.

    Raises HostError if other users can write to the folder.
    """
    status = folder.stat()
    is_ours = status.st_uid in {os.geteuid(), 0}
    if is_top and is_ours and status.st_mode & stat.S_ISVTX:
        return
    open_to = [
        who
        for bit, who in ((0o020, "its group"), (0o002, "everybody"))
        if status.st_mode & bit and not (bit == 0o020 and _is_private(status.st_gid))
    ]
    if is_ours and not open_to:
        return
    reason = f"is writable by {open_to[0]}" if open_to else f"belongs to user {status.st_uid}"
    raise HostError(
        f"untrusted cache {folder}: it {reason}",
        "A cache has one user, since its content is trusted: set BOOTMATRIX_CACHE, or --cache, to one of your own. "
        f"If nobody else wrote to this one, run 'chmod -R go-w {folder}'; else remove it."
        if open_to
        else "Select another cache with BOOTMATRIX_CACHE or --cache.",
    )


def _is_private(group: int) -> bool:
    """Return whether a group is the user's own and has no other members."""
    if group != os.getegid():
        return False
    try:
        user, entry = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == user and set(entry.gr_mem) <= {user}
