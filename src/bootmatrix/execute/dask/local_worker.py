"""A worker process on this host, which ends with the run."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from bootmatrix.errors import InfraError
from bootmatrix.execute.dask.control import LINE_BYTES
from bootmatrix.execute.dask.fleet import Fleet
from bootmatrix.execute.dask.offers import programs_of
from bootmatrix.execute.dask.process import HeldWorker, new_instance
from bootmatrix.execute.dask.security import LOOPBACK, RunKeys
from bootmatrix.execute.executor import ExecutorSettings
from bootmatrix.model.remote import ToWorker, WorkerSettings

MODULE = "bootmatrix.cli.worker_process"
NAME = "localhost"
END_S = 10.0


class ProcessPipe:
    """The standard streams of a child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout
        self._input, self._output = process.stdin, process.stdout

    async def readline(self) -> bytes:
        """Read a line of its standard output."""
        return await self._output.readline()

    def write(self, data: bytes) -> None:
        """Write to its standard input."""
        self._input.write(data)


@asynccontextmanager
async def hold_local_worker(
    settings: ExecutorSettings, fleet: Fleet, scheduler: str, keys: RunKeys, exchange: Path
) -> AsyncIterator[None]:
    """Run a worker on this host within the context. It shares the cache of the run."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", MODULE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        start_new_session=True,
    )
    worker = HeldWorker(ProcessPipe(process))
    fleet.set_host(NAME, "pending")
    following: asyncio.Task[None] | None = None
    try:
        hello = await worker.start(
            WorkerSettings(
                scheduler=scheduler,
                certificate=keys.certificate,
                key=keys.key,
                host=NAME,
                instance=new_instance(),
                cache=str(settings.config.sources.cache.absolute()),
                exchange=str(exchange),
                cores=settings.jobs or 0,
                programs=programs_of(settings.config),
            )
        )
        worker.send(ToWorker(kind="contact", address=f"tls://{LOOPBACK}:{hello.port}"))
        following = asyncio.create_task(_follow(worker, fleet))
        yield
    finally:
        if following:
            following.cancel()
        await end_process(process)


async def _follow(worker: HeldWorker, fleet: Fleet) -> None:
    async def no_file(_sha256: str) -> None:
        raise InfraError("files are in the exchange")

    reason = await worker.follow(no_file)
    fleet.set_host(NAME, "failed", reason)


async def end_process(process: asyncio.subprocess.Process) -> None:
    """Close a worker's stdin, which ends it, or else kill it."""
    if process.stdin:
        process.stdin.close()
    with anyio.CancelScope(shield=True):
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
