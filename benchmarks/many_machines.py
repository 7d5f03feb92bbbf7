"""Many machines: real scheduler, executor and workers, whose guests sleep instead of booting; and real guests beside.

The client's process has the scheduler, as in a run by SSH; up to 50 simulated workers share another process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import anyio
import anyio.to_thread

from benchmarks import guests, scale
from benchmarks.results import Result
from bootmatrix.boot.start import Booted, Start
from bootmatrix.cell.context import open_context
from bootmatrix.cell.retry import Prepared
from bootmatrix.cell.run import Backend, RunContext
from bootmatrix.execute.budget import Budget
from bootmatrix.execute.dask.artefacts import Artefacts
from bootmatrix.execute.dask.cluster import OpenCluster, followed, run_scheduler
from bootmatrix.execute.dask.exchange import SharedFolder
from bootmatrix.execute.dask.executor import DaskExecutor
from bootmatrix.execute.dask.offers import make_offer
from bootmatrix.execute.dask.security import RunKeys, configure
from bootmatrix.execute.dask.task import CellRunner
from bootmatrix.execute.dask.worker import LOOPBACK, QuietWorker, worker_options
from bootmatrix.execute.executor import ExecutorSettings, keep_durable, requests_of, run_requests
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Artefact, Bootable, Cell, Machine, Plan, Verdict
from bootmatrix.model.remote import Offer
from bootmatrix.model.run_config import RunConfig, SourceConfig
from bootmatrix.plan import plan
from bootmatrix.progress import NullObserver
from bootmatrix.runs.run_store import CONSOLE_FILE, RunWriter
from bootmatrix.snapshot.pool import SnapshotPool
from bootmatrix.store import Store, sha256_of

CONSOLE, RESULT = b"hello\n", b"a result\n" * 3_400
"""A console that is judged at once, and 30 kB beside it: workers in one process would judge one after the other."""
RATE_CELLS, RATE_WORKERS, CELL_S, MIN_RATE = 5_000, 20, 0.1, 150.0
SLEEPERS, SLEEP_S, MIN_SPEEDUP = 4, 1.0, 3.6
SLEEP_CELLS = 80
MANY_WORKERS, MANY_MIB, GROWTH = 100, 500, 1.5
HELLO_CELLS, HELLO_RATIO = 60, 1.10
MODULE = "benchmarks.many_machines"
WORKER_MIB = 1 << 20
IN_A_PROCESS = 50
"""Simulated workers in one process: as many processes would take the memory and the cores of the client."""


@dataclass(frozen=True)
class Simulation:
    """Cells over workers of one core each; `cell_s` is the time of a guest."""

    cells: int
    workers: int
    cell_s: float


@dataclass(frozen=True)
class Simulated:
    """Wall time, CPU time of both ends after the start, and the client's largest size in memory."""

    wall_s: float
    client_cpu_s: float
    workers_cpu_s: float
    memory_mib: int


@dataclass(frozen=True)
class WorkersJob:
    """The settings of a process of simulated workers, on its standard input as JSON."""

    address: str
    keys: RunKeys
    folder: str
    first: int
    count: int
    cell_s: float


class Sleep:
    """A guest that sleeps, with a console and a pass."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def start(self, start: Start, _bootable: Bootable, _forks: SnapshotPool | None) -> Booted:
        """Sleep within the worker's budget, as a guest runs."""
        async with start.turn(start.machine):
            await anyio.sleep(self._seconds)
            (start.folder / CONSOLE_FILE).write_bytes(CONSOLE)
            (start.folder / "result").write_bytes(RESULT)
        return Booted(scale.OUTCOME)


def in_a_process(simulation: Simulation) -> Simulated:
    """Simulate in a fresh process, whose memory is its own."""
    words = [sys.executable, "-m", MODULE, json.dumps(asdict(simulation))]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return Simulated(**json.loads(done.stdout))


def simulate(simulation: Simulation) -> Simulated:
    """Plan, run, judge and record cells on simulated workers."""
    configure()
    profiles = load_profiles(arch_folders())
    with tempfile.TemporaryDirectory(dir=scale.MEMORY if scale.MEMORY.is_dir() else None) as folder:
        path = Path(folder)
        matrix = scale.matrix_of(simulation.cells, profiles, path)
        planned = plan(matrix, path, profiles)
        planned = planned.model_copy(update={"cells": planned.cells[: simulation.cells]})
        seen = scale.Verdicts()
        writer = RunWriter.create(path / "reports", "many")
        config = RunConfig(SourceConfig(path / "cache", offline=True), profiles, {})
        settings = ExecutorSettings(config, seen, writer.folder)
        simulated = asyncio.run(_simulate(simulation, planned, settings, writer, path))
        assert seen.counted == {Verdict.PASS: simulation.cells}, seen.counted
        return simulated


