"""A socket to the agent's port."""

import socket

import anyio
import anyio.lowlevel

READ_BYTES = 256 << 10


class SocketWire:
    """A stream of bytes on a socket that does not block."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    async def receive(self) -> bytes:
        """Return what came, empty at the end; other tasks run in between."""
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                return self._end.recv(READ_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._end)
            except ConnectionResetError:
                return b""

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError if the other end is closed."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._end.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._end)
