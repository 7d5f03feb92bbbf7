"""Machines started for a run as cells need them, ended when idle."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
import asyncssh

from bootmatrix.cloud.ssh import HostFault, connected
from bootmatrix.errors import InfraError
from bootmatrix.execute.dask.fleet import Fleet
from bootmatrix.execute.dask.hosts.supervise import Supervisor
from bootmatrix.model import MachineUse
from bootmatrix.model.cluster import Ec2, Host
from bootmatrix.packaged import packaged
from bootmatrix.progress import Observer

POLL_S = 1.0
IDLE_S = 20.0
"""Time without a cell after which a machine that is not needed ends."""
START_S = 900.0
"""Limit for a machine to have an address and to be set up."""
MAX_FAULTS = 3
"""Machines that fail one after the other before no more are started."""
END_S = 60.0
READY = "/run/bootmatrix-ready"
LEASH = "/run/bootmatrix-leash"


class MachineSource(Protocol):
    """A cloud that has machines. Its methods block, and raise InfraError."""

    def start_machine(self, user_data: str) -> str:
        """Start a machine; return its name."""

    def address(self, machine: str) -> str:
        """Return the address of a machine; empty while it has none."""

    def end_machine(self, machine: str) -> None:
        """End a machine."""

    def clean(self) -> None:
        """End all machines of this run, also of answers that were lost."""


@dataclass(frozen=True)
class RunKey:
    """The SSH keys of a run: the client's, and one for all its machines."""

    client: asyncssh.SSHKey
    machine: asyncssh.SSHKey
    folder: Path

    @classmethod
    def make(cls, folder: Path) -> RunKey:
        """Make new keys; the client's is written to `folder`."""
        client, machine = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        file = folder / "key"
        file.touch(0o600)
        client.write_private_key(str(file))
        return cls(client, machine, folder)

    def known_hosts(self, address: str) -> Path:
        """Write a file with the machines' key for one of them."""
        file = self.folder / f"known-{address.replace(':', '_')}"
        file.write_text(f"{address} {_public(self.machine)}\n")
        return file


