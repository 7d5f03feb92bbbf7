"""A command in the guest on file descriptors of the host."""

import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import anyio
import anyio.to_thread

from bootmatrix.errors import AgentError
from bootmatrix.guest.client import AgentChannel, AgentClient, CommandEnd
from bootmatrix.guest.commands import channel_of
from bootmatrix.guest.frames import StreamNumber
from bootmatrix.guest.requests import GuestRequest, TerminalSize

READ_BYTES = 64 << 10
QUIET = (errno.EPIPE, errno.EIO)
"""Nobody reads the output any more: a pipe, or a terminal of a session that has ended."""
NAMES = {StreamNumber.OUT: "standard output", StreamNumber.ERR: "standard error"}


@dataclass(frozen=True)
class CommandStreams:
    """Descriptors of a command's standard streams; `stdin` is None for an empty one."""

    stdin: int | None
    stdout: int
    stderr: int


@dataclass(frozen=True)
class Control:
    """A signal for a command, or a new size of its terminal."""

    signal: int = 0
    size: TerminalSize | None = None


@dataclass(frozen=True)
class AttachedEnd:
    """The end of a command, and what of its output could not be written."""

    end: CommandEnd
    faults: tuple[str, ...] = ()


async def attach(
    client: AgentClient, request: GuestRequest, streams: CommandStreams, controls: AsyncIterator[Control]
) -> AttachedEnd:
    """Run a command on descriptors; return its end after all its output.

    Raises AgentError if the guest has ended, InputError if the request is too large.
    """
    end: CommandEnd | None = None
    fault: AgentError | None = None
    lost = list[str]()
    async with channel_of(client, request) as channel, anyio.create_task_group() as tasks:
        tasks.start_soon(_send_input, channel, streams.stdin)
        tasks.start_soon(_send_controls, channel, controls)
        async with anyio.create_task_group() as outputs:
            outputs.start_soon(_write_output, channel, StreamNumber.OUT, streams.stdout, lost)
            outputs.start_soon(_write_output, channel, StreamNumber.ERR, streams.stderr, lost)
            try:
                end = await channel.wait()
            except AgentError as error:
                fault = error
        tasks.cancel_scope.cancel()
    if fault:
        raise fault
    assert end
    return AttachedEnd(end, tuple(lost))


async def _send_input(channel: AgentChannel, descriptor: int | None) -> None:
    while descriptor is not None:
        data = await _read(descriptor)
        if not data or not await channel.send(data):
            break
    await channel.send_end()


async def _read(descriptor: int) -> bytes:
    """Return the next data, only if ready: a thread could not be stopped."""
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor):
            await anyio.wait_readable(descriptor)
        return await anyio.to_thread.run_sync(os.read, descriptor, READ_BYTES, abandon_on_cancel=True)
    except OSError:  # such as a terminal of a session that has ended
        return b""


async def _write_output(channel: AgentChannel, stream: StreamNumber, descriptor: int, lost: list[str]) -> None:
    """Write a stream; if it cannot be written, SIGPIPE tells the command."""
    while data := await channel.receive(stream):
        try:
            await anyio.to_thread.run_sync(_write_all, descriptor, data, abandon_on_cancel=True)
        except OSError as error:
            if error.errno not in QUIET:
                lost.append(f"the command's {NAMES[stream]} cannot be written: {error.strerror}")
            await channel.signal(13)  # SIGPIPE
            while await channel.receive(stream):
                pass


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


async def _send_controls(channel: AgentChannel, controls: AsyncIterator[Control]) -> None:
    with suppress(AgentError):
        async for control in controls:
            if control.signal:
                await channel.signal(control.signal)
            if control.size:
                await channel.resize(control.size)
