"""A guest for tests that are not asynchronous."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from anyio.from_thread import BlockingPortal, start_blocking_portal

from bootmatrix.console.transcript import describe
from bootmatrix.errors import AgentError
from bootmatrix.guest.forward import LocalAddress
from bootmatrix.pytest_plugin.cells import TestCell
from bootmatrix.workspace.guest import CommandResult, Guest
from bootmatrix.workspace.workspace import Workspace

END_S = 30.0
"""Limit of a command whose caller names none, before the machine's time factor."""


class PytestGuest:
    """A running guest: `bootmatrix.Guest` with blocking methods.

    Timeouts are for the fastest machine; they are multiplied by the time factor of the cell's.
    """

    def __init__(self, guest: Guest, portal: BlockingPortal, cell: TestCell) -> None:
        self.cell, self.asynchronous = cell, guest
        self._portal = portal

    @property
    def id(self) -> str:
        """The cell's id."""
        return self.cell.id

    @property
    def console(self) -> bytes:
        """Its console output so far."""
        return self.asynchronous.console

    def check_kernel(self) -> None:
        """Raise AgentError if its kernel has reported a fault."""
        self._portal.call(self.asynchronous.read_console)
        if faults := self.asynchronous.kernel_faults:
            raise AgentError(f"the guest's kernel reported a fault: {describe(faults[0])}")

    def at(self, service: str) -> PytestGuest:
        """Return the same guest with the root of another service."""
        return PytestGuest(self.asynchronous.at(service), self._portal, self.cell)

    def run(
        self,
        command: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002
        env: Mapping[str, str] | None = None,
        timeout: float = END_S,
        check: bool = False,
    ) -> CommandResult:
        """Run a command to its end. With `check` another status than 0 is an error.

        Raises TimeoutError if it takes longer (it is killed), AgentError if the guest has ended.
        """
        limit_s = timeout * self.cell.time_factor
        call = partial(self.asynchronous.run, command, input=input, env=env, timeout=limit_s, check=check)
        return self._portal.call(call)

    def restart(self, service: str, *, timeout: float = END_S) -> None:
        """Stop a service of the spec by SIGTERM and start it again.

        Raises InputError if it is not a running service, or ended otherwise than by the signal; TimeoutError if it
        takes longer; AgentError if the guest has ended.
        """
        limit_s = timeout * self.cell.time_factor
        self._portal.call(partial(self.asynchronous.restart, service, timeout=limit_s))

    def put(self, source: str | Path, target: str) -> None:
        """Copy a file or folder into the guest."""
        self._portal.call(self.asynchronous.put, source, target)

    def get(self, source: str, target: str | Path) -> Path:
        """Copy out of the guest, into `target` if a folder; return the path."""
        path = Path(target)
        self._portal.call(self.asynchronous.get, source, path)
        return path / Path(source).name if path.is_dir() else path

    def wait_for_port(self, port: int | str, *, timeout: float = END_S) -> None:
        """Wait until a connection to a port or socket of the guest succeeds.

        Raises TimeoutError if none does in time.
        """
        limit_s = timeout * self.cell.time_factor
        self._portal.call(partial(self.asynchronous.wait_for_port, port, timeout=limit_s))

    @contextmanager
    def forward(self, port: int | str, *, local_port: int = 0) -> Iterator[LocalAddress]:
        """Forward a port of this host's loopback to one of the guest."""
        opened = self.asynchronous.forward(port, local_port=local_port)
        with self._portal.wrap_async_context_manager(opened) as address:
            yield address


@contextmanager
def open_guest(cell: TestCell) -> Iterator[PytestGuest]:
    """Boot a guest, killed in the end.

    Raises BootmatrixError if it cannot; AgentError in the end if its kernel has reported a fault.
    """
    with start_blocking_portal() as portal:
        opened = Workspace().guest(cell.spec, arch=cell.arch, kernel=cell.kernel)
        with portal.wrap_async_context_manager(opened) as guest:
            under_test = PytestGuest(guest.at(cell.at) if cell.at else guest, portal, cell)
            yield under_test
            under_test.check_kernel()
