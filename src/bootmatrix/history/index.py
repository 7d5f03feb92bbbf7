"""SQLite index of the runs in a folder.

The index is a cache: runs are read again when their files change, and a lost or damaged index is rebuilt. A lock file
separates readers from the process that writes or replaces it: SQLite does not support replacing an open database. In a
folder that is read-only or not bootmatrix's own, the index is built in memory.

The folder may be somebody else's. A journal is never played back, as it may name any file for SQLite to delete, and an
index has a number that only this user's cache has: one that came with the folder is made again.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from bootmatrix.fsio import open_plain
from bootmatrix.history.discover import Stamps, stamps_of
from bootmatrix.history.queries import Rows
from bootmatrix.history.values import RunResults, RunState, UnusableRun
from bootmatrix.packaged import packaged
from bootmatrix.store import default_cache

INDEX_FILE = ".index.sqlite"
LOCK_FILE = ".index.lock"
JOURNALS = tuple(f"{INDEX_FILE}-{kind}" for kind in ("journal", "wal", "shm"))
"""SQLite's, which only a killed process leaves."""
KEY_FILE = "index-key"
"""A secret in the cache."""
KEY_BYTES = 16
HEAD = b"SQLite format 3\0"
LATEST = "latest"
VERSION = 4
"""Version of the schema and the extraction: an index of another version is rebuilt."""
BATCH = 20
"""Runs per transaction, the most work that a killed process loses."""
BUSY_S = 60


T = TypeVar("T")


def ask(reports: Path, question: Callable[[Rows], T]) -> T:
    """Query the index of the runs in a folder, after bringing it up to date.

    Damage may only show as an invalid value: then the index is rebuilt and queried again.

    Raises OSError if the folder cannot be read.
    """
    stamps = stamps_of(reports)
    try:
        with _database(reports, stamps) as connection:
            return question(Rows(connection))
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError):
        with suppress(OSError), _locked(reports) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _remove(reports)
        with _database(reports, stamps) as connection:
            return question(Rows(connection))


@contextmanager
def _database(reports: Path, stamps: Stamps) -> Iterator[sqlite3.Connection]:
    """Open a connection to an up-to-date index."""
    with ExitStack() as stack:
        current = None
        with suppress(OSError):
            if _keeps_runs(reports):
                lock = stack.enter_context(_locked(reports))
                fcntl.flock(lock, fcntl.LOCK_SH)
                current = _open_current(reports, stamps) or _bring_up_to_date(reports, stamps, lock)
        yield stack.enter_context(closing(current or _in_memory(reports, stamps)))


def _keeps_runs(reports: Path) -> bool:
    """Return whether the folder has runs: only there is an index written."""
    return (reports / LATEST).is_symlink() or (reports / INDEX_FILE).exists()


@contextmanager
def _locked(reports: Path) -> Iterator[int]:
    """Open the lock file. The folder may be somebody else's: a link is not followed."""
    lock = os.open(reports / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        yield lock
    finally:
        os.close(lock)


def _remove(reports: Path) -> None:
    for name in (INDEX_FILE, *JOURNALS):
        (reports / name).unlink(missing_ok=True)


def _in_memory(reports: Path, stamps: Stamps) -> sqlite3.Connection:
    connection = _fresh(":memory:", 0)
    _update(connection, reports, stamps)
    return connection


def _open_current(reports: Path, stamps: Stamps) -> sqlite3.Connection | None:
    """Open the index if it is up to date."""
    return _opened(reports, lambda connection: Rows(connection).stamps() == stamps)


def _bring_up_to_date(reports: Path, stamps: Stamps, lock: int) -> sqlite3.Connection:
    """Update the index; rebuild it if it is damaged."""
    path, mark = reports / INDEX_FILE, _own_mark()
    fcntl.flock(lock, fcntl.LOCK_EX)
    connection = _opened(reports, lambda found: found.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    if connection is not None:
        try:
            _update(connection, reports, stamps)
        except sqlite3.DatabaseError:
            connection.close()
        else:
            return connection
    _remove(reports)
    try:
        connection = _fresh(path.absolute().as_uri(), mark)
        _update(connection, reports, stamps)
    except sqlite3.OperationalError:  # disk full, or a file system without SQLite's locks: use memory
        return _in_memory(reports, stamps)
    return connection


def _opened(reports: Path, suits: Callable[[sqlite3.Connection], bool]) -> sqlite3.Connection | None:
    """Open the index if it was made here by this version, and suits."""
    path = reports / INDEX_FILE
    if not _is_plain(path):
        return None
    connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
    with suppress(sqlite3.DatabaseError):
        if _mark_of(connection) == _own_mark() and suits(connection):
            return connection
    connection.close()
    return None


def _is_plain(path: Path) -> bool:
    """Return whether a file is a database without journals."""
    if any(os.path.lexists(path.with_name(name)) for name in JOURNALS):
        return False
    with suppress(OSError), open_plain(path) as file:
        head = file.read(20)
        return head.startswith(HEAD) and head[18:] == b"\1\1"  # others have their journal as a WAL
    return False


def _own_mark() -> int:
    """Return the number of this version's indexes of this user.

    Raises OSError if the cache can keep none.
    """
    path = default_cache() / KEY_FILE
    with suppress(FileExistsError, FileNotFoundError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
    with open_plain(path) as opened:
        key = opened.read()
    if len(key) != KEY_BYTES:
        path.unlink(missing_ok=True)
        raise OSError(errno.EINVAL, "not a key", str(path))
    digest = hashlib.sha256(f"{VERSION} ".encode() + key).digest()
    return int.from_bytes(digest[:4]) >> 1  # SQLite's user_version is a signed number of 32 bits


def _connect(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _mark_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _fresh(address: str, mark: int) -> sqlite3.Connection:
    connection = _connect(address)
    connection.executescript(f"BEGIN; {packaged('history/index.sql')} PRAGMA user_version={mark}; COMMIT;")
    return connection


def _update(connection: sqlite3.Connection, reports: Path, stamps: Stamps) -> None:
    """Drop runs that no longer exist; read new and changed ones."""
    rows = Rows(connection)
    indexed = rows.stamps()
    with _transaction(connection):
        for name in indexed.keys() - stamps.keys():
            rows.forget(name)
    changed = sorted(name for name, stamp in stamps.items() if indexed.get(name) != stamp)
    for names in _batches(changed):
        from bootmatrix.history.extract import read_run

        with _transaction(connection):
            for name in names:
                results = read_run(reports / name)
                rows.remember(name, _stamp(stamps[name], results), results)


def _stamp(stamp: str, results: RunResults | UnusableRun) -> str:
    """Return the stamp to store; a fault of ours is read again each time."""
    is_lasting = isinstance(results, RunResults) or results.state is RunState.DAMAGED
    return stamp if is_lasting else f"{stamp} again"


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _batches(names: list[str]) -> Iterable[list[str]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))
