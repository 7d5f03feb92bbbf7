"""The cores and the memory of this host that guests may take."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from bootmatrix.model import Machine
from bootmatrix.qemu.host import available_cores, available_memory_mib, children_cpu_s, idle_cpu_s

QEMU_OVERHEAD_MIB = 160
"""Memory of a QEMU process beside the guest's own: mostly translated code (measured: 90 to 150 MiB)."""
MEMORY_SHARE = 0.8
"""Part of the available memory that guests may take."""

LEND_S = 2.0
"""Interval of checks for idle cores while guests wait for one."""
LEND_CORES = 0.8
"""Idle cores that are worth another guest."""


@dataclass
class Budget:
    """Free cores and memory, in MiB, for guests. A guest larger than all of it runs alone.

    Guests count by their profiles at first; `lend` counts their measured use.
    """

    cores: int
    memory_mib: int

    def __post_init__(self) -> None:
        self._total = (self.cores, self.memory_mib)
        self._lent = 0
        self._waiting: list[anyio.Event] = []

    @asynccontextmanager
    async def hold(self, machine: Machine, memory_mib: int | None = None) -> AsyncIterator[None]:
        """Hold the resources of a machine within the context; waits until they are free.

        `memory_mib` is the expected memory including QEMU's own, by default the maximum.
        """
        cores = min(machine.threads, self._total[0])
        most_mib = machine.memory_mib + QEMU_OVERHEAD_MIB
        memory_mib = min(most_mib if memory_mib is None else memory_mib, most_mib, self._total[1])
        while cores > self.cores + self._lent or memory_mib > self.memory_mib:
            await self._change()
        self._take(cores, memory_mib)
        try:
            yield
        finally:
            self._take(-cores, -memory_mib)
            self._lent = max(0, self._lent - 1)
            self._wake()

    def lend(self, guests_cores: float, idle_cores: float) -> None:
        """Let one more guest begin if one waits and the running ones leave a core idle.

        Memory is never lent. A host that is busy otherwise has no idle core to lend.
        """
        idle = min(self._total[0] - guests_cores, idle_cores)
        if self._waiting and self.cores + self._lent <= 0 and idle >= LEND_CORES and self._lent < self._total[0]:
            self._lent += 1
            self._wake()

    async def _change(self) -> None:
        """Wait until something was given back or lent."""
        changed = anyio.Event()
        self._waiting.append(changed)
        try:
            await changed.wait()
        finally:
            self._waiting.remove(changed)

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()

    def _take(self, cores: int, memory_mib: int) -> None:
        self.cores -= cores
        self.memory_mib -= memory_mib


def host_budget(jobs: int | None = None) -> Budget:
    """The budget of this host: `jobs` cores, or all that this process may use."""
    return Budget(jobs or available_cores(), int(available_memory_mib() * MEMORY_SHARE))


async def keep_busy(budget: Budget) -> None:
    """Measure guests and host for ever, and lend the cores that they leave idle."""
    before, since = (children_cpu_s(), idle_cpu_s()), time.monotonic()
    while True:
        await anyio.sleep(LEND_S)
        after, now = (children_cpu_s(), idle_cpu_s()), time.monotonic()
        guests, idle = ((one - other) / (now - since) for one, other in zip(after, before, strict=True))
        # A guest that ended took its time with it, and its core is free: there is nothing to lend.
        if guests >= 0:
            budget.lend(guests, idle)
        before, since = after, now
