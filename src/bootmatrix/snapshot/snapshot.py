"""Snapshots of stopped guests: memory, device state, and console output so far.

The memory is a sealed, unnamed file. Copies map it privately: they share unchanged pages, and nobody, not even a
compromised QEMU, can change the origin of others.

On disk it is one file:

    a line of JSON   its name, sizes, and the rows of memory pieces that are not zero
    the state, the console, those pieces
    SHA-256 of all before
"""

import fcntl
import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from bootmatrix.fsio import open_plain

FORMAT = 2
"""Changes whenever an older snapshot would not do any more."""
PIECE_BYTES = 256 << 10
"""Memory is kept or left out in pieces of this size."""
PIECES_AT_ONCE = 32
DIGEST_BYTES = 32
MAX_HEADER_BYTES = 1 << 20
MAX_MEMORY_BYTES = 1 << 40
MAX_STATE_BYTES = 64 << 20
MAX_CONSOLE_BYTES = 4 << 20
ZEROS = bytes(PIECE_BYTES)
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class DamagedSnapshot(Exception):
    """A file that is not a snapshot, or is damaged."""


@dataclass(frozen=True)
class SnapshotHeader:
    """The first line. `name` is its file's name, a digest of all inputs.

    `pieces` are half-open ranges of piece numbers.
    """

    format: int
    name: str
    memory_bytes: int
    state_bytes: int
    console_bytes: int
    pieces: tuple[tuple[int, int], ...]


@dataclass
class Snapshot:
    """A stopped guest; `memory` is an open file of `used_bytes`."""

    memory: int
    memory_bytes: int
    used_bytes: int
    state: bytes
    console: bytes

    def close(self) -> None:
        """Release the memory, once no copy uses it."""
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1


def new_memory(memory_mib: int) -> int:
    """Create an empty memory file for a guest."""
    memory = os.memfd_create("bootmatrix-guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, memory_mib << 20)
    return memory


def seal(memory: int) -> None:
    """Make a guest's memory read-only. Raises OSError if a writable mapping exists."""
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)


def write(snapshot: Snapshot, file: BinaryIO, name: str) -> int:
    """Write a snapshot under a name, and return its size in bytes."""
    digest = hashlib.sha256()
    size = 0

    def put(data: bytes) -> None:
        nonlocal size
        digest.update(data)
        file.write(data)
        size += len(data)

    rows = tuple(_rows(snapshot.memory, snapshot.memory_bytes))
    header = SnapshotHeader(
        format=FORMAT,
        name=name,
        memory_bytes=snapshot.memory_bytes,
        state_bytes=len(snapshot.state),
        console_bytes=len(snapshot.console),
        pieces=rows,
    )
    put(json.dumps(asdict(header)).encode() + b"\n")
    put(snapshot.state)
    put(snapshot.console)
    for number in _numbers(rows):
        put(os.pread(snapshot.memory, PIECE_BYTES, number * PIECE_BYTES))
    file.write(digest.digest())
    file.flush()
    return size + DIGEST_BYTES


@dataclass(frozen=True)
class ReadSnapshot:
    """A snapshot that was read and cannot change, and what its digest is of."""

    snapshot: Snapshot
    _line: bytes
    _pieces: tuple[tuple[int, int], ...]
    _digest: bytes

    def is_sound(self) -> bool:
        """Return whether it has its digest. The interpreter's lock is free meanwhile."""
        digest, snapshot = hashlib.sha256(self._line), self.snapshot
        digest.update(snapshot.state)
        digest.update(snapshot.console)
        if snapshot.memory_bytes:
            private = mmap.mmap(snapshot.memory, snapshot.memory_bytes, mmap.MAP_PRIVATE, mmap.PROT_READ)
            with private, memoryview(private) as memory:
                for first, end in self._pieces:
                    digest.update(memory[first * PIECE_BYTES : end * PIECE_BYTES])
        return digest.digest() == self._digest


