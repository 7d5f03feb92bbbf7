"""Supervision of hosts: one worker each, tried again if lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncssh

from bootmatrix.errors import InfraError
from bootmatrix.execute.dask.exchange import SharedFolder
from bootmatrix.execute.dask.fleet import Fleet
from bootmatrix.execute.dask.hosts.session import ClientAccess, HostSession, host_session
from bootmatrix.execute.dask.process import new_instance
from bootmatrix.model.cluster import Host
from bootmatrix.progress import Observer

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0
CLOCK_S = 2.0
"""Difference of clocks that is reported, and corrected in records."""
END_S = 15.0


class HostsDepot:
    """The client's end of hosts' files: SFTP, and folders or URLs."""

    def __init__(self, hosts: tuple[Host, ...]) -> None:
        self.sessions: dict[str, HostSession] = {}
        self._files: dict[str, Path] = {}
        self._shared = {host.exchange: SharedFolder(host.exchange) for host in hosts if host.exchange}

    async def prepare(self) -> None:
        """Make the folders that are shared."""
        for folder in self._shared.values():
            await folder.prepare()

    async def publish(self, files: Mapping[str, Path]) -> None:
        """Offer artefacts: hosts ask for those that they lack."""
        self._files |= files
        for folder in self._shared.values():
            await folder.publish(files)

    async def send(self, session: HostSession, sha256: str) -> None:
        """Send an artefact to a host that asked for it: no other file can be had."""
        path = self._files.get(sha256)
        if path is None:
            raise InfraError(f"{sha256} is not an artefact of this run")
        await session.put(sha256, path)

    async def collect(self, instance: str, bundle: str, target: Path) -> None:
        """Fetch a worker's bundle."""
        session = self.sessions.get(instance)
        if session is None:
            raise InfraError("the host was lost before its result came")
        if session.host.exchange:
            await self._shared[session.host.exchange].collect(instance, bundle, target)
        else:
            await session.get(bundle, target)


class Supervisor:
    """Keeps a worker on each host."""

    def __init__(self, fleet: Fleet, depot: HostsDepot, client: ClientAccess) -> None:
        self._fleet, self._depot, self._client = fleet, depot, client

    async def keep(self, host: Host, observer: Observer) -> None:
        """Keep a worker on a host, until the host has a lasting fault."""
        pause_s, was_up = FIRST_PAUSE_S, False
        while True:
            reason, hint, is_lasting = "", "", False
            try:
                reason = await self._once(host, observer)
                was_up, pause_s = True, FIRST_PAUSE_S
            except (InfraError, OSError, asyncssh.Error) as error:
                reason, hint = (error.message, error.hint) if isinstance(error, InfraError) else (str(error), "")
                is_lasting = getattr(error, "is_lasting", False)
                was_up = was_up or self._fleet.hosts[host.name].state == "up"
            if self._fleet.hosts[host.name].state != "failed":
                observer.note(f"host {host.name}: {reason}")
            is_failed = is_lasting or not was_up
            self._fleet.set_host(host.name, "failed" if is_failed else "lost", reason, hint)
            if is_lasting:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _once(self, host: Host, observer: Observer) -> str:
        """Run a worker on a host until it ends; return why."""
        instance = new_instance()
        async with host_session(host, self._client, instance) as session:
            offset_s = session.hello.clock_offset_s
            self._fleet.offsets[host.name] = offset_s if abs(offset_s) > CLOCK_S else 0.0
            if abs(offset_s) > CLOCK_S:
                observer.note(f"host {host.name}: its clock is {offset_s:+.0f} s off; its times are corrected")
            self._depot.sessions[instance] = session
            self._fleet.set_host(host.name, "up")

            async def send(sha256: str) -> None:
                await self._depot.send(session, sha256)

            try:
                return await session.worker.follow(send)
            finally:
                self._depot.sessions.pop(instance, None)
                self._fleet.forget(instance)


@asynccontextmanager
async def supervised(
    hosts: tuple[Host, ...], supervisor: Supervisor, fleet: Fleet, observer: Observer
) -> AsyncIterator[None]:
    """Keep workers on all hosts within the context; all have ended behind it."""
    for host in hosts:
        fleet.set_host(host.name, "pending")
    tasks = [asyncio.create_task(supervisor.keep(host, observer)) for host in hosts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        with anyio.move_on_after(END_S, shield=True):
            await asyncio.gather(*tasks, return_exceptions=True)
