"""Many cells at once, within the cores and the memory that the host has."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from bootmatrix.cell import Bench, run_cell, skipped
from bootmatrix.errors import HostError
from bootmatrix.model import Cell, Machine, Plan
from bootmatrix.runs import RunWriter

QEMU_OVERHEAD_MIB = 160
"""Memory of a QEMU process beside the guest's own: translated code above all (measured: 90 to 150 MiB)."""
MEMORY_SHARE = 0.8
"""Part of the available memory that guests may take."""


@dataclass
class Budget:
    """Cores and memory, in MiB, that are free for guests. A guest larger than all of it runs alone."""

    cores: int
    memory_mib: int

    def __post_init__(self) -> None:
        self._total = (self.cores, self.memory_mib)
        self._changed = anyio.Condition()

    @asynccontextmanager
    async def hold(self, machine: Machine) -> AsyncIterator[None]:
        """Take what a machine needs for as long as the context lasts; waits until it is free."""
        cores = min(machine.threads, self._total[0])
        memory_mib = min(machine.memory_mib + QEMU_OVERHEAD_MIB, self._total[1])
        async with self._changed:
            while cores > self.cores or memory_mib > self.memory_mib:
                await self._changed.wait()
            self._take(cores, memory_mib)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                async with self._changed:
                    self._take(-cores, -memory_mib)
                    self._changed.notify_all()

    def _take(self, cores: int, memory_mib: int) -> None:
        self.cores -= cores
        self.memory_mib -= memory_mib


def host_budget(jobs: int | None = None) -> Budget:
    """The budget of this host: `jobs` cores, or all that this process may use."""
    return Budget(jobs or len(os.sched_getaffinity(0)), int(available_memory_mib() * MEMORY_SHARE))


def available_memory_mib() -> int:
    """MemAvailable of /proc/meminfo (proc(5)): free memory, and caches that can be dropped.

    Raises:
        HostError: there is no such line.
    """
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    raise HostError("/proc/meminfo does not say how much memory is available", "bootmatrix needs Linux 3.14 or later.")


async def run_matrix(plan: Plan, bench: Bench, writer: RunWriter, workers: int) -> None:
    """Run all cells of a plan, each record written as it comes. The slowest machines begin first.

    `workers` cells are under way at once: those that boot, and a few that are fetched and built meanwhile.
    """
    for skip in plan.skips:
        record = skipped(skip.cell, skip.reason)
        writer.add(record)
        bench.observer.cell_done(record)
    cells = iter(slowest_first(plan.cells, bench))
    async with anyio.create_task_group() as tasks:
        for _ in range(min(workers, len(plan.cells))):
            tasks.start_soon(_work, cells, bench, writer)


def slowest_first(cells: Sequence[Cell], bench: Bench) -> list[Cell]:
    """Cells in the order in which they begin: a long one that begins last would keep the other cores waiting."""
    return sorted(cells, key=lambda cell: -bench.machine(cell).time_factor)


async def _work(cells: Iterator[Cell], bench: Bench, writer: RunWriter) -> None:
    for cell in cells:
        record = await run_cell(cell, bench, writer.folder(cell))
        writer.keep_lock(bench.builder.archive.resolved())
        writer.add(record)
        bench.observer.cell_done(record)
