"""A hostile guest's files, written below a folder of the host."""

import os
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bootmatrix.errors import GuestFileError, HostError, described
from bootmatrix.guest.frames import AgentFault
from bootmatrix.guest.records import PARTIAL, RecordReader, RecordType, TreeRecord
from bootmatrix.store.locks import lock_unused_folder, remove_abandoned

MAX_FILES = 100_000
MAX_DEPTH = 256
"""Nested folders of one tree, as in an image: a tree is put into its place, and removed, by a call for each."""
MAX_NAMES = 32 << 20
"""Characters of the paths and links of one tree; the paths are held in memory."""
MAX_NOTES = 10
DEFAULT_LIMIT_BYTES = 1 << 30
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class TreeCheck:
    """Check the records of one tree: paths below its top, numbers, links.

    `notes` say what is left out, of the first ones.
    """

    def __init__(self, source: str, max_files: int = MAX_FILES) -> None:
        self.notes: list[str] = []
        self._source, self._max_files = source, max_files
        self._kinds: dict[str, RecordType] = {}
        self._names = 0

    @property
    def entries(self) -> int:
        """Number of its files, folders, links and others so far."""
        return len(self._kinds)

    def _check(self, record: TreeRecord) -> None:
        """Check that a record's path is new, and in a folder of this tree."""
        parts = record.path.split("/")
        if record.path and any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise AgentFault(f"the path {record.path[:200]!r}")
        parent = "/".join(parts[:-1])
        if record.path in self._kinds or (record.path and self._kinds.get(parent) is not RecordType.FOLDER):
            raise AgentFault(f"the path {record.path[:200]!r} twice, or without its folder")
        if len(parts) > MAX_DEPTH:
            raise GuestFileError(f"{self._source}: a file in more than {MAX_DEPTH} folders")
        if len(self._kinds) >= self._max_files:
            raise GuestFileError(f"{self._source}: more than {self._max_files} files")
        self._names += len(record.path) + len(record.target)
        if self._names > MAX_NAMES:
            raise GuestFileError(f"{self._source}: the paths of its files have more than {MAX_NAMES >> 20} MiB")
        self._kinds[record.path] = record.type

    def _may_link(self, record: TreeRecord) -> bool:
        """Return whether a link stays in the tree; if not, note that it is left out."""
        if not record.path or not _stays_inside(record.target, record.path.count("/")):
            self._note(f"{self._named(record)}: a link out of the tree is left out")
            return False
        return True

    def _leave_out(self, record: TreeRecord) -> None:
        kind = KINDS.get(stat.S_IFMT(record.mode), "not a regular file")
        if not record.path:
            raise GuestFileError(f"{self._source}: cannot be fetched: it is {kind}")
        self._note(f"{self._named(record)}: {kind} is left out")

    def _note(self, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def _named(self, record: TreeRecord) -> str:
        return f"{self._source}/{record.path}" if record.path else self._source


class TreeReceiver(TreeCheck):
    """Receive one tree into a new folder beside its target, then put it in its place.

    Only folders of the same tree are written to, and no link is followed: what is written stays in that folder.
    """

    def __init__(self, source: str, target: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        super().__init__(source)
        self._target, self._left, self._limit = target, limit_bytes, limit_bytes
        self._reader = RecordReader()
        self._file: BinaryIO | None = None
        self._mode = 0
        self._is_over = False
        try:
            self._folder, self._lock = _new_folder(
                next(folder for folder in target.absolute().parents if folder.is_dir())
            )
        except OSError as error:
            raise HostError(*described(error)) from error

    def feed(self, data: bytes) -> None:
        """Take what the agent's `get` sends.

        Raises GuestFileError if the guest cannot send a file, or too much of it; AgentFault if it does not keep to the
        protocol; HostError if it cannot be written.
        """
        try:
            for item in self._reader.feed(data):
                self._write(item) if isinstance(item, bytes) else self._begin(item)
        except OSError as error:
            raise HostError(*described(error)) from error

    def finish(self) -> None:
        """Put the tree into its place.

        Raises AgentFault if it is incomplete, HostError if it cannot be written.
        """
        self._close_file()
        if not self._is_over or not self._reader.is_between:
            raise AgentFault("an incomplete tree")
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            _merge(self._folder / "top", self._target)
        except OSError as error:
            raise HostError(*described(error)) from error

    def close(self) -> None:
        """Remove what is not in its place."""
        self._close_file()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _begin(self, record: TreeRecord) -> None:
        self._close_file()
        if self._is_over:
            raise AgentFault("a record after the last one")
        if record.type is RecordType.END:
            self._is_over = True
            return
        if record.type is RecordType.FAULT:
            raise GuestFileError(f"{self._named(record)}: {fault_cause(record.size, self._limit)}")
        if record.type is RecordType.OWNER:
            raise AgentFault("a record that was not asked for")
        self._check(record)
        path = self._path(record.path)
        if record.type is RecordType.FOLDER:
            path.mkdir()
            path.chmod(record.mode & 0o755 | 0o700)
        elif record.type is RecordType.LINK:
            if self._may_link(record):
                path.symlink_to(record.target)
        elif record.type is RecordType.OTHER:
            self._leave_out(record)
        else:
            self._open(record, path)

    def _open(self, record: TreeRecord, path: Path) -> None:
        self._left -= record.size
        if self._left < 0:
            raise GuestFileError(f"{self._named(record)}: more than {self._limit >> 20} MiB in all")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._mode = record.mode & 0o777 | 0o600

    def _write(self, data: bytes) -> None:
        assert self._file
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def _path(self, below: str) -> Path:
        return self._folder / "top" / PurePosixPath(below)

    def _close_file(self) -> None:
        if self._file:
            os.fchmod(self._file.fileno(), self._mode)
            self._file.close()
            self._file = None


def _new_folder(parent: Path) -> tuple[Path, int | None]:
    """Make a locked folder for a partial tree; remove killed processes' ones."""
    for left in parent.glob(f"{PARTIAL}*"):
        with suppress(OSError):
            remove_abandoned(left)
    folder = parent / f"{PARTIAL}{secrets.token_hex(8)}"
    return folder, lock_unused_folder(folder)


def fault_cause(number: int, limit_bytes: int) -> str:
    """Describe the errno of a record of type FAULT."""
    if number == 27:  # EFBIG
        return f"more than {limit_bytes >> 20} MiB in all"
    return os.strerror(number) if number < 200 else "cannot be read"


def _stays_inside(target: str, depth: int) -> bool:
    """Return whether a link of this depth stays in the tree.

    `..` is only followed from the link's own folder: behind a name, which may be a link, it may lead anywhere.
    """
    parts = [part for part in target.split("/") if part not in {"", "."}]
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return bool(target) and not target.startswith("/") and "\0" not in target and up <= depth and ".." not in parts[up:]


def _merge(source: Path, target: Path, is_top: bool = True) -> None:
    """Move a tree over others: files and links are replaced, folders stay.

    A link is only followed if it is the target itself: a guest may have made the others, in an earlier tree.
    """
    is_folder = target.is_dir() and (is_top or not target.is_symlink())
    if not source.is_symlink() and source.is_dir() and is_folder:
        for entry in source.iterdir():
            _merge(entry, target / entry.name, is_top=False)
        return
    if source.is_dir() and not source.is_symlink() and (target.is_symlink() or target.exists()):
        target.unlink()
    source.replace(target)