def read(path: Path) -> Snapshot:
    """Read a snapshot, and verify it.

    Raises OSError, DamagedSnapshot as `load` does, DamagedSnapshot for another digest too.
    """
    loaded = load(path)
    if not loaded.is_sound():
        loaded.snapshot.close()
        raise DamagedSnapshot(f"{path}: digest mismatch")
    return loaded.snapshot


def load(path: Path) -> ReadSnapshot:
    """Read a snapshot that is to be verified.

    Raises OSError if it is not a regular file or not there, DamagedSnapshot if it is incomplete, or written under
    another name.
    """
    with open_plain(path) as file:
        line = file.readline(MAX_HEADER_BYTES)
        header = _parsed(line)
        if header is None:
            raise DamagedSnapshot(f"not a snapshot of format {FORMAT}")
        if header.name != path.name:
            raise DamagedSnapshot(f"{path} was written under another name")
        snapshot = Snapshot(new_memory(header.memory_bytes >> 20), header.memory_bytes, 0, b"", b"")
        try:
            snapshot.state = _take(file, header.state_bytes)
            snapshot.console = _take(file, header.console_bytes)
            for number, count in _parts(header.pieces):
                os.pwrite(snapshot.memory, _take(file, count * PIECE_BYTES), number * PIECE_BYTES)
            digest = file.read(DIGEST_BYTES + 1)
            seal(snapshot.memory)
        except BaseException:
            snapshot.close()
            raise
        snapshot.used_bytes = _used_bytes(snapshot.memory)
        return ReadSnapshot(snapshot, line, header.pieces, digest)


def taken(memory: int, memory_mib: int, state: bytes, console: bytes) -> Snapshot:
    """Return a snapshot of a guest that has ended, which takes over its memory."""
    seal(memory)
    return Snapshot(memory, memory_mib << 20, _used_bytes(memory), state, console)


def _used_bytes(memory: int) -> int:
    return os.fstat(memory).st_blocks * 512


def _parsed(line: bytes) -> SnapshotHeader | None:
    """Parse the first line; None if it is not one. No model: this is a light module."""
    try:
        header = SnapshotHeader(**json.loads(line))
        pieces = header.memory_bytes // PIECE_BYTES
        are_sound = all(0 <= first < end <= pieces for first, end in header.pieces)
        are_sound &= all(type(number) is int for row in header.pieces for number in row)
        limits = (
            (header.memory_bytes, MAX_MEMORY_BYTES),
            (header.state_bytes, MAX_STATE_BYTES),
            (header.console_bytes, MAX_CONSOLE_BYTES),
        )
        are_sound &= all(type(size) is int and 0 <= size <= most for size, most in limits)
    except (ValueError, TypeError, RecursionError):
        return None
    return header if are_sound and header.format == FORMAT else None


def _take(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise DamagedSnapshot("a snapshot that is too short")
    return data


def _numbers(rows: tuple[tuple[int, int], ...]) -> Iterator[int]:
    return (number for first, end in rows for number in range(first, end))


def _parts(rows: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    """Yield first number and count of pieces that are read at once.

    Another thread may hold the interpreter's lock for 5 ms after each of them.
    """
    for first, end in rows:
        for number in range(first, end, PIECES_AT_ONCE):
            yield number, min(PIECES_AT_ONCE, end - number)


def _rows(memory: int, memory_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of pieces that are not zero. Holes of the file are not read."""
    position = 0
    while position < memory_bytes:
        try:
            data = os.lseek(memory, position, os.SEEK_DATA)
        except OSError:  # ENXIO: no data from here on
            return
        end = -(-os.lseek(memory, data, os.SEEK_HOLE) // PIECE_BYTES)
        position = end * PIECE_BYTES
        yield from _without_zeros(memory, data // PIECE_BYTES, end)


def _without_zeros(memory: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    first = None
    for number in range(start, end):
        if os.pread(memory, PIECE_BYTES, number * PIECE_BYTES) != ZEROS:
            first = number if first is None else first
        elif first is not None:
            yield first, number
            first = None
    if first is not None:
        yield first, end
