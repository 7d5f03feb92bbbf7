"""Many cells at once, within the cores and the memory that the host has."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import anyio.to_thread

from bootmatrix.cell.run import Bench, run_cell, skipped
from bootmatrix.model import Cell, Machine, Plan
from bootmatrix.qemu.host import available_cores, available_memory_mib, children_cpu_s, idle_cpu_s
from bootmatrix.runs.run_store import RunWriter

QEMU_OVERHEAD_MIB = 160
"""Memory of a QEMU process beside the guest's own: translated code above all (measured: 90 to 150 MiB)."""
MEMORY_SHARE = 0.8
"""Part of the available memory that guests may take."""

SNAPSHOT_SHARE = 0.1
"""Part of it for guests that others are copies of."""


AHEAD = 2
"""Cells that are fetched and built while others boot."""
LEND_S = 2.0
"""How often it is measured whether guests leave cores idle, while others wait for one."""
LEND_CORES = 0.8
"""Idle cores that are worth another guest."""
DURABLE_S = 1.0
"""How often records that were written are put beyond a power cut. A kill takes none of them at any time."""


@dataclass
class Budget:
    """Cores and memory, in MiB, that are free for guests. A guest larger than all of it runs alone.

    Guests are counted as their profiles say at first. `lend` counts them as what they were seen to use.
    """

    cores: int
    memory_mib: int

    def __post_init__(self) -> None:
        self._total = (self.cores, self.memory_mib)
        self._lent = 0
        self._waiting: list[anyio.Event] = []

    @asynccontextmanager
    async def hold(self, machine: Machine, memory_mib: int | None = None) -> AsyncIterator[None]:
        """Take what a machine needs for as long as the context lasts; waits until it is free.

        `memory_mib` is what it is known to take, with all that its QEMU has, else it is taken to use all that it may.
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
        """Let one more guest begin, if one waits and those that run leave a core idle. Memory is never lent.

        A host that others keep busy has none to lend, though our guests use little of it.
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


async def keep_durable(writer: RunWriter) -> None:
    """Have the disk keep the records that come, for ever: many at once, and no cell waits for it."""
    while True:
        await anyio.sleep(DURABLE_S)
        await anyio.to_thread.run_sync(writer.make_durable)


def snapshots_mib() -> int:
    """Memory for snapshots that no guest uses just now, beside that of guests."""
    return int(available_memory_mib() * SNAPSHOT_SHARE)


async def run_matrix(plan: Plan, bench: Bench, writer: RunWriter, budget: Budget, usual_s: Mapping[str, float]) -> None:
    """Run all cells of a plan, each record written as it comes. Those that take longest begin first.

    More cells are under way than can boot, so that the next ones are fetched and built meanwhile. `usual_s` is what
    cells took in runs before, by id.
    """
    for skip in plan.skips:
        record = skipped(skip.cell, skip.reason)
        writer.add(record)
        bench.observer.cell_done(record)
    cells = iter(longest_first(plan.cells, lambda cell: bench.machine(cell).time_factor, usual_s))
    workers = min(2 * budget.cores + AHEAD, len(plan.cells))
    async with anyio.create_task_group() as measuring:
        measuring.start_soon(keep_busy, budget)
        measuring.start_soon(keep_durable, writer)
        async with anyio.create_task_group() as tasks:
            for _ in range(workers):
                tasks.start_soon(_work, cells, bench, writer)
        measuring.cancel_scope.cancel()


def longest_first(
    cells: Sequence[Cell], factor_of: Callable[[Cell], float], usual_s: Mapping[str, float]
) -> list[Cell]:
    """Cells in the order in which they begin: a long one that begins last would keep the other cores waiting.

    `usual_s` is what cells took in runs before, by id. One that is new is taken to be as slow, for its machine, as the
    cells that are known.
    """
    factors = {cell.id: factor_of(cell) for cell in cells}
    paces = [usual_s[cell.id] / factors[cell.id] for cell in cells if cell.id in usual_s]
    pace_s = statistics.median(paces) if paces else 1.0
    return sorted(cells, key=lambda cell: -usual_s.get(cell.id, pace_s * factors[cell.id]))


async def _work(cells: Iterator[Cell], bench: Bench, writer: RunWriter) -> None:
    for cell in cells:
        # A cell may come to its end without a wait, and others are to have their turn.
        await anyio.lowlevel.checkpoint()
        record = await run_cell(cell, bench, writer.folder(cell))
        writer.keep_lock(bench.builder.archive.resolved())
        writer.add(record)
        bench.observer.cell_done(record)
