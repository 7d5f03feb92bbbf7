"""The local executor: fetches and builds ahead of the cells that boot."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel

from bootmatrix.cell.context import open_context
from bootmatrix.cell.run import RunContext, run_cell
from bootmatrix.execute.budget import Budget, host_budget, keep_busy
from bootmatrix.execute.executor import ExecutorSettings
from bootmatrix.model import Cell
from bootmatrix.model.run_config import CellBundle, CellRequest

AHEAD = 2
"""Cells that are fetched and built while others boot."""


class LocalExecutor:
    """Runs cells in this process, within a budget of cores and memory."""

    def __init__(
        self, context: RunContext, budget: Budget, folder_of: Callable[[Cell], Path], tasks: anyio.abc.TaskGroup
    ) -> None:
        self._context, self._budget, self._folder_of, self._tasks = context, budget, folder_of, tasks
        self._waiting: deque[CellRequest] = deque()
        self._workers = self._pending = 0
        self._send, self._receive = anyio.create_memory_object_stream[CellBundle](float("inf"))

    async def submit(self, request: CellRequest) -> None:
        """Begin the cell as soon as the host has room for it; requests begin in order."""
        self._waiting.append(request)
        self._pending += 1
        if self._workers < 2 * self._budget.cores + AHEAD:
            self._workers += 1
            self._tasks.start_soon(self._work)

    async def results(self) -> AsyncIterator[CellBundle]:
        """Yield the bundles of all cells that were submitted, as they come."""
        while self._pending:
            yield await self._receive.receive()
            self._pending -= 1

    def cancel(self) -> None:
        """End all cells that are under way."""
        self._tasks.cancel_scope.cancel()

    async def _work(self) -> None:
        try:
            while self._waiting:
                # A cell may come to its end without a wait, and others are to have their turn.
                await anyio.lowlevel.checkpoint()
                if not self._waiting:
                    return
                cell = self._waiting.popleft().cell
                folder = self._folder_of(cell)
                record = await run_cell(cell, self._context, folder)
                await self._send.send(CellBundle(record, folder, self._context.builder.archive.resolved()))
        finally:
            self._workers -= 1


@asynccontextmanager
async def run_locally(
    context: RunContext, budget: Budget, folder_of: Callable[[Cell], Path]
) -> AsyncIterator[LocalExecutor]:
    """Run cells in a context that is open already."""
    async with anyio.create_task_group() as measuring:
        measuring.start_soon(keep_busy, budget)
        async with anyio.create_task_group() as tasks:
            yield LocalExecutor(context, budget, folder_of, tasks)
        measuring.cancel_scope.cancel()


@asynccontextmanager
async def open_executor(settings: ExecutorSettings) -> AsyncIterator[LocalExecutor]:
    """Open the local executor: `local` of the group `bootmatrix.executors`."""
    budget = host_budget(settings.jobs, settings.config.sources.cache, settings.observer)
    with open_context(settings.config, settings.observer, budget.hold, settings.hold) as context:
        async with run_locally(context, budget, settings.folder_of) as executor:
            yield executor
