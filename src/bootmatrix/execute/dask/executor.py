"""The executor `dask`: cells prepared here, run on a cluster's workers."""

import asyncio
import itertools
import shlex
import shutil
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from distributed import Future
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from bootmatrix import __version__
from bootmatrix.cell.context import open_context
from bootmatrix.cell.retry import Prepared
from bootmatrix.cell.run import RunContext
from bootmatrix.cell.shipped import LostAttempt, files_of, lost_record, prepare_here, restored, with_lost
from bootmatrix.errors import HostError, InfraError, reason_of
from bootmatrix.execute.dask.bundle import unpack
from bootmatrix.execute.dask.cluster import OpenCluster, open_cluster
from bootmatrix.execute.dask.placement import NoHost, Placement
from bootmatrix.execute.dask.task import TOPIC, run_task
from bootmatrix.execute.dask.worker import MEMORY, SLOT
from bootmatrix.execute.executor import ExecutorSettings
from bootmatrix.model import Cell, Judgement, Record, Verdict
from bootmatrix.model.remote import CellTask, TaskResult
from bootmatrix.model.run_config import CellBundle, CellRequest
from bootmatrix.store import temporary_folder

AHEAD = 8
"""Cells beyond those on workers that are fetched and built."""
SMALL_BYTES = 1 << 18
"""A bundle that is unpacked in less time than a thread takes to begin."""
MAX_ATTEMPTS = 4
"""Attempts of a cell whose host refuses it or fails."""


