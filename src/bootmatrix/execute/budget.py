"""The cores and the memory of this host that guests may take."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from bootmatrix.execute.reservations import Reservation, Reservations, Room
from bootmatrix.model import Machine
from bootmatrix.progress import NullObserver, Observer
from bootmatrix.qemu.host import available_cores, available_memory_mib, children_cpu_s, idle_cpu_s, total_memory_mib

QEMU_OVERHEAD_MIB = 160
"""Memory of a QEMU process beside the guest's own: mostly translated code (measured: 90 to 150 MiB)."""
MEMORY_SHARE = 0.8
"""Part of the available memory that guests may take."""

OTHERS_S = 0.2
"""Interval of attempts to begin a guest while those of other runs have the host."""
LEND_S = 2.0
"""Interval of checks for idle cores while guests wait for one."""
LEND_CORES = 0.8
"""Idle cores that are worth another guest."""


@dataclass
class Others:
    """Room for the guests of all runs that share a cache."""

    reservations: Reservations
    total: Room
    observer: Observer = field(default_factory=NullObserver)
    _is_told: bool = False

    def take(self, room: Room, lent_cores: int) -> Reservation | None:
        """Reserve room, if other runs leave it."""
        taken = self.reservations.take(room, self.total + Room(lent_cores))
        if taken is None and not self._is_told:
            self._is_told = True
            self.observer.note("waiting for other runs on this host: their guests hold its cores or memory")
        return taken


@dataclass
class Budget:
    """Free cores and memory in MiB; a larger guest runs alone.

    Guests count by their profiles at first; `lend` counts their measured use. `others` limits the guests of all runs
    on the host together.
    """

    cores: int
    memory_mib: int
    others: Others | None = None

    def __post_init__(self) -> None:
        self._total = (self.cores, self.memory_mib)
        self._lent = 0
        self._waiting: list[anyio.Event] = []
        self._is_blocked = False

    @asynccontextmanager
    async def hold(self, machine: Machine, memory_mib: int | None = None) -> AsyncIterator[None]:
        """Hold the resources of a machine within the context; waits until they are free.

        `memory_mib` is the expected memory including QEMU's own, by default the maximum.
        """
        cores = min(machine.threads, self._total[0])
        most_mib = machine.memory_mib + QEMU_OVERHEAD_MIB
        room = Room(cores, min(most_mib if memory_mib is None else memory_mib, most_mib, self._total[1]))
        try:
            reservation = await self._take(room)
        finally:
            if self.others:
                self.others.reservations.leave()
        try:
            yield
        finally:
            self._add(room)
            self._lent = max(0, self._lent - 1)
            if reservation:
                reservation.release()
            self._wake()

    def lend(self, guests_cores: float, idle_cores: float) -> None:
        """Let one more guest begin if one waits and the running ones leave a core idle.

        Memory is never lent. A host that is busy otherwise has no idle core to lend.
        """
        idle = min(self._total[0] - guests_cores, idle_cores)
        is_full = self._is_blocked or self.cores + self._lent <= 0
        if self._waiting and is_full and idle >= LEND_CORES and self._lent < self._total[0]:
            self._lent += 1
            self._wake()

    async def _take(self, room: Room) -> Reservation | None:
        """Wait until this run and the others leave room, and take it."""
        while True:
            self._is_blocked = False
            if room.fits(Room(self.cores + self._lent, self.memory_mib)):
                reservation = self.others.take(room, self._lent) if self.others else None
                self._is_blocked = self.others is not None and reservation is None
                if not self._is_blocked:
                    self._add(Room(-room.cores, -room.memory_mib))
                    return reservation
            await self._change()

    async def _change(self) -> None:
        """Wait for a return or loan; for a moment if other runs have it."""
        changed = anyio.Event()
        self._waiting.append(changed)
        try:
            with anyio.move_on_after(OTHERS_S if self._is_blocked else None):
                await changed.wait()
        finally:
            self._waiting.remove(changed)

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()

    def _add(self, room: Room) -> None:
        self.cores += room.cores
        self.memory_mib += room.memory_mib


def host_budget(jobs: int | None = None, cache: Path | None = None, observer: Observer | None = None) -> Budget:
    """Return the budget of this host: `jobs` cores, or all that this process may use.

    With a cache, it is shared with the other runs that use the cache.
    """
    cores = jobs or available_cores()
    own_mib = int(available_memory_mib() * MEMORY_SHARE)
    if cache is None:
        return Budget(cores, own_mib)
    reservations = Reservations.of_cache(cache)
    total_mib = min(own_mib + reservations.held().memory_mib, int(total_memory_mib() * MEMORY_SHARE))
    total = Room(max(cores, available_cores()), total_mib)
    return Budget(cores, own_mib, Others(reservations, total, observer or NullObserver()))


async def keep_busy(budget: Budget) -> None:
    """Measure guests and host for ever, and lend the cores that they leave idle."""
    before, since = (children_cpu_s(), idle_cpu_s()), time.monotonic()
    while True:
        await anyio.sleep(LEND_S)
        after, now = (children_cpu_s(), idle_cpu_s()), time.monotonic()
        guests, idle = ((used - other) / (now - since) for used, other in zip(after, before, strict=True))
        # A guest that ended took its time with it, and its core is free: there is nothing to lend.
        if guests >= 0:
            budget.lend(guests, idle)
        before, since = after, now
