"""A running guest: commands, files and connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from bootmatrix.errors import AgentError, BuildError, GuestFileError, InputError
from bootmatrix.guest import commands
from bootmatrix.guest.client import AgentChannel, AgentClient, CommandEnd
from bootmatrix.guest.commands import Connection, fault_words
from bootmatrix.guest.forward import LocalAddress, forwarded
from bootmatrix.guest.frames import ExitKind
from bootmatrix.guest.inbound import DEFAULT_LIMIT_BYTES
from bootmatrix.guest.requests import ENVIRONMENT, GuestRequest, TerminalSize
from bootmatrix.model import Bootable, KernelFault
from bootmatrix.workspace.guest_session import GuestSession

POLL_S = 0.1
CONTAINERS = "/containers"


@dataclass(frozen=True)
class CommandResult:
    """A command's end: status as in a shell, at most 64 MiB per stream."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def exit_status(self) -> int:
        """The exit status, under its longer name."""
        return self.status

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")


class Guest:
    """A running guest.

    Paths in the guest are below `root`: the root of the guest's image, or of the service that `at` names.
    """

    def __init__(self, session: GuestSession, root: str, env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.env = {**ENVIRONMENT, **(env or {})}
        self._session = session

    @property
    def id(self) -> str:
        """`NAME/arch[/machine]/kernel`, as of a cell."""
        return self._session.cell.id

    @property
    def facts(self) -> str:
        """Release of its kernel and name of its machine, as of `uname -r -m`."""
        return self.client.facts

    @property
    def console(self) -> bytes:
        """Its console output so far."""
        return self._session.console.read_bytes()

    @property
    def kernel_faults(self) -> tuple[KernelFault, ...]:
        """Faults of its kernel so far, as its console shows them.

        Stalls are not among them, which a busy host can cause. `read_console` waits for those that are under way.
        """
        return self.kernel_faults_since(0)

    @property
    def console_bytes(self) -> int:
        """Size of its console output so far."""
        with suppress(FileNotFoundError):  # somebody removed the run of a held guest
            return self._session.console.stat().st_size
        return 0

    async def read_console(self) -> None:
        """Wait until what it has printed on its console is in `console`."""
        await self.client.read_console()

    def kernel_faults_since(self, start: int) -> tuple[KernelFault, ...]:
        """Return the faults of its kernel behind so many bytes of console output."""
        output = b""
        with suppress(FileNotFoundError), self._session.console.open("rb") as file:
            file.seek(start)
            output = file.read()
        if not output.strip():
            return ()
        from bootmatrix.console.kernel_lines import kernel_lines
        from bootmatrix.console.kernel_messages import find_kernel_faults, stall_of

        faults = find_kernel_faults(kernel_lines(output, None))
        return tuple(fault for fault in faults if fault.is_fatal and not stall_of(fault.name))

    def at(self, service: str) -> Guest:
        """Return the guest with a container's root; services, checks first.

        Raises InputError if the spec has no such container.
        """
        folders = container_folders(self._session.bootable)
        if service not in folders:
            raise InputError(f"the guest has no service {service!r}; it has {', '.join(folders) or 'none'}")
        return Guest(self._session, f"{CONTAINERS}/{folders[service]}/rootfs", self.env)

    async def run(  # noqa: PLR0913
        self,
        command: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        uid: int = 0,
        gid: int = 0,
        privileged: bool = False,
        timeout: float | None = None,
        check: bool = False,
    ) -> CommandResult:
        """Run a command to its end, `timeout` in s; `check` raises on a status.

        Raises TimeoutError if it takes longer (it is killed), AgentError if the guest has ended (the text says of
        what), CommandError if it cannot be run, or failed although `check` is set.
        """
        request = GuestRequest("exec", command, self.root, {**self.env, **(env or {})}, cwd, uid, gid, None, privileged)
        with anyio.fail_after(timeout):
            async with self.explained():
                output = await commands.run_command(self.client, request, input)
        assert output.end
        result = CommandResult(output.end.status, bytes(output.out), bytes(output.err))
        if output.end.kind is ExitKind.FAULT or (check and result.status):
            raise CommandError(command[0], output.end, result)
        return result

    @asynccontextmanager
    async def open(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        terminal: TerminalSize | None = None,
        privileged: bool = False,
    ) -> AsyncIterator[AgentChannel]:
        """Run a command with its streams open, killed at the end of the context.

        Raises AgentError if the guest has ended.
        """
        variables = {**self.env, **(env or {})}
        request = GuestRequest("exec", command, self.root, variables, cwd, terminal=terminal, privileged=privileged)
        async with self.explained(), commands.channel_of(self.client, request) as channel:
            yield channel

    @property
    def description(self) -> dict[str, Any]:
        """Its cell, kernel, files, QEMU and packages so far, as JSON values."""
        return {**self._session.description(), "kernel_release": self.facts}

    def list_only(self, names: Sequence[str]) -> None:
        """Let apt's reduced lists have these packages, from the next update on."""
        repository = self._session.repository()
        if repository:
            repository.only = tuple(names)

    async def restart(self, service: str, *, timeout: float | None = None) -> None:
        """Restart a service by SIGTERM; after the spec's time it is killed.

        Init accounts for it as for a restart that a check requests. `timeout` is in seconds.

        Raises InputError if it is not a running service, or ended otherwise than by the signal: it has failed;
        TimeoutError if it takes longer; AgentError if the guest has ended.
        """
        with anyio.fail_after(timeout):
            async with self.explained():
                await commands.restart(self.client, service)

    async def put(self, source: str | Path, target: str, *, exact: bool = False) -> None:
        """Copy into the guest, into `target` if a folder, unless `exact`.

        An exact copy of a folder adds to a folder that is there.

        Raises InputError if it cannot be read, or written in the guest; AgentError if the guest has ended.
        """
        path = Path(source)
        async with self.explained():
            name = "" if exact else path.resolve().name
            await commands.put(self.client, path, target, root=self.root, name=name)

    async def get(
        self, source: str, target: str | Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES, exact: bool = False
    ) -> list[str]:
        """Copy out of the guest, into `target` if a folder, unless `exact`.

        Returns notes on what was left out: devices, and links that lead out of the tree.

        Raises GuestFileError if it cannot be fetched, HostError if it cannot be written here, AgentError if the guest
        has ended.
        """
        path = Path(target)
        place = path / Path(source).name if path.is_dir() and not exact else path
        async with self.explained():
            return await commands.get(self.client, source, place, root=self.root, limit_bytes=limit_bytes)

    @asynccontextmanager
    async def connect(self, port: int | str) -> AsyncIterator[Connection]:
        """Connect to a TCP port of the guest's loopback, or to a Unix socket by its path.

        Raises ConnectionRefusedError if nobody listens there, AgentError if the guest has ended.
        """
        kind = "unix" if isinstance(port, str) else "tcp"
        root = self.root if kind == "unix" else ""
        async with self.explained(), commands.connection(self.client, kind, str(port), root) as made:
            yield made

    @asynccontextmanager
    async def forward(self, port: int | str, *, local_port: int = 0) -> AsyncIterator[LocalAddress]:
        """Forward a loopback port to the guest's; a free one by default.

        Raises InputError if the local port is taken.
        """
        kind = "unix" if isinstance(port, str) else "tcp"
        root = self.root if kind == "unix" else ""
        async with forwarded(self.client, kind, str(port), root=root, local_port=local_port) as address:
            yield address

    async def wait_for_port(self, port: int | str, *, timeout: float = 30) -> None:
        """Wait until a connection to a port or socket of the guest succeeds.

        Raises TimeoutError if none does in time, AgentError if the guest has ended.
        """
        with anyio.fail_after(timeout):
            while True:
                try:
                    async with self.connect(port):
                        return
                except ConnectionRefusedError:
                    await anyio.sleep(POLL_S)

    async def ended(self) -> None:
        """Wait until the guest has ended."""
        await self._session.ended()

    async def cause_of_end(self) -> str:
        """Wait for the guest's end; return words on it: `has ended: …`."""
        await self._session.ended()
        return await self._session.cause()

    @property
    def client(self) -> AgentClient:
        """The connection to its agent."""
        assert self._session.client
        return self._session.client

    @asynccontextmanager
    async def explained(self) -> AsyncIterator[None]:
        """Say why the guest ended, if an error is of its end."""
        try:
            yield
        except GuestFileError:  # the guest goes on
            raise
        except AgentError as error:
            cause = await self._session.cause()
            is_ours = bool(cause) and self._session.is_our_fault()
            raise AgentError(f"the guest {cause}" if cause else error.message, is_ours=is_ours) from error


def container_folders(bootable: Bootable) -> dict[str, str]:
    """Return containers' folders by name, services and checks first."""
    services = (*bootable.services, *bootable.checks)
    folders = {name: f"services/{name}" for name in services}
    for section, names in (("onboot", bootable.onboot), ("onshutdown", bootable.onshutdown)):
        for number, name in enumerate(names):
            folders.setdefault(name, f"{section}/{number:03d}-{name}")
    return folders


class CommandError(BuildError):
    """A command in a guest that cannot be run, or that failed."""

    def __init__(self, name: str, end: CommandEnd, result: CommandResult) -> None:
        self.result = result
        if end.kind is ExitKind.FAULT:
            super().__init__(f"{name}: cannot {end.text}: {fault_words(end)}")
        else:
            last = result.stderr.decode("utf-8", "replace").strip()[-500:]
            super().__init__(f"{name}: exit status {result.status}{f': {last}' if last else ''}")
