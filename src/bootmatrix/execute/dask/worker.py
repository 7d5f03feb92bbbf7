"""A worker process, started and held by a run.

Its settings come on standard input (model/remote.py). When its input ends, it stops its guests and ends.
"""

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from distributed import Worker

from bootmatrix import __version__
from bootmatrix.cell.context import open_context
from bootmatrix.errors import BootmatrixError, HostError
from bootmatrix.execute.budget import host_budget, keep_busy
from bootmatrix.execute.dask.artefacts import Artefacts
from bootmatrix.execute.dask.control import WorkerChannel, open_worker_channel
from bootmatrix.execute.dask.exchange import SharedFolder, WorkerExchange
from bootmatrix.execute.dask.offers import make_offer
from bootmatrix.execute.dask.security import LOOPBACK, RunKeys, configure
from bootmatrix.execute.dask.task import PLUGIN, CellRunner
from bootmatrix.model.remote import PROTOCOL, FromWorker, Offer, ToWorker, WorkerSettings
from bootmatrix.model.run_config import RunConfig, SourceConfig
from bootmatrix.progress import NullObserver
from bootmatrix.store.locks import lock_folder, remove_abandoned

END_S = 8.0
"""Limit for stopping guests and leaving the cluster."""
SLOT, MEMORY = "slot", "memory"
"""Names of Dask's resources: cells at a time, and MiB."""
WORKERS_FOLDER = "workers"


class QuietWorker(Worker):
    """A Dask worker without its web server and extensions."""

    def __init__(self, scheduler: str, **options: Any) -> None:
        super().__init__(scheduler, extensions={}, **options)

    def start_http_server(self, *_arguments: Any, **_options: Any) -> None:
        """Listen on nothing but the worker's own port."""


@dataclass(frozen=True)
class StoreLimits:
    """The bound of a worker's store, and whether kernels come from the archive."""

    store_mib: int = 0
    from_archive: bool = False


@asynccontextmanager
async def open_runner(
    cache: Path, offer: Offer, exchange: WorkerExchange, folder: Path, limits: StoreLimits
) -> AsyncIterator[CellRunner]:
    """Open what runs cells on this host; at the end all guests are stopped."""
    config = RunConfig(SourceConfig(cache, offline=not limits.from_archive), {}, {}, fork=True)
    budget = host_budget(offer.cores)
    with open_context(config, NullObserver(), budget.hold) as context:
        artefacts = Artefacts(context.builder.store, exchange, limits.store_mib)
        runner = CellRunner(offer, context, artefacts, exchange, folder)
        busy = asyncio.create_task(keep_busy(budget))
        try:
            yield runner
        finally:
            busy.cancel()
            await runner.stop()


def worker_options(offer: Offer, budget_mib: int) -> dict[str, Any]:
    """Return the options of a Dask worker that runs cells."""
    return {
        "name": f"{offer.host}-{offer.instance}",
        "nthreads": offer.slots,
        "resources": {SLOT: offer.slots, MEMORY: budget_mib},
        "memory_limit": 0,
        "startup_information": {PLUGIN: lambda _worker: offer.model_dump_json()},
        "metrics": {},
    }


def set_offer(worker: Worker, offer: Offer) -> None:
    """Give a Dask worker that is not yet registered the offer and its resources."""
    options = worker_options(offer, offer.memory_mib)
    worker.startup_information = {**worker.startup_information, **options["startup_information"]}
    worker.state.total_resources = dict(options["resources"])
    worker.state.available_resources = dict(options["resources"])


async def serve(channel: WorkerChannel) -> None:
    """Work until the channel ends, the scheduler is lost, or a signal comes.

    Raises BootmatrixError if the worker cannot start.
    """
    settings = WorkerSettings.model_validate_json(await channel.first_line())
    if settings.protocol != PROTOCOL:
        raise HostError(f"bootmatrix {__version__} has protocol {PROTOCOL}, the client {settings.protocol}")
    offer = make_offer(settings.host, settings.cores, labels=settings.labels, programs=settings.programs)
    offer = offer.model_copy(update={"instance": settings.instance})
    cache = Path(settings.cache).expanduser().absolute()
    with work_folder(cache, settings.instance) as folder:
        channel.incoming = folder / "incoming"
        channel.incoming.mkdir()
        exchange: WorkerExchange = SharedFolder(settings.exchange) if settings.exchange else channel
        limits = StoreLimits(settings.store_mib, settings.from_archive)
        async with open_runner(cache, offer, exchange, folder, limits) as runner:
            await _work(settings, channel, runner, folder)


async def _work(settings: WorkerSettings, channel: WorkerChannel, runner: CellRunner, folder: Path) -> None:
    port = free_port()
    channel.send(FromWorker(kind="hello", port=port, folder=str(folder), clock_s=time.time()))
    contact = ToWorker.model_validate_json(await channel.first_line()).address
    worker = QuietWorker(
        settings.scheduler,
        host=LOOPBACK,
        port=port,
        contact_address=contact,
        security=RunKeys(settings.certificate, settings.key).security(),
        local_directory=str(folder),
        plugins=(runner,),
        death_timeout=30,
        **worker_options(runner.offer, runner.offer.memory_mib),
    )
    working = asyncio.create_task(_join(worker))
    ends = [asyncio.create_task(end) for end in (channel.follow(), channel.beat(), _signal())]
    try:
        await asyncio.wait((working, *ends), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        for end in ends:
            end.cancel()
        with anyio.move_on_after(END_S):
            await runner.stop()
            await worker.close(nanny=False, reason="bootmatrix-end")


async def _join(worker: Worker) -> None:
    """Register with the scheduler, and work until it ends the worker."""
    await worker
    await worker.finished()


async def _signal() -> None:
    """Wait for SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def work_folder(cache: Path, instance: str) -> Iterator[Path]:
    """Make a worker's locked folder; remove those of killed workers."""
    workers = cache / WORKERS_FOLDER
    workers.mkdir(parents=True, exist_ok=True)
    for other in workers.iterdir():
        remove_abandoned(other)
    folder = workers / instance
    descriptor = lock_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def main() -> int:
    """Run a worker process; return its exit status."""
    configure()

    async def run() -> int:
        channel = await open_worker_channel()
        try:
            await serve(channel)
        except BootmatrixError as error:
            with suppress(OSError):
                channel.send(FromWorker(kind="failed", text=str(error)))
            return 3
        return 0

    return asyncio.run(run())
