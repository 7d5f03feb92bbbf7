"""A guest in which an image is prepared: its boot, commands, and tree."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio

from bootmatrix.assembly.prepare.tree_reader import TreeReader
from bootmatrix.assembly.tree import Tree
from bootmatrix.boot.start import Booted, Start, start_cold
from bootmatrix.errors import AgentError, BuildError, InfraError
from bootmatrix.fsio import read_whole
from bootmatrix.guest.client import AgentClient, CommandEnd
from bootmatrix.guest.commands import CommandOutput, channel_of, run_command
from bootmatrix.guest.frames import AgentFault
from bootmatrix.guest.requests import GuestRequest
from bootmatrix.guest.serve import serve_http
from bootmatrix.judge import judge
from bootmatrix.model import Bootable, Machine, Timeouts
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.source.guest_repository import GuestRepository

BOOT_S = 180.0
COMMAND_S = 3600.0
"""Limit of one command on the fastest machine."""
FETCH_S = 1800.0
END_S = 10.0
TREE_BYTES = 8 << 30
STILL_S = 60.0
"""Interval in which a command's last line is told."""
LINE_BYTES = 1000
Tell = Callable[[float, str], None]
"""Tells how long a command runs, in s, and its last line so far."""
MERGED = 'exec /bin/sh -c "$0" 2>&1'
"""One stream of output: its last lines explain a failure."""


@dataclass(frozen=True)
class CommandRun:
    """The end of a command, and its output."""

    end: CommandEnd
    output: str


class PrepareGuest:
    """A running guest whose root is at `root`."""

    def __init__(self, client: AgentClient, root: str, time_factor: float, tell: Tell) -> None:
        self._client, self._root, self._factor, self._tell = client, root, time_factor, tell

    async def run(self, command: str, env: Mapping[str, str]) -> CommandRun:
        """Run a shell command as root.

        Raises BuildError if it takes too long, AgentError if the guest has ended.
        """
        request = GuestRequest("exec", ["/bin/sh", "-c", MERGED, command], self._root, env, "/")
        limit_s = COMMAND_S * self._factor
        output = CommandOutput()
        watch = asyncio.create_task(tell_last_lines(output.out, self._tell))
        try:
            with anyio.fail_after(limit_s):
                await run_command(self._client, request, output=output)
        except TimeoutError:
            raise BuildError(f"the command takes longer than {limit_s:.0f} s: {command[:200]}") from None
        finally:
            watch.cancel()
        assert output.end
        return CommandRun(output.end, output.out.decode("utf-8", "replace"))

    async def tree(self, path: Path, file: BinaryIO) -> Tree:
        """Fetch the root's tree; contents go to a file.

        Raises BuildError if it is too large, or cannot be read; AgentError if the guest has ended, or does not keep to
        the protocol.
        """
        reader = TreeReader(path, file, TREE_BYTES)
        request = GuestRequest("get", [str(TREE_BYTES), "/", "owners"], self._root)
        try:
            with anyio.fail_after(FETCH_S * self._factor):
                async with channel_of(self._client, request) as channel:
                    while data := await channel.receive():
                        reader.feed(data)
                    await channel.wait()
            return reader.finish()
        except AgentFault as fault:
            raise AgentError(f"the guest's agent does not keep to its protocol: {fault}") from fault
        except TimeoutError:
            raise BuildError("fetching the prepared files takes too long") from None


async def tell_last_lines(output: bytearray, tell: Tell) -> None:
    """Tell the last line of a growing output from time to time, for ever."""
    start_s = time.monotonic()
    while True:
        await anyio.sleep(STILL_S)
        text = bytes(output[-LINE_BYTES:]).decode("utf-8", "replace")
        tell(time.monotonic() - start_s, "".join(text.strip().splitlines()[-1:]))


@asynccontextmanager
async def open_prepare_guest(  # noqa: PLR0913, PLR0917
    machine: Machine, bootable: Bootable, root: str, repository: GuestRepository, folder: Path, tell: Tell
) -> AsyncIterator[PrepareGuest]:
    """Boot a guest whose packages come from a repository; it is killed in the end.

    Raises BuildError if the guest ends early, HostError if QEMU cannot be started.
    """
    clients: list[AgentClient] = []
    timeouts = Timeouts(boot=BOOT_S, onboot=BOOT_S, services=BOOT_S, silence=BOOT_S)
    start = Start(machine, timeouts, folder, attach=clients.append)
    work = asyncio.create_task(start_cold(start, bootable.model_copy(update={"agent": "serve"})))
    server: asyncio.Task[None] | None = None
    try:
        client = await _client(work, clients)
        server = asyncio.create_task(serve_http(client, repository.answer))
        yield PrepareGuest(client, root, machine.time_factor, tell)
    except AgentError as error:
        raise await _end_of(work, machine, bootable, folder) or BuildError(error.message) from error
    finally:
        for task in filter(None, (server, work)):
            task.cancel()
            with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError, Exception):
                await task


async def _client(work: asyncio.Task[Booted], clients: list[AgentClient]) -> AgentClient:
    while not clients and not work.done():
        await anyio.sleep(0.01)
    if not clients:
        await work  # raises what went wrong
        raise AgentError("the guest ended before its agent was there")
    await clients[0].ready()
    return clients[0]


async def _end_of(
    work: asyncio.Task[Booted], machine: Machine, bootable: Bootable, folder: Path
) -> BuildError | InfraError | None:
    """Return the error for how the guest ended, if it has ended."""
    done, _ = await asyncio.wait({work}, timeout=END_S)
    if not done:
        return None
    outcome = (await work).outcome
    if outcome.host_error:
        return InfraError(f"the guest was ended: {outcome.host_error}")
    judgement = judge(outcome, machine, bootable, read_whole(folder / CONSOLE_FILE))
    return BuildError(f"the guest ended: {judgement.reason}")
