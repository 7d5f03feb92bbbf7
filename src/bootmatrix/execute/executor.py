"""The protocol of executors, and how a run drives one."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from bootmatrix.cell.held import HoldGuest
from bootmatrix.cell.run import skipped
from bootmatrix.model import Cell, MachineUse, Plan, Record, Skip
from bootmatrix.model.run_config import CellBundle, CellRequest, RunConfig, request_of
from bootmatrix.progress import Observer
from bootmatrix.runs.run_store import RunWriter
from bootmatrix.subset.budget import expected_s

DURABLE_S = 1.0
"""Interval of syncs to disk, against power cuts. A kill loses no record at any time."""


class Executor(Protocol):
    """Runs cells somewhere: on this host, or on others. It is opened for one run."""

    async def submit(self, request: CellRequest) -> None:
        """Accept a cell. Cells begin in order, when their resources are free."""

    def results(self) -> AsyncIterator[CellBundle]:
        """Yield the bundle of each submitted cell; ends after the last one."""

    def cancel(self) -> None:
        """End all cells that are under way, with everything that they started."""


@dataclass(frozen=True)
class ExecutorSettings:
    """Settings of an executor; `folder_of` returns a cell's folder.

    `jobs` is the number of this host's cores to use; None for all. `cluster` names the machines of an executor that
    uses others. `hold` uses guests of this host that have failed. `on_use` is told of the machines that were
    started.
    """

    config: RunConfig
    observer: Observer
    folder_of: Callable[[Cell], Path]
    jobs: int | None = None
    cluster: str = ""
    hold: HoldGuest | None = None
    on_use: Callable[[MachineUse], None] = lambda _use: None


OpenExecutor = Callable[[ExecutorSettings], AbstractAsyncContextManager[Executor]]
"""Type of entry points of the group `bootmatrix.executors`."""


async def run_requests(
    requests: Iterable[CellRequest], skips: Iterable[Skip], executor: Executor, writer: RunWriter, observer: Observer
) -> AsyncIterator[Record]:
    """Run cells in order; write and yield each record as it comes, skips first.

    Raises OSError if it cannot write the run.
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
    """Sync records to disk for ever, many at once; no cell waits for it."""
    while True:
        await anyio.sleep(DURABLE_S)
        await anyio.to_thread.run_sync(writer.make_durable)


def longest_first(
    cells: Sequence[Cell], factor_of: Callable[[Cell], float], usual_s: Mapping[str, float]
) -> list[Cell]:
    """Sort cells by expected time: a long one at the end leaves cores idle."""
    seconds = expected_s(cells, factor_of, usual_s)
    return sorted(cells, key=lambda cell: -seconds[cell.id])
