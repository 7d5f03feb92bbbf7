"""Ports of the host's loopback that lead into a guest."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
from anyio.abc import SocketAttribute, SocketStream

from bootmatrix.errors import AgentError, InputError
from bootmatrix.guest.client import AgentClient
from bootmatrix.guest.commands import Connection, connection

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 32
"""At a time; the agent has 64 channels."""
BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""Errors of a connection that its other end has broken off."""


@dataclass(frozen=True)
class LocalAddress:
    """A listening port of this host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def check_port(port: int) -> None:
    """Check that a port of this host's loopback can be had; 0 is any free one.

    Raises InputError if it is invalid or taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except (OSError, OverflowError) as error:
            raise _unusable(port, error) from error


def _unusable(port: int, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"port {port} of {LOOPBACK} cannot be used: {reason}", "Choose another.")


@asynccontextmanager
async def forwarded(
    client: AgentClient, kind: str, address: str, *, root: str = "", local_port: int = 0
) -> AsyncIterator[LocalAddress]:
    """Listen on loopback; connect each connection to a guest's address.

    Raises InputError if the local port cannot be used.
    """
    try:
        listener = await anyio.create_tcp_listener(
            local_host=LOOPBACK, local_port=local_port, family=socket.AddressFamily.AF_INET
        )
    except OSError as error:
        raise _unusable(local_port, error) from error
    limiter = anyio.CapacityLimiter(MAX_CONNECTIONS)

    async def serve(stream: SocketStream) -> None:
        async with limiter, stream:
            with suppress(ConnectionRefusedError, AgentError):
                async with connection(client, kind, address, root) as made:
                    await _relay(stream, made)

    async with listener:
        # A task of its own: a task group would wrap the errors of those who use the port.
        work = asyncio.create_task(listener.serve(serve))
        try:
            yield LocalAddress(LOOPBACK, listener.extra(SocketAttribute.local_port))  # noqa: S610
        finally:
            work.cancel()
            with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError):
                await work


async def _relay(stream: SocketStream, made: Connection) -> None:
    # Suppressed here, as a task group would wrap it: any user of this host can break a connection off.
    async def outward() -> None:
        with suppress(*BROKEN):
            while data := await made.receive():
                await stream.send(data)
            await stream.send_eof()

    async def inward() -> None:
        with suppress(anyio.EndOfStream, *BROKEN):
            while True:
                await made.send(await stream.receive())
        await made.send_end()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inward)
        await outward()
        tasks.cancel_scope.cancel()
