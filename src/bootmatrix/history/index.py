"""An index of the runs in a folder: SQLite, quick to ask, and made again from the runs when it is lost or damaged.

It is a memory and never the truth: what it holds was read from a run, and is read again when that run's files change.
A lock file keeps readers apart from the one that writes or replaces it, as SQLite forbids to replace a database in use.
It is made in memory where the folder cannot be written, and beside a run that someone put elsewhere.
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

INDEX_FILE = ".index.sqlite"
LOCK_FILE = ".index.lock"
LATEST = "latest"
VERSION = 1
"""Of the schema and of what is read from a run: an index of another version is made again."""
BATCH = 20
"""Runs in a transaction: a process that is killed loses this much work at most."""
BUSY_S = 60


T = TypeVar("T")


def ask(reports: Path, question: Callable[[Rows], T]) -> T:
    """The answer of the index to a question about the runs in a folder, as they are now.

    Damage may show itself only in a value that makes no sense: then the index is made again and asked again.

    Raises:
        OSError: the folder cannot be read.
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
    """A connection to an index that is up to date."""
    with ExitStack() as stack:
        current = None
        with suppress(OSError):
            if _keeps_runs(reports):
                lock = stack.enter_context(_locked(reports))
                fcntl.flock(lock, fcntl.LOCK_SH)
                current = _open_current(reports, stamps) or _bring_up_to_date(reports, stamps, lock)
        yield stack.enter_context(closing(current or _in_memory(reports, stamps)))


def _keeps_runs(reports: Path) -> bool:
    """Whether runs are written there: a run that was copied somewhere must not litter the folder around it."""
    return (reports / LATEST).is_symlink() or (reports / INDEX_FILE).exists()


@contextmanager
def _locked(reports: Path) -> Iterator[int]:
    """The lock file, open."""
    lock = os.open(reports / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
    """The index, if it is whole and knows all runs as they are."""
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
    """The index after what changed was read; made again if it is not sound."""
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
    except sqlite3.OperationalError:  # the disk is full, or will not hold a database: memory does
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
    """Forget the runs that are gone, and read those that are new or changed."""
    rows = Rows(connection)
    known = rows.stamps()
    with _transaction(connection):
        for name in known.keys() - stamps.keys():
            rows.forget(name)
    changed = sorted(name for name, stamp in stamps.items() if known.get(name) != stamp)
    for names in _batches(changed):
        from bootmatrix.history.discover import read_run

        with _transaction(connection):
            for name in names:
                rows.remember(name, stamps[name], read_run(reports / name))


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