async def _simulate(
    simulation: Simulation, planned: Plan, settings: ExecutorSettings, writer: RunWriter, folder: Path
) -> Simulated:
    depot = SharedFolder(str(folder / "exchange"))
    await depot.prepare()
    (folder / "bundles").mkdir()
    backend = Backend(_prepare_in(folder), Sleep(0).start)
    async with AsyncExitStack() as stack:
        client, address, keys = await stack.enter_async_context(run_scheduler(folder))
        fleet = await stack.enter_async_context(followed(client, settings))
        jobs = [
            WorkersJob(
                address, keys, str(folder), first, min(IN_A_PROCESS, simulation.workers - first), simulation.cell_s
            )
            for first in range(0, simulation.workers, IN_A_PROCESS)
        ]
        processes = [await stack.enter_async_context(_workers_process(job)) for job in jobs]
        while len(fleet.offers) < simulation.workers:
            assert all(process.returncode is None for process in processes)
            await fleet.wait(0.1)
        context = replace(stack.enter_context(open_context(settings.config, settings.observer)), backend=backend)
        cluster = OpenCluster(client, fleet, depot, folder / "bundles")
        started, started_cpu = time.monotonic(), time.process_time()
        async with anyio.create_task_group() as tasks:
            executor = DaskExecutor(settings, context, cluster, tasks)
            tasks.start_soon(keep_durable, writer)
            requests = requests_of(planned, settings.config, {})
            async for _ in run_requests(requests, (), executor, writer, settings.observer):
                pass
            tasks.cancel_scope.cancel()
        writer.put_together()
        grown, cpu_s = scale.grown_since(started), time.process_time() - started_cpu
        return Simulated(grown.wall_s, cpu_s, sum([await _cpu_s(process) for process in processes]), grown.memory_mib)


