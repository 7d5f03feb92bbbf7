"""SQLite index of the runs in a folder.

The index is a cache: runs are read again when their files change, and a lost or damaged index is rebuilt. A lock file
separates readers from the process that writes or replaces it: SQLite does not support replacing an open database. In a
folder that is read-only or not bootmatrix's own, the index is built in memory.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from bootmatrix.history.discover import Stamps, stamps_of
from bootmatrix.history.queries import SCHEMA, Rows
from bootmatrix.history.values import RunResults, RunState, UnusableRun

INDEX_FILE = ".index.sqlite"
LOCK_FILE = ".index.lock"
LATEST = "latest"
VERSION = 2
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
    for name in (INDEX_FILE, f"{INDEX_FILE}-journal"):
        (reports / name).unlink(missing_ok=True)


def _in_memory(reports: Path, stamps: Stamps) -> sqlite3.Connection:
    connection = _fresh(":memory:")
    _update(connection, reports, stamps)
    return connection


def _open_current(reports: Path, stamps: Stamps) -> sqlite3.Connection | None:
    """Open the index if it is intact and up to date."""
    path = reports / INDEX_FILE
    if not path.is_file() or path.is_symlink():
        return None
    connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
    with suppress(sqlite3.DatabaseError):
        if _version(connection) == VERSION and Rows(connection).stamps() == stamps:
            return connection
    connection.close()
    return None


def _bring_up_to_date(reports: Path, stamps: Stamps, lock: int) -> sqlite3.Connection:
    """Update the index; rebuild it if it is damaged."""
    path = reports / INDEX_FILE
    fcntl.flock(lock, fcntl.LOCK_EX)
    connection = _sound(path)
    if connection is not None:
        try:
            _update(connection, reports, stamps)
        except sqlite3.DatabaseError:
            connection.close()
        else:
            return connection
    _remove(reports)
    try:
        connection = _fresh(path.absolute().as_uri())
        _update(connection, reports, stamps)
    except sqlite3.OperationalError:  # disk full, or a file system without SQLite's locks: use memory
        return _in_memory(reports, stamps)
    return connection


def _sound(path: Path) -> sqlite3.Connection | None:
    if not path.is_file() or path.is_symlink():
        return None
    connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
    with suppress(sqlite3.DatabaseError):
        if _version(connection) == VERSION and connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
            return connection
    connection.close()
    return None


def _connect(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _fresh(address: str) -> sqlite3.Connection:
    connection = _connect(address)
    connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
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
