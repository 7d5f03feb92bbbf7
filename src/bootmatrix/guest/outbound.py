"""Files and folders of the host as records for a guest."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bootmatrix.errors import InputError, described
from bootmatrix.guest.records import PARTIAL, RecordType, TreeRecord

CHUNK_BYTES = 1 << 20
MAX_FILES = 50_000
MAX_BYTES = 4 << 30
MAX_DEPTH = 128
MAX_LINKS = 40
NS = 10**9
MAX_NAMED = 3
"""Paths in a note."""

Known = dict[str, tuple[int, int, int, int]]
"""Size, mode, times (ns) of content and status of what a guest has from the host, by its path there.

The time of the content alone can be set: archives and `cp -p` give another content the same one.
"""


@dataclass
class TreeLimits:
    """Limits of a tree, counted down; `hint` is the remedy."""

    files: int = MAX_FILES
    bytes: int = MAX_BYTES
    hint: str = ""
    skipped: list[str] = field(default_factory=list)
    """Sockets, devices and pipes, which are left out."""

    def __post_init__(self) -> None:
        self._most = self.files, self.bytes
        self._files: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def notes(self) -> list[str]:
        """Return a note on what is left out, if anything is."""
        names = ", ".join(self.skipped[:MAX_NAMED]) + (" and more" if len(self.skipped) > MAX_NAMED else "")
        return [f"not copied into the guest, as they are not files: {names}"] if names else []

    def take(self, top: str, below: str, size: int) -> None:
        """Count a file `below` a folder. Raises InputError if it is beyond a limit."""
        self.files -= 1
        self.bytes -= size
        part = below.partition("/")[0]
        self._files[part] += 1
        self._bytes[part] += size
        if self.files < 0 or self.bytes < 0:
            lack, counts = (
                (f"{self._most[0]} files", self._files)
                if self.files < 0
                else (f"{self._most[1] >> 20} MiB", self._bytes)
            )
            ((largest, _),) = counts.most_common(1)
            words = f", most of them in {largest}" if largest else ""
            raise InputError(f"{top}: more than {lack} to copy into the guest{words}", self.hint)


@dataclass(frozen=True)
class _Entry:
    """A file, link or folder of the host, and its path below the top.

    Records have whole seconds. What `is_later` than another copy has the next one: for make, a source that was edited
    is newer than what the guest built of it before.
    """

    path: str
    below: str
    status: os.stat_result
    is_later: bool = False

    @property
    def top(self) -> str:
        """The path of what is copied, as given."""
        return self.path.removesuffix(self.below).rstrip("/") or "/"

    @property
    def identity(self) -> tuple[int, int, int, int]:
        return self.status.st_size, self.status.st_mode, self.status.st_mtime_ns, self.status.st_ctime_ns

    def record(self, kind: RecordType, size: int = 0, target: str = "") -> bytes:
        mode = stat.S_IMODE(self.status.st_mode)
        mtime_s = (self.status.st_mtime_ns + (NS - 1 if self.is_later else 0)) // NS
        return TreeRecord(kind, self.below, mode, size, mtime_s, target).encoded()


def tree_records(top: Path, limits: TreeLimits, known: Known | None = None) -> Iterator[bytes]:
    """Yield a file or a folder's content, counted before the first one.

    Files in `known` that have not changed are left out; everything is added to it.

    Raises InputError if it cannot be read, or is too large.
    """
    with _input_errors(limits):
        for entry in list(_entries(_Entry(str(top), "", top.stat(), bool(known)), limits, 0)):
            yield from _record(entry, known)
    yield TreeRecord(RecordType.END).encoded()


def check_tree(top: Path, limits: TreeLimits) -> None:
    """Count a file or a folder's content. Raises InputError as `tree_records` does."""
    with _input_errors(limits):
        for _ in _entries(_Entry(str(top), "", top.stat()), limits, 0):
            pass