@asynccontextmanager
async def _workers_process(job: WorkersJob) -> AsyncIterator[asyncio.subprocess.Process]:
    words = (sys.executable, "-m", MODULE, "workers")
    process = await asyncio.create_subprocess_exec(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def _cpu_s(process: asyncio.subprocess.Process) -> float:
    """End a process of workers; return the CPU time that they took after their start."""
    assert process.stdin and process.stdout
    process.stdin.close()
    return float(await process.stdout.readline())


async def _run_workers(job: WorkersJob) -> None:
    """Run simulated workers until standard input ends, and print their CPU time."""
    async with AsyncExitStack() as stack:
        workers = []
        for number in range(job.first, job.first + job.count):
            runner = await stack.enter_async_context(_runner(number, job))
            options = {**worker_options(runner.offer, runner.offer.memory_mib), "local_directory": job.folder}
            workers.append(
                QuietWorker(job.address, host=LOOPBACK, security=job.keys.security(), plugins=(runner,), **options)
            )
        await asyncio.gather(*(stack.enter_async_context(worker) for worker in workers))
        started = time.process_time()
        await anyio.to_thread.run_sync(sys.stdin.read)
        print(time.process_time() - started, flush=True)


@asynccontextmanager
async def _runner(number: int, job: WorkersJob) -> AsyncIterator[CellRunner]:
    own = Path(job.folder, f"worker{number}")
    own.mkdir()
    config = RunConfig(SourceConfig(own / "cache", offline=True), {}, {})
    exchange = SharedFolder(f"{job.folder}/exchange")
    with open_context(config, NullObserver(), Budget(1, WORKER_MIB).hold) as context:
        backend = Backend(context.backend.prepare, Sleep(job.cell_s).start)
        slept = replace(context, backend=backend, accelerate=_emulate)
        artefacts = Artefacts(Store(own / "cache"), exchange)
        yield CellRunner(_offer(number), slept, artefacts, exchange, own)


async def _emulate(machine: Machine, _bootable: Bootable) -> Machine:
    return machine.emulated()


@cache
def _qemus() -> dict[str, str]:
    machines = [machine for profile in load_profiles(arch_folders()).values() for machine in profile.machines.values()]
    return {machine.qemu: "99.0" for machine in machines}


def _offer(number: int) -> Offer:
    offer = make_offer(f"host{number}", 1, programs=("none",))
    return offer.model_copy(update={"memory_mib": WORKER_MIB, "slots": 4, "qemu": _qemus()})


def _prepare_in(folder: Path) -> Callable[[Cell, RunContext], Awaitable[Prepared]]:
    file = folder / "kernel"
    file.write_bytes(b"a kernel" * 1000)
    kernel = Artefact(kind="kernel", name="linux", path=str(file), sha256=sha256_of(file), size_bytes=8000)
    bootable = scale.BOOTABLE.model_copy(update={"kernel": kernel})

    async def prepare(_cell: Cell, _context: RunContext) -> Prepared:
        return Prepared(None, bootable, (), "")

    return prepare


def rate(_args: argparse.Namespace) -> Iterator[Result]:
    """Short cells over 20 workers a second, and the CPU time of both ends."""
    simulated = in_a_process(Simulation(RATE_CELLS, RATE_WORKERS, CELL_S))
    cells_s = RATE_CELLS / simulated.wall_s
    client_ms, workers_ms = (1000 * cpu_s / RATE_CELLS for cpu_s in (simulated.client_cpu_s, simulated.workers_cpu_s))
    yield Result(
        name=f"{RATE_CELLS} simulated cells over {RATE_WORKERS} workers",
        value=f"{cells_s:.0f} cells/s; CPU per cell: client {client_ms:.1f} ms, workers {workers_ms:.1f} ms",
        target=f"{MIN_RATE:.0f} cells/s",
        ok=cells_s >= MIN_RATE,
        details={"wall_s": simulated.wall_s, "client_ms": client_ms, "workers_ms": workers_ms},
    )


def speedup(_args: argparse.Namespace) -> Iterator[Result]:
    """Sleeping cells on four hosts beside one."""
    one, many = (in_a_process(Simulation(SLEEP_CELLS, workers, SLEEP_S)) for workers in (1, SLEEPERS))
    times = one.wall_s / many.wall_s
    name = f"{SLEEP_CELLS} sleeping cells, {SLEEPERS} hosts beside one"
    details: dict[str, float | list[float]] = {"one_s": one.wall_s, "many_s": many.wall_s}
    yield Result(name, f"×{times:.2f}", f"×{MIN_SPEEDUP}", times >= MIN_SPEEDUP, details)


def memory(args: argparse.Namespace) -> Iterator[Result]:
    """The client's memory and time with `--cells` over 100 workers."""
    few, many = (in_a_process(Simulation(count, MANY_WORKERS, 0)) for count in (args.cells // 10, args.cells))
    growth = many.client_cpu_s / few.client_cpu_s / 10
    yield Result(
        name=f"{args.cells} cells over {MANY_WORKERS} simulated workers: the client",
        value=f"{many.memory_mib} MiB, {many.wall_s:.0f} s, CPU per cell ×{growth:.2f} of that of a tenth",
        target=f"{MANY_MIB} MiB, ×{GROWTH}",
        ok=many.memory_mib <= MANY_MIB and growth <= GROWTH,
        details={"few_s": few.wall_s, "many_s": many.wall_s, "few_mib": few.memory_mib, "many_mib": many.memory_mib},
    )


def dask_beside_local(args: argparse.Namespace) -> Iterator[Result]:
    """Real guests by Dask's worker on this host, beside the local executor."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*_copies(Path(folder), HELLO_CELLS), "--arch", "x86_64"]
        ours = [*words, "--executor", "dask"]
        guests.whole_matrix(args, words[:1] + words[-2:], Path(folder) / "first", offline=False)
        wall_s = [guests.whole_matrix(args, some, Path(folder) / "runs").wall_s for some in (words, ours)]
    ratio = wall_s[1] / wall_s[0]
    name = f"{HELLO_CELLS} hello cells, dask beside local"
    details: dict[str, float | list[float]] = {"local_s": wall_s[0], "dask_s": wall_s[1]}
    yield Result(
        name, f"{wall_s[1]:.1f} s, {wall_s[0]:.1f} s: ×{ratio:.2f}", f"×{HELLO_RATIO}", ratio <= HELLO_RATIO, details
    )


def _copies(folder: Path, count: int) -> list[str]:
    """Specs that are `hello` under other names."""
    (folder / "images").symlink_to(Path("specs/images").absolute())
    paths = [folder / f"hello{number}.yml" for number in range(count)]
    for path in paths:
        path.write_bytes(Path("specs/hello.yml").read_bytes())
    return [str(path) for path in paths]


def main(what: str) -> None:
    """Run the client, whose simulation is JSON, or its workers."""
    if what != "workers":
        print(json.dumps(asdict(simulate(Simulation(**json.loads(what))))))
        return
    configure()
    job = json.loads(sys.stdin.readline())
    asyncio.run(_run_workers(WorkersJob(**{**job, "keys": RunKeys(**job["keys"])})))


if __name__ == "__main__":
    main(sys.argv[1])
