"""Transport between bootmatrix and QEMU: sockets, and pipes for the console."""

import fcntl
import os
import socket
import termios
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO

import anyio

CHUNK_BYTES = 64 << 10
PACE_S = 0.01
"""Pause between reads of a console, which comes byte by byte; one wake-up for each byte takes 4 % of a boot."""
READ_TRIES = 50
FLOOD_BYTES = 4 << 10
"""After this much data in one read, the next read follows at once."""

Ends = list[socket.socket]


@contextmanager
def socket_pairs(count: int) -> Iterator[tuple[Ends, Ends]]:
    """Create socket pairs; our ends do not block. All are closed in the end."""
    pairs = [socket.socketpair() for _ in range(count)]
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    try:
        for end in ours:
            end.setblocking(False)
        yield ours, theirs
    finally:
        for end in (*ours, *theirs):
            end.close()


@dataclass(frozen=True)
class Console:
    """Pipes of QEMU's standard input and output; our ends do not block.

    A pipe holds 64 KiB of single bytes; a socket is full after 300, and blocks the guest.
    """

    stdin: FileIO
    stdout: FileIO
    typed: FileIO
    printed: FileIO


@contextmanager
def console_pipes() -> Iterator[Console]:
    """A console; closed in the end."""
    with ExitStack() as stack:
        stdin, typed, printed, stdout = (
            stack.enter_context(FileIO(number, mode))
            for number, mode in zip((*os.pipe(), *os.pipe()), ("r", "w", "r", "w"), strict=True)
        )
        for end in (typed, printed):
            os.set_blocking(end.fileno(), False)
        yield Console(stdin, stdout, typed, printed)


@dataclass(frozen=True)
class Wires:
    """Our ends of all channels; without a result channel the console carries results."""

    console: Console
    monitor: socket.socket
    result: socket.socket | None
    agent: socket.socket | None = None

    def send(self, line: bytes) -> None:
        """Send init a line."""
        if self.result is None:
            self.type(line)
            return
        # A line fits into an empty socket; one that is closed belongs to a QEMU that is gone.
        with suppress(OSError):
            self.result.send(line)

    def type(self, data: bytes) -> None:
        """Type on the guest's console."""
        with suppress(OSError):  # as above
            self.console.typed.write(data)


@contextmanager
def open_wires(own_result: bool, agent: bool = False) -> Iterator[tuple[Wires, Ends]]:
    """Open all channels; yields our ends and QEMU's, as Descriptors."""
    with console_pipes() as console, socket_pairs(1 + own_result + agent) as (ours, theirs):
        yield Wires(console, ours[0], ours[1] if own_result else None, ours[-1] if agent else None), theirs


async def read_wire(
    wire: socket.socket | FileIO, take: Callable[[bytes], None], chunk_bytes: int = CHUNK_BYTES, pace_s: float = 0
) -> None:
    """Hand over what comes, until the other end is closed."""
    while True:
        await anyio.wait_readable(wire)
        data = read_ready(wire, chunk_bytes)
        if data:
            take(data)
        elif data is not None:
            return
        if pace_s and len(data or b"") < FLOOD_BYTES:
            await anyio.sleep(pace_s)


async def wait_until_read(wire: FileIO) -> None:
    """Wait until a reader has taken what a pipe holds, at most for a while."""
    for _ in range(READ_TRIES):
        if wire.closed or not _waiting_bytes(wire):
            return
        await anyio.sleep(PACE_S)


def _waiting_bytes(wire: FileIO) -> int:
    count = array("i", [0])
    fcntl.ioctl(wire, termios.FIONREAD, count)
    return count[0]


def read_ready(wire: socket.socket | FileIO, chunk_bytes: int = CHUNK_BYTES) -> bytes | None:
    """Return available data; empty at the end, None if there is nothing yet."""
    with suppress(BlockingIOError, ConnectionResetError):
        return os.read(wire.fileno(), chunk_bytes)
    return None