def _public(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


def user_data(settings: Ec2, key: RunKey) -> str:
    """Return cloud-init's work: keys, the leash, the file's lines, a mark."""
    leash = packaged("execute/dask/hosts/leash.sh")
    start = f"setsid sh {LEASH} {settings.silence_s} </dev/null >/dev/null 2>&1 &"
    document = {
        "ssh_deletekeys": True,
        "ssh_keys": {
            "ed25519_private": key.machine.export_private_key().decode(),
            "ed25519_public": _public(key.machine),
        },
        "ssh_authorized_keys": [_public(key.client)],
        "write_files": [{"path": LEASH, "permissions": "0700", "content": leash}],
        "runcmd": [["sh", "-c", start], *(["sh", "-c", line] for line in settings.setup), ["touch", READY]],
    }
    return f"#cloud-config\n{json.dumps(document)}\n"  # JSON is YAML


@dataclass
class StartedMachine:
    """A machine of the pool.

    Times are monotonic; `idle_since_s` is 0 while it has cells or starts.
    """

    name: str
    begun_s: float
    task: asyncio.Task[None] | None = None
    ended_s: float = 0.0
    idle_since_s: float = 0.0
    is_up: bool = False


class MachinePool:
    """Starts machines while cells wait, and ends those without any."""

    def __init__(
        self, settings: Ec2, source: MachineSource, key: RunKey, supervisor: Supervisor, observer: Observer
    ) -> None:
        self._settings, self._source, self._key = settings, source, key
        self._supervisor, self._observer = supervisor, observer
        self._data = user_data(settings, key)
        self._faults = 0
        self.machines: list[StartedMachine] = []

    @property
    def running(self) -> list[StartedMachine]:
        """The machines that have not ended."""
        return [machine for machine in self.machines if not machine.ended_s]

    @property
    def paid_s(self) -> float:
        """Seconds of all machines together."""
        return sum((machine.ended_s or time.monotonic()) - machine.begun_s for machine in self.machines)

    async def keep(self, fleet: Fleet) -> None:
        """Scale with the demand, for ever."""
        while True:
            wanted = min(self._settings.machines, math.ceil(fleet.demand / self._settings.cells))
            fleet.is_growing = self._faults < MAX_FAULTS
            for _ in range(wanted - len(self.running) if fleet.is_growing else 0):
                machine = StartedMachine(f"{self._settings.name}-{len(self.machines) + 1}", time.monotonic())
                self.machines.append(machine)
                machine.task = asyncio.create_task(self._run(machine, fleet))
            self._end_idle(fleet, len(self.running) - wanted)
            await asyncio.sleep(POLL_S)

    def _end_idle(self, fleet: Fleet, surplus: int) -> None:
        """End machines beyond those that are wanted, if they had no cell for some time."""
        now_s = time.monotonic()
        for machine in self.running:
            is_idle = machine.is_up and not fleet.load_of(machine.name)
            machine.idle_since_s = (machine.idle_since_s or now_s) if is_idle else 0.0
            if surplus > 0 and is_idle and now_s - machine.idle_since_s >= IDLE_S and machine.task:
                fleet.retired.add(machine.name)  # no cell is placed there any more
                machine.task.cancel()
                surplus -= 1

    async def _run(self, machine: StartedMachine, fleet: Fleet) -> None:
        """Start a machine, keep a worker on it, and end it with the task."""
        name = ""
        try:
            name = await anyio.to_thread.run_sync(self._source.start_machine, self._data)
            host = await self._ready(machine, name)
            self._faults, machine.is_up = 0, True
            fleet.set_host(machine.name, "pending")
            keeping = asyncio.create_task(self._supervisor.keep(host, self._observer))
            try:
                await self._while_it_lives(name, keeping)
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
        except (InfraError, OSError, TimeoutError) as error:
            self._faults += not machine.is_up
            self._observer.note(f"machine {machine.name}: {error or 'it was not ready in time'}")
            await asyncio.sleep(POLL_S)
        finally:
            with anyio.move_on_after(END_S, shield=True), suppress(InfraError):
                if name:
                    await anyio.to_thread.run_sync(self._source.end_machine, name)
            machine.ended_s = time.monotonic()
            fleet.hosts.pop(machine.name, None)
            fleet.changed()

    async def _ready(self, machine: StartedMachine, name: str) -> Host:
        """Wait until a machine is set up; return it as a host."""
        async with asyncio.timeout(START_S):
            while not (address := await anyio.to_thread.run_sync(self._source.address, name)):
                await asyncio.sleep(POLL_S)
            host = Host(
                name=machine.name,
                address=address,
                user=self._settings.user,
                key=str(self._key.folder / "key"),
                known_hosts=str(self._key.known_hosts(address)),
                python=self._settings.python,
                cache=self._settings.cache,
            )
            while not await _is_set_up(host):
                await anyio.to_thread.run_sync(self._source.address, name)  # raises if it has ended
                await asyncio.sleep(POLL_S)
            return host

    async def _while_it_lives(self, name: str, keeping: asyncio.Task[None]) -> None:
        """Wait until a machine has ended, or its worker cannot be kept.

        Raises InfraError if it has ended by itself.
        """
        while not keeping.done():
            await asyncio.wait((keeping,), timeout=10 * POLL_S)
            await anyio.to_thread.run_sync(self._source.address, name)

    async def close(self) -> None:
        """Tell what was used, and end what a lost answer has left."""
        self._observer.note(self.summary())
        with suppress(InfraError):
            await anyio.to_thread.run_sync(self._source.clean)

    @property
    def use(self) -> MachineUse:
        """Return what was used, with its prices."""
        settings = self._settings
        return MachineUse(machines=len(self.machines), paid_s=self.paid_s, hour=settings.hour, month=settings.month)

    def summary(self) -> str:
        """Describe what was used, and what it cost."""
        use = self.use
        count = f"{use.machines} machines" if use.machines != 1 else "1 machine"
        cost = f", {use.cost:.4f} at {use.hour:g} an hour" if use.hour else ""
        return f"{count}, {use.paid_s:.0f} s in all{cost}"


async def _is_set_up(host: Host) -> bool:
    """Return whether a machine has done all of its user data.

    Raises HostFault if it is not ours.
    """
    try:
        async with connected(host) as connection:
            return (await connection.run(f"test -e {READY}")).exit_status == 0
    except HostFault as error:
        if error.is_lasting:
            raise
    except (asyncssh.Error, OSError):
        pass
    return False


@asynccontextmanager
async def kept_machines(pool: MachinePool, fleet: Fleet) -> AsyncIterator[None]:
    """Scale within the context; all machines have been ended behind it."""
    keeping = asyncio.create_task(pool.keep(fleet))
    try:
        yield
    finally:
        tasks = [keeping, *(machine.task for machine in pool.running if machine.task)]
        for task in tasks:
            task.cancel()
        with anyio.move_on_after(END_S, shield=True):
            await asyncio.gather(*tasks, return_exceptions=True)
            await pool.close()
