"""A guest with an agent: its boot in the background, and its end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from bootmatrix.boot.cpu_contention import waits_s
from bootmatrix.boot.start import Booted, Start, start_guest
from bootmatrix.errors import AgentError, BootmatrixError
from bootmatrix.fsio import read_whole
from bootmatrix.guest.client import AgentClient
from bootmatrix.guest.serve import serve_http
from bootmatrix.guest.streams import Signal
from bootmatrix.model import Bootable, Cell, Judgement, Machine, Verdict
from bootmatrix.qemu.host import children, children_cpu_s
from bootmatrix.qemu.version import qemu_version
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.snapshot.pool import ResourceLease, SnapshotPool, no_limit

if TYPE_CHECKING:
    from bootmatrix.source.guest_repository import GuestRepository, Response

PACKAGE_FIELDS = {"name", "version", "architecture", "suite", "sha256"}
EXITS = {"guest-reset": "it reset its machine", "guest-shutdown": "it turned itself off"}
NO_RESULT = "without a result"
END_S = 10.0
"""For the end of a guest to be known after its agent's channel was closed."""


@dataclass
class GuestSession:
    """A guest that boots or runs; a bad copy is replaced, with its client.

    `open_repository` makes the package repository that it sees, when it first asks for something.
    """

    machine: Machine
    bootable: Bootable
    cell: Cell
    folder: Path
    client: AgentClient | None = None
    fault: BaseException | None = None
    booted: Booted | None = None
    open_repository: Callable[[], GuestRepository] | None = None
    is_followed: bool = False
    _changed: Signal = field(default_factory=Signal)
    _ended: anyio.Event = field(default_factory=anyio.Event)
    _repository: GuestRepository | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock)

    def attach(self, client: AgentClient) -> None:
        """Use another client."""
        self.client = client
        self._changed.set()

    def repository(self) -> GuestRepository | None:
        """Return the package repository that the guest sees, if it sees one."""
        with self._opening:
            if self._repository is None and self.open_repository:
                self._repository = self.open_repository()
            return self._repository

    async def follow(self, forks: SnapshotPool | None, turn: ResourceLease = no_limit) -> None:
        """Boot the guest, and follow it to its end."""
        self.is_followed = True
        start = Start(self.machine, self.cell.timeouts, self.folder, turn, attach=self.attach)
        try:
            self.booted = await start_guest(start, self.bootable, forks)
        except Exception as error:
            self.fault = error
        finally:
            self._ended.set()
            self._changed.set()

    async def ready(self) -> AgentClient:
        """Wait for the agent.

        Raises AgentError if the guest ended before, or did not come up; BootmatrixError if it cannot be booted.
        """
        while not self._ended.is_set():
            client = self.client
            if client is None:
                await self._changed.wait()
                continue
            with suppress(AgentError):  # a copy that did not come up: another one may
                await client.ready()
                return client
            while self.client is client and not self._ended.is_set():
                await self._changed.wait()
        raise AgentError(f"the guest {self._cause()}", is_ours=self.is_our_fault()) from self._host_fault()

    async def cause(self) -> str:
        """Describe how the guest ended; empty if it still runs."""
        with anyio.move_on_after(END_S):
            await self.ended()
        return self._cause() if self._ended.is_set() else ""

    def is_our_fault(self) -> bool:
        """Return whether bootmatrix or the host ended the guest."""
        return self.fault is not None or (self.booted is not None and self._judgement().verdict is Verdict.INFRA_ERROR)

    def _judgement(self) -> Judgement:
        from bootmatrix.judge import judge  # not needed by most guests

        assert self.booted
        return judge(self.booted.outcome, self.machine, self.bootable, read_whole(self.console))

    async def ended(self) -> None:
        """Wait for its end: its agent's, if another boot follows."""
        if self.is_followed or self.client is None:
            await self._ended.wait()
        else:
            await self.client.ended()

    @property
    def console(self) -> Path:
        """The file of its console."""
        return self.folder / CONSOLE_FILE

    def description(self) -> dict[str, Any]:
        """Return its inputs and results, as JSON values.

        Its CPU time is that of this process and its guests; it waited for as long as its most delayed thread.
        """
        files = {**self.bootable.parts(), **{image.name: image for image in self.bootable.images}}
        packages = self._repository.packages if self._repository else ()
        return {
            "cell": self.cell.id,
            "qemu": qemu_version(self.machine),
            "memory_mib": self.machine.memory_mib,
            "cpu_s": round(time.process_time() + children_cpu_s(), 1),
            "waited_s": round(_waited_s(), 1),
            "files": {name: artefact.sha256 for name, artefact in files.items()},
            "packages": [package.model_dump(include=PACKAGE_FIELDS) for package in packages],
        }

    def _host_fault(self) -> BaseException | None:
        if isinstance(self.fault, BootmatrixError):
            raise self.fault
        return self.fault

    def _cause(self) -> str:
        if self.fault is not None:
            return f"cannot be booted: {self.fault}"
        if self.booted is None:
            return "was stopped"
        outcome, judgement = self.booted.outcome, self._judgement()
        reason = judgement.reason.removeprefix("the guest ended ")
        exits = (EXITS.get(str(event.data.get("reason"))) for event in outcome.events if event.name == "SHUTDOWN")
        way = next(filter(None, exits), "") if judgement.verdict is Verdict.FAIL else ""
        if way and reason.startswith(NO_RESULT):  # which guests that serve commands never have
            return f"has ended: {way}"
        return f"has ended: {reason}{f' ({way})' if way else ''}"


def _waited_s() -> float:
    """Return how long a guest's most delayed thread waited for a core."""
    return max((wait_s for child in children() for wait_s in waits_s(int(child)).values()), default=0.0)


@asynccontextmanager
async def running(
    session: GuestSession, forks: SnapshotPool | None, turn: ResourceLease = no_limit
) -> AsyncIterator[GuestSession]:
    """Boot a guest with an agent, forked if there are forks; it is killed in the end.

    Raises BootmatrixError if it cannot be booted, AgentError if it did not come up.
    """
    # A task of its own: a task group would wrap the errors of those who use the guest.
    tasks = [asyncio.create_task(session.follow(forks, turn))]
    try:
        client = await session.ready()
        tasks.append(asyncio.create_task(serve_http(client, lambda head: _answer(session, head))))
        yield session
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError):
                await task


def _answer(session: GuestSession, head: bytes) -> Response:
    """Answer a guest's request to its repository. Blocking."""
    repository = session.repository()
    assert repository
    return repository.answer(head)
