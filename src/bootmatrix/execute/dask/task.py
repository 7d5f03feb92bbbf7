"""The one function that Dask calls: a cell in, JSON in, JSON out."""

import asyncio
import itertools
import json
import shutil
from pathlib import Path

import anyio.to_thread
from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin
from pydantic import ValidationError

from bootmatrix import __version__
from bootmatrix.cell.run import RunContext
from bootmatrix.cell.shipped import files_of, make_kernel, run_shipped
from bootmatrix.errors import InfraError, reason_of
from bootmatrix.execute.dask.artefacts import Artefacts
from bootmatrix.execute.dask.bundle import pack
from bootmatrix.execute.dask.exchange import WorkerExchange
from bootmatrix.model import Record
from bootmatrix.model.remote import PROTOCOL, CellTask, Offer, TaskResult

PLUGIN = "bootmatrix"
TOPIC = "bootmatrix"
"""Topic of events: `[task, instance]`, a cell begins; `[task, instance, TaskResult]`, it has ended.

The event saves the client four messages by which Dask would fetch a value.
"""
RUNNING = {"executing", "long-running"}


class CellRunner(WorkerPlugin):
    """Runs the tasks of one Dask worker. It stops a cell when Dask forgets its task."""

    name = PLUGIN

    def __init__(
        self, offer: Offer, context: RunContext, artefacts: Artefacts, exchange: WorkerExchange, folder: Path
    ) -> None:
        self.offer, self._context, self._artefacts = offer, context, artefacts
        self._exchange, self._folder = exchange, folder
        self._running: dict[str, asyncio.Task[TaskResult]] = {}
        self._numbers = itertools.count(1)

    def transition(self, key: object, start: str, finish: str, **_more: object) -> None:
        """Stop a cell whose task is released while it runs: Dask itself does not."""
        running = self._running.get(str(key))
        if running and start in RUNNING and finish in {"released", "cancelled"}:
            running.cancel()

    async def stop(self) -> None:
        """End all cells with their guests."""
        for running in self._running.values():
            running.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def run(self, task: CellTask) -> TaskResult:
        """Run a cell; a task that is cancelled ends its guest first."""
        running = asyncio.create_task(self._run(task))
        self._running[task.name] = running
        try:
            return await running
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return self.refused("stopped")
        finally:
            self._running.pop(task.name, None)

    async def _run(self, task: CellTask) -> TaskResult:
        folder = self._folder / f"{self.offer.instance}-{next(self._numbers)}"
        bundle = self._folder / f"{folder.name}.tar"
        try:
            folder.mkdir()
            with self._artefacts.held(files_of(task.bootable)):
                await make_kernel(task, self._context)
                record = await run_shipped(task, self._context, folder, self._artefacts.fetch)
            sha256, size_bytes = await anyio.to_thread.run_sync(_pack, record, folder, bundle)
            await self._exchange.put(bundle)
        except (OSError, InfraError) as error:
            bundle.unlink(missing_ok=True)
            return self.refused(reason_of(error))
        finally:
            if folder.exists():
                await anyio.to_thread.run_sync(_remove, folder)
        return TaskResult(
            host=self.offer.host, instance=self.offer.instance, bundle=bundle.name, sha256=sha256, size_bytes=size_bytes
        )

    def refused(self, reason: str) -> TaskResult:
        """Return a result without a bundle."""
        return TaskResult(host=self.offer.host, instance=self.offer.instance, refusal=reason)


def _pack(record: Record, folder: Path, bundle: Path) -> tuple[str, int]:
    """Pack a cell's folder into a bundle, and remove it."""
    packed = pack(record, folder, bundle)
    _remove(folder)
    return packed


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


async def run_task(text: str) -> str:
    """Run a cell on Dask's worker, from a CellTask to a TaskResult, as JSON."""
    worker = get_worker()
    runner = worker.plugins[PLUGIN]
    assert isinstance(runner, CellRunner)
    try:
        task = CellTask.model_validate_json(text)
    except ValidationError:
        task = None
    if task is None or (task.protocol, task.tool_version) != (PROTOCOL, __version__):
        return runner.refused(_version_fault(text)).model_dump_json()
    worker.log_event(TOPIC, [task.name, runner.offer.instance])
    result = (await runner.run(task)).model_dump_json()
    worker.log_event(TOPIC, [task.name, runner.offer.instance, result])
    return result


def _version_fault(text: str) -> str:
    values = json.loads(text)
    theirs = (values.get("protocol"), values.get("tool_version"))
    return f"runs bootmatrix {__version__} (protocol {PROTOCOL}), the run {theirs[1]} (protocol {theirs[0]})"
