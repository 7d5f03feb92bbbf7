"""A check of hosts (a worker, clock, and guest of each) and boards."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import anyio

from bootmatrix.cell.context import open_context
from bootmatrix.cloud.board import BoardFacts, look_at_board
from bootmatrix.errors import InfraError
from bootmatrix.execute.dask.cluster import open_cluster
from bootmatrix.execute.dask.executor import DaskExecutor
from bootmatrix.execute.dask.fleet import START_S, Fleet
from bootmatrix.execute.executor import ExecutorSettings
from bootmatrix.model import Record
from bootmatrix.model.cluster import Host
from bootmatrix.model.remote import Offer
from bootmatrix.model.run_config import CellRequest
from bootmatrix.progress import NullObserver
from bootmatrix.store import temporary_folder

WAIT_S = 0.5


@dataclass(frozen=True)
class HostReport:
    """A host's result; `fault` is empty if usable, `record` its guest's.

    `board` has a board's facts.
    """

    name: str
    fault: str = ""
    hint: str = ""
    offer: Offer | None = None
    up_s: float = 0
    clock_offset_s: float = 0
    record: Record | None = None
    board: BoardFacts | None = None


async def check_hosts(settings: ExecutorSettings, choose: Callable[[Offer], CellRequest | None]) -> list[HostReport]:
    """Start a worker on each host, and boot the guest of `choose` there.

    Raises InputError if the cluster's file is invalid.
    """
    reports: list[HostReport] = []
    with (
        open_context(settings.config, settings.observer) as context,
        temporary_folder() as folder,
    ):
        began_s = time.monotonic()
        quiet = replace(settings, observer=NullObserver())  # a report has what a run notes of its hosts
        async with open_cluster(quiet, folder) as cluster, anyio.create_task_group() as tasks:
            executor = DaskExecutor(settings, context, cluster, tasks)
            up_s = await _wait(cluster.fleet, began_s)
            for name in up_s:
                request = choose(cluster.fleet.known[name])
                if request:
                    await executor.submit(replace(request, needs=replace(request.needs, host=name)))
            records = {bundle.record.host: bundle.record async for bundle in executor.results()}
            reports += [_report(name, cluster.fleet, up_s, records) for name in cluster.fleet.hosts]
    return reports


async def _wait(fleet: Fleet, began_s: float) -> dict[str, float]:
    """Wait until each host is up or failed; return the seconds of those up."""
    up_s: dict[str, float] = {}
    while time.monotonic() - began_s < START_S:
        for name in fleet.known:
            up_s.setdefault(name, time.monotonic() - began_s)
        if all(name in up_s or name in fleet.refused or host.state == "failed" for name, host in fleet.hosts.items()):
            break
        await fleet.wait(WAIT_S)
    return up_s


def _report(name: str, fleet: Fleet, up_s: dict[str, float], records: dict[str, Record]) -> HostReport:
    if name not in up_s:
        host = fleet.hosts[name]
        return HostReport(
            name, fleet.refused.get(name) or host.reason or f"no worker within {START_S:.0f} s", host.hint
        )
    return HostReport(name, "", "", fleet.known[name], up_s[name], fleet.offsets.get(name, 0.0), records.get(name))


async def check_boards(boards: Iterable[Host]) -> list[HostReport]:
    """Connect to boards, and look for what a run needs there."""
    return await asyncio.gather(*map(_check_board, boards))


async def _check_board(board: Host) -> HostReport:
    try:
        return HostReport(board.name, board=await look_at_board(board))
    except InfraError as error:
        return HostReport(board.name, error.message, error.hint)
