"""Answers to HTTP requests from the guest, by the verb `serve`."""

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from bootmatrix.errors import AgentError
from bootmatrix.guest.client import AgentChannel, AgentClient
from bootmatrix.guest.commands import channel_of
from bootmatrix.guest.requests import GuestRequest

PORT = 3142
"""On the guest's loopback; that of apt-cacher-ng, so that nothing else of a Debian expects it."""
PROXY = f"http://127.0.0.1:{PORT}"
MAX_HEAD_BYTES = 8 << 10
CHUNK_BYTES = 1 << 20
_HEAD = struct.Struct(">I")
_ANSWER = struct.Struct(">Q")


class HttpResponse(Protocol):
    """The answer to a request."""

    @property
    def head(self) -> bytes:
        """Status line and header."""

    @property
    def body(self) -> bytes | Path:
        """The body, or a file with it."""


async def serve_http(client: AgentClient, answer: Callable[[bytes], HttpResponse]) -> None:
    """Answer requests in turn until the guest ends; `answer` gets heads.

    A guest that breaks the protocol, or whose port is taken, is not served any more.
    """
    with suppress(AgentError, OSError):
        async with channel_of(client, GuestRequest("serve", [str(PORT)])) as channel:
            reader = _RequestReader(channel)
            if await reader.take(1) != b"+":
                return
            while head := await reader.head():
                response = await anyio.to_thread.run_sync(answer, head, abandon_on_cancel=True)
                await _send(channel, response)


class _RequestReader:
    """Bytes of a channel's output, in parts of known sizes."""

    def __init__(self, channel: AgentChannel) -> None:
        self._channel = channel
        self._buffer = bytearray()

    async def take(self, size: int) -> bytes:
        """Return so many bytes; fewer at the end."""
        while len(self._buffer) < size:
            data = await self._channel.receive()
            if not data:
                break
            self._buffer += data
        part = bytes(self._buffer[:size])
        del self._buffer[:size]
        return part

    async def head(self) -> bytes:
        """Return the next request's head; empty at the end or if too long."""
        prefix = await self.take(_HEAD.size)
        size = _HEAD.unpack(prefix)[0] if len(prefix) == _HEAD.size else 0
        return await self.take(size) if size <= MAX_HEAD_BYTES else b""


async def _send(channel: AgentChannel, response: HttpResponse) -> None:
    head, body = response.head, response.body
    if isinstance(body, bytes):
        await channel.send(_ANSWER.pack(len(head) + len(body)) + head + body)
        return
    with body.open("rb") as file:
        size = body.stat().st_size
        await channel.send(_ANSWER.pack(len(head) + size) + head)
        while size and (data := file.read(min(size, CHUNK_BYTES))):
            size -= len(data)
            if not await channel.send(data):
                return