@dataclass
class Flight:
    """A cell that is with Dask, and the workers on which it was seen to begin.

    `result` is a TaskResult as JSON.
    """

    cell: Cell
    begun: list[tuple[str, datetime]] = field(default_factory=list)
    result: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class DaskExecutor:
    """Runs cells on a cluster; queue, attempts and records stay here."""

    def __init__(
        self, settings: ExecutorSettings, context: RunContext, cluster: OpenCluster, tasks: anyio.abc.TaskGroup
    ) -> None:
        self._settings, self._context, self._cluster, self._tasks = settings, context, cluster, tasks
        self._fleet, self._client = cluster.fleet, cluster.client
        self._placement = Placement(cluster.fleet)
        self._waiting: deque[CellRequest] = deque()
        self._workers = self._pending = 0
        self._numbers = itertools.count(1)
        self._flights: dict[str, Flight] = {}
        self._send, self._receive = anyio.create_memory_object_stream[CellBundle](float("inf"))
        self._client.subscribe_topic(TOPIC, self._on_event)

    async def submit(self, request: CellRequest) -> None:
        """Queue a cell."""
        await anyio.lowlevel.checkpoint()  # a hundred thousand cells: the scheduler has to answer meanwhile
        self._waiting.append(request)
        self._pending += 1
        self._fleet.demand = self._pending
        self._grow()

    async def results(self) -> AsyncIterator[CellBundle]:
        """Yield the bundles of all cells that were submitted, as they come."""
        while self._pending:
            bundle = await self._receive.receive()
            yield bundle
            self._pending -= 1
            self._fleet.demand = self._pending
            self._grow()

    def cancel(self) -> None:
        """End all cells that are under way."""
        self._tasks.cancel_scope.cancel()

    def _grow(self) -> None:
        while self._workers < min(self._placement.capacity + AHEAD, len(self._waiting) + self._workers):
            self._workers += 1
            self._tasks.start_soon(self._work)

    async def _work(self) -> None:
        try:
            while self._waiting:
                request = self._waiting.popleft()
                record, folder = await self._run(request)
                await self._send.send(CellBundle(record, folder, self._context.builder.archive.resolved()))
        finally:
            self._workers -= 1

    async def _run(self, request: CellRequest) -> tuple[Record, Path]:
        """Prepare a cell, and run it on a worker; its files are in the returned folder."""
        cell = request.cell
        folder = self._settings.folder_of(cell)
        prepared = await prepare_here(cell, self._context, folder)
        if isinstance(prepared, Record):
            return prepared, folder
        files = {artefact.sha256: Path(artefact.path) for artefact in files_of(prepared.bootable)}
        await self._cluster.depot.publish(files)
        lost: list[LostAttempt] = []
        while len(lost) < MAX_ATTEMPTS:
            self._context.observer.cell_stage(cell, "wait")
            try:
                address = await self._placement.take(request.needs, {attempt.host for attempt in lost})
            except NoHost as error:
                return lost_record(cell, lost, self._no_host(str(error)), folder), folder
            try:
                self._grow()
                record = await self._try(request, prepared, address, lost, folder)
            finally:
                self._placement.give_back(address)
            if record and not self._is_worth_another(record, request, lost):
                return with_lost(record, lost), folder
            if record:
                lost.append(LostAttempt(record.host, record.judgement.reason, datetime.now(UTC)))
        *before, last = lost
        return lost_record(cell, before, last.judgement, folder), folder

    def _is_worth_another(self, record: Record, request: CellRequest, lost: list[LostAttempt]) -> bool:
        """Return whether to try a cell elsewhere that a host failed."""
        tried = {record.host, *(attempt.host for attempt in lost)}
        addresses = self._fleet.capable(request.needs, tried)
        others = {self._fleet.offers[address].host for address in addresses} | self._fleet.starting()
        return record.verdict is Verdict.INFRA_ERROR and not others <= tried

    async def _try(
        self, request: CellRequest, prepared: Prepared, address: str, lost: list[LostAttempt], folder: Path
    ) -> Record | None:
        """Run a cell once on a worker. None after an attempt that is lost."""
        task = self._task(request.cell, prepared)
        flight = Flight(request.cell)
        started_at, host = datetime.now(UTC), self._fleet.offers[address].host
        self._flights[task.name] = flight
        try:
            text = await self._await_result(task, flight, request, address)
        finally:
            del self._flights[task.name]
        result = TaskResult.model_validate_json(text) if text else None
        final = result.instance if result else None
        lost += [
            LostAttempt(self._host(instance), "the host, or the way to it, was lost", at)
            for instance, at in flight.begun
            if instance != final
        ]
        if result is None:
            if not flight.begun:
                lost.append(LostAttempt(host, "the worker was lost", started_at))
            return None
        if result.refusal or result.sha256 is None:
            lost.append(LostAttempt(result.host, result.refusal or "no bundle", started_at))
            return None
        try:
            return await self._collect(task, result, folder)
        except (InfraError, OSError) as error:
            lost.append(LostAttempt(result.host, reason_of(error), started_at))
            return None

    async def _collect(self, task: CellTask, result: TaskResult, folder: Path) -> Record:
        """Fetch the bundle of a result, verify it, and put its files into `folder`."""
        assert result.sha256
        bundle = self._cluster.folder / f"{next(self._numbers)}.tar"
        try:
            await self._cluster.depot.collect(result.instance, result.bundle, bundle)
            taken = partial(unpack, bundle, result.sha256, folder, result.host)
            is_small = bundle.stat().st_size < SMALL_BYTES
            record = taken() if is_small else await anyio.to_thread.run_sync(taken)
        except BaseException:
            shutil.rmtree(folder)
            folder.mkdir()
            raise
        finally:
            bundle.unlink(missing_ok=True)
        return restored(record, task, result.host, self._fleet.offsets.get(result.host, 0.0))

    def _task(self, cell: Cell, prepared: Prepared) -> CellTask:
        return CellTask(
            tool_version=__version__,
            name=f"cell-{next(self._numbers)}",  # which are one group to Dask
            cell=cell,
            machine=self._context.machine(cell),
            kernel=prepared.kernel,
            bootable=prepared.bootable,
            phases=prepared.phases,
            spec_sha256=prepared.spec_sha256,
            fork=self._settings.config.fork,
            dump=self._settings.config.dump,
        )

    async def _await_result(self, task: CellTask, flight: Flight, request: CellRequest, address: str) -> str:
        """Give a worker a task; return its result, empty if the worker is lost.

        Raises HostError if the scheduler is lost.
        """
        future: Future[Any] = self._client.submit(
            run_task,
            task.model_dump_json(),
            key=task.name,
            pure=False,
            workers=[address],
            resources={SLOT: 1, MEMORY: request.needs.memory_mib},
        )
        ending = asyncio.create_task(_ended(future, flight.result))
        try:
            while not flight.result.done():
                waiting = (flight.result, ending, self._fleet.change())
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not flight.result.done() and ending.done():
                    flight.result.set_result(ending.result())
                if not flight.result.done() and address not in self._fleet.offers:
                    return ""
            return flight.result.result()
        except KilledWorker:
            return ""
        except FutureCancelledError as error:
            raise HostError(
                f"the cluster's scheduler was lost: {error.reason}",
                f"To finish it: bootmatrix matrix --resume latest --executor dask{self._cluster_option}",
            ) from error
        finally:
            ending.cancel()
            future.release()

    @property
    def _cluster_option(self) -> str:
        return f" --cluster {shlex.quote(self._settings.cluster)}" if self._settings.cluster else ""

    def _no_host(self, reason: str) -> Judgement:
        reason = f"no host can run it: {reason}"
        return Judgement(verdict=Verdict.INFRA_ERROR, reason=reason, advice=self._fleet.hints)

    def _host(self, instance: str) -> str:
        offers = (*self._fleet.offers.values(), *self._fleet.seen.values())
        return next((offer.host for offer in offers if offer.instance == instance), "a host")

    def _on_event(self, event: tuple[float, object]) -> None:
        match event[1]:
            case [str(name), str(instance)] if name in self._flights:
                self._flights[name].begun.append((instance, datetime.now(UTC)))
                self._context.observer.cell_stage(self._flights[name].cell, "boot")
            case [str(name), _, str(text)] if name in self._flights and not self._flights[name].result.done():
                self._flights[name].result.set_result(text)


async def _ended(future: Future[Any], result: asyncio.Future[str]) -> str:
    """Wait for the end of a task; return its value. Raises Dask's errors."""
    if await future.exception() is None and result.done():
        return result.result()
    text: str = await future
    return text


@asynccontextmanager
async def open_executor(settings: ExecutorSettings) -> AsyncIterator[DaskExecutor]:
    """Open the executor, entry point `dask` of the group `bootmatrix.executors`."""
    with (
        open_context(settings.config, settings.observer) as context,
        temporary_folder() as folder,
    ):
        async with open_cluster(settings, folder) as cluster, anyio.create_task_group() as tasks:
            yield DaskExecutor(settings, context, cluster, tasks)
