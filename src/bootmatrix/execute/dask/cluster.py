"""The cluster of a run: scheduler, workers and files, start to end."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import dask
from distributed import Client, Scheduler
from distributed.security import Security

from bootmatrix.errors import HostError
from bootmatrix.execute.dask.exchange import Depot, SharedFolder
from bootmatrix.execute.dask.fleet import Fleet
from bootmatrix.execute.dask.local_worker import hold_local_worker
from bootmatrix.execute.dask.security import LOOPBACK, RunKeys, configure, make_run_keys
from bootmatrix.execute.executor import ExecutorSettings
from bootmatrix.load.cluster import load_cluster
from bootmatrix.model.cluster import Cluster, Ec2, Host, SchedulerAddress, Slurm

QUEUE_S = 24 * 3600.0
"""Time that Slurm may leave the first job in its queue."""
JOIN_S = 60.0
"""Time for the first worker of a scheduler that runs already."""
END_S = 10.0
"""Limit for ending workers and scheduler."""


@dataclass(frozen=True)
class OpenCluster:
    """A cluster in use. `folder` is for files on their way, and is empty at first."""

    client: Client
    fleet: Fleet
    depot: Depot
    folder: Path


class QuietScheduler(Scheduler):
    """A Dask scheduler without its web server and extensions.

    One of these, spans, looks through all tasks of the run at each submission.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(extensions={}, dashboard=False, **options)

    def start_http_server(self, *_arguments: Any, **_options: Any) -> None:
        """Listen on nothing but the scheduler's own port."""


@asynccontextmanager
async def open_cluster(settings: ExecutorSettings, folder: Path) -> AsyncIterator[OpenCluster]:
    """Open the cluster that the settings name, or a worker on this host.

    Raises InputError if the cluster's file is invalid, HostError if no host can be reached.
    """
    configure()
    bundles = folder / "bundles"
    bundles.mkdir()
    file = load_cluster(settings.cluster) if settings.cluster else None
    async with _opening(settings, file, folder, bundles) as cluster:
        yield cluster


def _opening(
    settings: ExecutorSettings, file: Cluster | None, folder: Path, bundles: Path
) -> AbstractAsyncContextManager[OpenCluster]:
    if file is None or file.boards == file.hosts != ():
        return _open_local(settings, folder, bundles)
    if file.workers:
        return _open_hosts(settings, file.workers, bundles)
    if file.ec2:
        return _open_ec2(settings, file.ec2, folder, bundles)
    if file.slurm:
        return _open_slurm(settings, file.slurm, bundles)
    assert file.scheduler
    return _open_address(settings, file.scheduler, bundles)


@asynccontextmanager
async def _open_local(settings: ExecutorSettings, folder: Path, bundles: Path) -> AsyncIterator[OpenCluster]:
    exchange = folder / "exchange"
    depot = SharedFolder(str(exchange), settings.config.sources.cache.absolute() / "blobs")
    await depot.prepare()
    async with (
        run_scheduler(bundles.parent) as (client, address, keys),
        followed(client, settings) as fleet,
        hold_local_worker(settings, fleet, address, keys, exchange),
    ):
        yield OpenCluster(client, fleet, depot, bundles)


@asynccontextmanager
async def _open_hosts(settings: ExecutorSettings, hosts: tuple[Host, ...], bundles: Path) -> AsyncIterator[OpenCluster]:
    from bootmatrix.execute.dask.hosts import session, supervise

    depot = supervise.HostsDepot(hosts)
    await depot.prepare()
    async with run_scheduler(bundles.parent) as (client, address, keys), followed(client, settings) as fleet:
        access = session.ClientAccess.of(settings.config, address, keys)
        supervisor = supervise.Supervisor(fleet, depot, access)
        async with supervise.supervised(hosts, supervisor, fleet, settings.observer):
            yield OpenCluster(client, fleet, depot, bundles)


