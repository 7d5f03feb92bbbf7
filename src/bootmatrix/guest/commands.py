"""Commands, copies and connections by the agent."""

import errno
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from bootmatrix.errors import AgentError, GuestFileError, InputError
from bootmatrix.guest.client import AgentChannel, AgentClient, CommandEnd
from bootmatrix.guest.frames import AgentFault, ExitKind, StreamNumber
from bootmatrix.guest.inbound import DEFAULT_LIMIT_BYTES, TreeReceiver
from bootmatrix.guest.outbound import Known, TreeLimits, tree_records
from bootmatrix.guest.requests import GuestRequest

MAX_OUTPUT_BYTES = 64 << 20
"""Of a command whose output is collected; what comes after it is thrown away."""
MAX_COMPLAINT_BYTES = 4096
HINTS = {
    errno.ENOSPC: "The guest's files are in its memory: start one with more, such as --memory 2G.",
    errno.EEXIST: "Something else is there. If a command made it: 'bootmatrix guests stop' ends a kept guest.",
}


@asynccontextmanager
async def channel_of(client: AgentClient, request: GuestRequest) -> AsyncIterator[AgentChannel]:
    """Begin a command, and end it with the context.

    Raises AgentError, InputError as `AgentClient.open`.
    """
    channel = await client.open(request)
    try:
        yield channel
    finally:
        with anyio.CancelScope(shield=True):
            await channel.close()


@dataclass
class CommandOutput:
    """Collected output of a command."""

    end: CommandEnd | None = None
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)


async def run_command(
    client: AgentClient, request: GuestRequest, data: bytes = b"", output: CommandOutput | None = None
) -> CommandOutput:
    """Run a command with `data` as its standard input, and collect its output.

    With `output`, it is collected there, where others can read it meanwhile.

    Raises AgentError, InputError as `AgentClient.open`.
    """
    output = output or CommandOutput()
    async with channel_of(client, request) as channel, anyio.create_task_group() as tasks:
        tasks.start_soon(_collect, channel, StreamNumber.OUT, output.out, MAX_OUTPUT_BYTES)
        tasks.start_soon(_collect, channel, StreamNumber.ERR, output.err, MAX_OUTPUT_BYTES)
        await channel.send(data)
        await channel.send_end()
        output.end = await _end_of(channel)
    if output.end is None:
        await channel.wait()  # raises
    return output


async def restart(client: AgentClient, service: str) -> None:
    """Have init stop a service by SIGTERM and start it again.

    Raises AgentError if the guest has ended, InputError if it is not a running service, or did not end by the signal.
    """
    async with channel_of(client, GuestRequest("restart", [service])) as channel:
        end = await channel.wait()
    if end.kind is not ExitKind.STATUS or end.status:
        raise InputError(f"the guest's service {service!r} was not restarted: {end.text}")


async def _end_of(channel: AgentChannel) -> CommandEnd | None:
    try:
        return await channel.wait()
    except AgentError:
        return None


async def _collect(channel: AgentChannel, stream: StreamNumber, kept: bytearray, most: int) -> None:
    while data := await channel.receive(stream):
        kept += data[: most - len(kept)]


async def put(  # noqa: PLR0913
    client: AgentClient,
    source: Path,
    target: str,
    *,
    root: str = "",
    name: str = "",
    limits: TreeLimits | None = None,
    known: Known | None = None,
    records: Iterable[bytes] | None = None,
) -> None:
    """Copy a file or folder into the guest, or instead the tree of `records`.

    With a `name`, a `target` that is a folder there gets it under this name.

    Raises InputError if the source cannot be read, or the target cannot be written; AgentError if the guest is not
    there any more.
    """
    kept, end = bytearray(), None
    fault: InputError | None = None
    async with (
        channel_of(client, GuestRequest("put", [target, name], root)) as channel,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_collect, channel, StreamNumber.ERR, kept, MAX_COMPLAINT_BYTES)
        try:
            await _send_all(channel, records or tree_records(source, limits or TreeLimits(), known))
            end = await _end_of(channel)
        except InputError as error:  # raised below: a task group would wrap it
            fault = error
            await channel.close()
    if fault:
        raise fault
    end = end or await channel.wait()
    if end.status:
        complaint = _complaint(end, kept)
        hint = next((hint for number, hint in HINTS.items() if complaint.endswith(os.strerror(number))), "")
        raise InputError(f"cannot copy {source} into the guest: {complaint}", hint)


async def _send_all(channel: AgentChannel, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        if not await channel.send(chunk):
            break
    await channel.send_end()


async def get(
    client: AgentClient, source: str, target: Path, *, root: str = "", limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> list[str]:
    """Copy a file or folder out of the guest; return notes on what was left out.

    Raises GuestFileError if it cannot be fetched; AgentError if the guest is not there any more, or does not keep to
    the protocol; HostError if it cannot be written.
    """
    receiver = TreeReceiver(source, target, limit_bytes)
    try:
        async with channel_of(client, GuestRequest("get", [str(limit_bytes), source], root)) as channel:
            while data := await channel.receive():
                receiver.feed(data)
            end = await channel.wait()
        if end.status:
            raise GuestFileError(f"cannot copy {source} from the guest: {_complaint(end, bytearray())}")
        receiver.finish()
    except AgentFault as fault:
        raise AgentError(f"the guest's agent does not keep to its protocol: {fault}") from fault
    finally:
        receiver.close()
    return receiver.notes


def _complaint(end: CommandEnd, kept: bytearray) -> str:
    if end.kind is ExitKind.FAULT:
        return f"cannot {end.text}: {fault_words(end)}"
    return kept.decode("utf-8", "replace").strip()[:500] or f"status {end.status}"


def fault_words(end: CommandEnd) -> str:
    """Describe the errno of a command that was not run."""
    return os.strerror(end.number) if end.number < 200 else f"error {end.number}"


class Connection:
    """A connection to a port or socket; `first` has come already."""

    def __init__(self, channel: AgentChannel, first: bytes) -> None:
        self.send, self.send_end = channel.send, channel.send_end
        self._channel, self._first = channel, first

    async def receive(self) -> bytes:
        """Return the next data; empty at the end."""
        data, self._first = self._first, b""
        return data or await self._channel.receive()


@asynccontextmanager
async def connection(client: AgentClient, kind: str, address: str, root: str = "") -> AsyncIterator[Connection]:
    """Connect to a loopback port (`tcp`, number) or socket (`unix`, path).

    Raises ConnectionRefusedError if nobody listens there, AgentError if the guest is not there any more.
    """
    async with channel_of(client, GuestRequest("connect", [kind, address], root)) as channel:
        first = await channel.receive()
        if not first.startswith(b"+"):
            await channel.wait()
            raise ConnectionRefusedError(f"{kind} {address} of the guest cannot be reached")
        yield Connection(channel, first[1:])