@contextmanager
def _input_errors(limits: TreeLimits) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text, hint = described(error)
        raise InputError(text, limits.hint or hint) from error


def _entries(entry: _Entry, limits: TreeLimits, depth: int) -> Iterator[_Entry]:
    mode = entry.status.st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
        if not depth:
            raise InputError(f"{entry.path}: not a file or folder")
        limits.skipped.append(entry.path)
        return
    if depth > MAX_DEPTH:
        raise InputError(f"{entry.path}: more than {MAX_DEPTH} folders deep")
    limits.take(entry.top, entry.below, entry.status.st_size if stat.S_ISREG(mode) else 0)
    if stat.S_ISREG(mode) and not os.access(entry.path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), entry.path)
    yield entry
    if not stat.S_ISDIR(mode):
        return
    with os.scandir(entry.path) as entries:
        ordered = sorted(
            (inner for inner in entries if not inner.name.startswith(PARTIAL)), key=lambda inner: inner.name
        )
    for inner in ordered:
        below = f"{entry.below}/{inner.name}" if entry.below else inner.name
        status = inner.stat(follow_symlinks=False)
        yield from _entries(_Entry(inner.path, below, status, entry.is_later), limits, depth + 1)


def links_of(path: str) -> Iterator[tuple[str, str]]:
    """Yield the links on the way to a folder, by resolved paths, and targets."""
    done, rest, links = "/", path.split("/"), 0
    while rest:
        name = rest.pop(0)
        done = os.path.normpath(os.path.join(done, name))  # noqa: PTH118
        if links < MAX_LINKS and os.path.islink(done):  # noqa: PTH114
            links += 1
            target = os.readlink(done)  # noqa: PTH115
            yield done, target
            rest = [*target.split("/"), *rest]
            done = "/" if target.startswith("/") else os.path.dirname(done)  # noqa: PTH120


def link_records(target: str) -> Iterator[bytes]:
    """Yield a link as a tree."""
    yield TreeRecord(RecordType.LINK, target=target).encoded()
    yield TreeRecord(RecordType.END).encoded()


def outdated(known: Known, folder: str) -> list[str]:
    """Return what is gone, or has become a folder or ceased to be one.

    It is removed from `known`. Folders count only below `folder`; what is below an outdated one is not named.
    """
    found: list[str] = []
    for path in sorted(known, key=lambda path: path.split("/")):
        mode = known[path][1]
        is_below = bool(found) and path.startswith(f"{found[-1]}/")
        if is_below or ((stat.S_ISREG(mode) or path.startswith(f"{folder}/")) and not _is_there(path, mode)):
            del known[path]
            found += [] if is_below else [path]
    return found


def _is_there(path: str, mode: int) -> bool:
    """Return whether a path leads to a folder, or to none, as it did."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode) == stat.S_ISDIR(mode)
    except OSError:
        return False


def _record(entry: _Entry, known: Known | None) -> Iterator[bytes]:
    if stat.S_ISDIR(entry.status.st_mode):
        yield entry.record(RecordType.FOLDER)
    elif stat.S_ISLNK(entry.status.st_mode):
        yield entry.record(RecordType.LINK, target=os.readlink(entry.path))  # noqa: PTH115
    elif known is None or known.get(entry.path) != entry.identity:
        yield from _file(entry)
    if known is not None:
        known[entry.path] = entry.identity


def _file(entry: _Entry) -> Iterator[bytes]:
    with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123
        size = os.fstat(file.fileno()).st_size
        yield entry.record(RecordType.FILE, size)
        yield from _contents(file.fileno(), size)


def _contents(file: int, size: int) -> Iterator[bytes]:
    """Yield exactly so many bytes: zeros where the file has become shorter."""
    while size:
        data = os.read(file, min(size, CHUNK_BYTES)) or bytes(min(size, CHUNK_BYTES))
        size -= len(data)
        yield data
