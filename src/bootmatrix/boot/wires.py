"""Pairs of connected sockets, of which QEMU gets one end each, and how ours are read."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import anyio

CHUNK_BYTES = 64 << 10

Ends = list[socket.socket]


@contextmanager
def socket_pairs(count: int) -> Iterator[tuple[Ends, Ends]]:
    """Our ends, which do not block, and theirs; all closed in the end."""
    pairs = [socket.socketpair() for _ in range(count)]
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    try:
        for end in ours:
            end.setblocking(False)
        yield ours, theirs
    finally:
        for end in (*ours, *theirs):
            end.close()


async def read_wire(wire: socket.socket, take: Callable[[bytes], None], chunk_bytes: int = CHUNK_BYTES) -> None:
    """Hand over what comes, until the other end is closed."""
    while True:
        await anyio.wait_readable(wire)
        with suppress(BlockingIOError, ConnectionResetError):
            data = wire.recv(chunk_bytes)
            if not data:
                return
            take(data)