@asynccontextmanager
async def _open_ec2(settings: ExecutorSettings, ec2: Ec2, folder: Path, bundles: Path) -> AsyncIterator[OpenCluster]:
    from bootmatrix.cloud.aws_machines import AwsMachines
    from bootmatrix.execute.dask.hosts import machines, session, supervise

    depot, source = supervise.HostsDepot(()), AwsMachines(ec2, folder)
    async with run_scheduler(bundles.parent) as (client, address, keys), followed(client, settings) as fleet:
        access = session.ClientAccess.of(settings.config, address, keys)
        supervisor = supervise.Supervisor(fleet, depot, access)
        pool = machines.MachinePool(ec2, source, machines.RunKey.make(folder), supervisor, settings.observer)
        fleet.is_growing = True
        try:
            async with machines.kept_machines(pool, fleet):
                yield OpenCluster(client, fleet, depot, bundles)
        finally:
            settings.on_use(pool.use)


@asynccontextmanager
async def _open_slurm(settings: ExecutorSettings, slurm: Slurm, bundles: Path) -> AsyncIterator[OpenCluster]:
    from bootmatrix.execute.dask.slurm import SlurmJobs, slurm_jobs

    own_cache = settings.config.sources.cache.absolute()
    cache = Path(slurm.cache).expanduser().absolute() if slurm.cache else own_cache
    keys = make_run_keys()
    with tempfile.TemporaryDirectory(prefix="bootmatrix-", dir=Path(slurm.exchange).expanduser().absolute()) as shared:
        depot = SharedFolder(f"{shared}/files", own_cache / "blobs" if cache == own_cache else None)
        await depot.prepare()
        fleets: list[Fleet] = []
        demand = lambda: fleets[0].demand if fleets else 0  # noqa: E731
        jobs = SlurmJobs(slurm, keys, Path(shared), f"{shared}/files", cache)
        async with (
            slurm_jobs(jobs, demand) as address,
            _client(address, keys.security()) as client,
            followed(client, settings) as fleet,
        ):
            fleets.append(fleet)
            fleet.awaits_workers_s = QUEUE_S
            yield OpenCluster(client, fleet, depot, bundles)


@asynccontextmanager
async def _open_address(
    settings: ExecutorSettings, place: SchedulerAddress, bundles: Path
) -> AsyncIterator[OpenCluster]:
    keys = RunKeys(*(Path(name).read_text(encoding="ascii") for name in (place.certificate, place.key)))
    depot = SharedFolder(place.exchange)
    await depot.prepare()
    security = keys.security(Path(place.ca).read_text(encoding="ascii"))
    async with _client(place.address, security) as client, followed(client, settings) as fleet:
        fleet.awaits_workers_s = JOIN_S
        yield OpenCluster(client, fleet, depot, bundles)


@asynccontextmanager
async def _client(address: str, security: Security) -> AsyncIterator[Client]:
    """Connect to a scheduler. Raises HostError without an answer."""
    try:
        client = await Client(address, security=security, asynchronous=True, set_as_default=False, name="bootmatrix")
    except (OSError, TimeoutError) as error:
        raise HostError(f"cannot connect to the scheduler {address}: {error}") from error
    try:
        yield client
    finally:
        with anyio.move_on_after(END_S, shield=True):
            await client.close(timeout=END_S)


@asynccontextmanager
async def run_scheduler(folder: Path) -> AsyncIterator[tuple[Client, str, RunKeys]]:
    """Run a scheduler here, on loopback, with its own key, and a client.

    Dask makes files in `folder`.
    """
    keys = make_run_keys()
    security = keys.security()
    with dask.config.set({"temporary-directory": str(folder)}):
        scheduler = QuietScheduler(host=LOOPBACK, port=0, protocol="tls", security=security)
    await scheduler
    try:
        async with _client(scheduler.address, security) as client:
            yield client, scheduler.address, keys
    finally:
        with anyio.move_on_after(END_S, shield=True):
            await scheduler.close(reason="bootmatrix-end")


@asynccontextmanager
async def followed(client: Client, settings: ExecutorSettings) -> AsyncIterator[Fleet]:
    """Follow the workers of a scheduler within the context."""
    fleet = Fleet(client, settings.observer.note)
    following = asyncio.create_task(fleet.follow())
    try:
        yield fleet
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
