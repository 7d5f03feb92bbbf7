"""The protocol of executors, and how a run drives one."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from bootmatrix.cell.run import skipped
from bootmatrix.model import Cell, Plan, Record, Skip
from bootmatrix.model.run_config import CellBundle, CellRequest, RunConfig, request_of
from bootmatrix.progress import Observer
from bootmatrix.runs.run_store import RunWriter

DURABLE_S = 1.0
"""How often records that were written are put beyond a power cut. A kill takes none of them at any time."""


class Executor(Protocol):
    """Runs cells somewhere: on this host, or on others. It is opened for one run."""

    async def submit(self, request: CellRequest) -> None:
        """Take a cell on. It begins when what it needs is free, in the order of submission."""

    def results(self) -> AsyncIterator[CellBundle]:
        """Yield the bundle of each cell that was submitted, as they come; ends when none is left."""

    def cancel(self) -> None:
        """End all cells that are under way, with everything that they started."""


@dataclass(frozen=True)
class ExecutorSettings:
    """What an executor is opened with: `folder_of` names the folder of a cell's files, for those that share a disk.

    `jobs` is how many cores of this host to use; None for all of them.
    """

    config: RunConfig
    observer: Observer
    folder_of: Callable[[Cell], Path]
    jobs: int | None = None


OpenExecutor = Callable[[ExecutorSettings], AbstractAsyncContextManager[Executor]]
"""What an entry point of the group `bootmatrix.executors` is."""


async def run_requests(
    requests: Iterable[CellRequest], skips: Iterable[Skip], executor: Executor, writer: RunWriter, observer: Observer
) -> AsyncIterator[Record]:
    """Run cells in their order, and write and yield each record as it comes; those of skips come first.

    Raises:
        OSError: the run cannot be written.
    """
    for skip in skips:
        record = skipped(skip.cell, skip.reason)
        writer.add(record)
        observer.cell_done(record)
        yield record
    for request in requests:
        await executor.submit(request)
    async for bundle in executor.results():
        writer.keep_lock(bundle.used)
        writer.adopt(bundle.record, bundle.folder)
        observer.cell_done(bundle.record)
        yield bundle.record


def requests_of(plan: Plan, config: RunConfig, usual_s: Mapping[str, float]) -> list[CellRequest]:
    """Make the requests for a plan's cells. Those that take longest begin first.

    `usual_s` is what cells took in runs before, in seconds by id.
    """
    ordered = longest_first(plan.cells, lambda cell: config.machine(cell).time_factor, usual_s)
    return [request_of(cell, config.machine(cell)) for cell in ordered]


async def keep_durable(writer: RunWriter) -> None:
    """Have the disk keep the records that come, for ever: many at once, and no cell waits for it."""
    while True:
        await anyio.sleep(DURABLE_S)
        await anyio.to_thread.run_sync(writer.make_durable)


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
