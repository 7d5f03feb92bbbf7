"""Cores and memory that all runs with one cache reserve for their guests.

Each reservation is a file, locked while its process lives: a killed run holds nothing. Runs that wait take turns: each
has a ticket, which is such a file too, and the oldest is first. Times are those since the boot, which no clock changes.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import Self

from bootmatrix.store.host_faults import check_holds_nothing_else, host_faults
from bootmatrix.store.locks import lock_folder

FOLDER = "reservations"
TICKET = "wait-"
PATIENCE_S = 5
"""A run that has not asked for so long, such as a suspended one, loses its turn."""


@dataclass(frozen=True)
class Room:
    """Cores, and memory in MiB."""

    cores: int = 0
    memory_mib: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.cores + other.cores, self.memory_mib + other.memory_mib)

    def fits(self, other: Room) -> bool:
        """Return whether the other room has enough cores and memory for it."""
        return self.cores <= other.cores and self.memory_mib <= other.memory_mib


@dataclass(frozen=True)
class Reservation:
    """A file that is locked until it is released."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Give the room back."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


class Reservations:
    """Reservations in one folder, shared by processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ticket: Reservation | None = None

    @classmethod
    def of_cache(cls, cache: Path) -> Self:
        """Open the reservations of the runs that share a cache.

        Raises InputError if the folder is not a cache, and has other files.
        """
        check_holds_nothing_else(cache)
        return cls(cache / FOLDER)

    def held(self) -> Room:
        """Return what all runs hold."""
        with self._locked():
            return self._sum()

    def take(self, room: Room, total: Room) -> Reservation | None:
        """Reserve room, unless others leave too little or have waited longer.

        A room larger than the total is given if nothing else is reserved.
        """
        with self._locked():
            held = self._sum()
            if self._is_first() and (held == Room() or (held + room).fits(total)):
                self.leave()
                return self._write(room)
            self._wait_in_queue()
            return None

    def leave(self) -> None:
        """Give up the turn of a run that waits."""
        if self._ticket:
            self._ticket.release()
            self._ticket = None

    def _is_first(self) -> bool:
        own = self._ticket.path.name if self._ticket else ""
        tickets = (entry for entry in os.scandir(self._folder) if entry.name.startswith(TICKET))
        return min((one.name for one in tickets if _asks(one)), default=own) == own

    def _wait_in_queue(self) -> None:
        if self._ticket is None:
            self._ticket = self._write(Room(), f"{TICKET}{time.monotonic_ns():020}-")
        with suppress(FileNotFoundError):
            os.utime(self._ticket.path, (now_s := time.monotonic(), now_s))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with host_faults(self._folder):
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = lock_folder(self._folder)
        try:
            with host_faults(self._folder):
                yield
        finally:
            os.close(descriptor)

    def _sum(self) -> Room:
        return sum((_held(Path(entry.path)) for entry in os.scandir(self._folder)), Room())

    def _write(self, room: Room, prefix: str = "tmp") -> Reservation:
        descriptor, name = mkstemp(prefix=prefix, dir=self._folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, f"{room.cores} {room.memory_mib}".encode())
        return Reservation(Path(name), descriptor)


def _asks(ticket: os.DirEntry[str]) -> bool:
    """Return whether its run still waits, which may leave at any time."""
    with suppress(FileNotFoundError):
        return ticket.stat().st_mtime > time.monotonic() - PATIENCE_S
    return False


def _held(path: Path) -> Room:
    """Read a reservation; remove it if its process has ended."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _parse(os.read(descriptor, 100))
        else:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return Room()


def _parse(line: bytes) -> Room:
    cores, _, memory_mib = line.partition(b" ")
    return Room(int(cores), int(memory_mib)) if cores.isdigit() and memory_mib.isdigit() else Room()
