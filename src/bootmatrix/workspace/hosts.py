"""Check of the hosts of a cluster, with a guest of each host's own architecture."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from bootmatrix import plugins
from bootmatrix.errors import InputError
from bootmatrix.execute.executor import ExecutorSettings
from bootmatrix.load.cluster import load_cluster
from bootmatrix.model import Cell
from bootmatrix.model.run_config import CellRequest, request_of
from bootmatrix.progress import Observer
from bootmatrix.store import temporary_folder
from bootmatrix.workspace.planned_run import PlannedRun
from bootmatrix.workspace.selection import Selection
from bootmatrix.workspace.workspace import Workspace

if TYPE_CHECKING:
    from bootmatrix.execute.dask.hosts.check import HostReport
    from bootmatrix.model.remote import Offer

SPEC, KERNEL = "hello", "6.1"


def check_cluster(workspace: Workspace, cluster: Path, observer: Observer) -> list[HostReport]:
    """Check a file's hosts. Blocking. Raises InputError if it is invalid."""
    plugins.load("executors", "dask")  # says what to install if its packages are missing
    from bootmatrix.execute.dask.hosts.check import check_boards, check_hosts

    machines = load_cluster(str(cluster))
    if not machines.hosts:
        raise InputError(f"{cluster}: it names no hosts to check", "Give a file with 'hosts:'.")
    planned = workspace.plan(
        SPEC, selection=Selection(arch=("all",), kernel=(KERNEL,), needs_qemu=False, allow_empty=True)
    )

    def choose(offer: Offer) -> CellRequest | None:
        return _choose(planned, offer)

    with temporary_folder() as folder:

        def folder_of(_cell: Cell) -> Path:
            return Path(tempfile.mkdtemp(dir=folder))  # all hosts boot the same cell

        settings = ExecutorSettings(planned.config, observer, folder_of, cluster=str(cluster))
        reports = anyio.run(check_hosts, settings, choose) if machines.workers else []
        return [*reports, *anyio.run(check_boards, machines.boards)]


def _choose(planned: PlannedRun, offer: Offer) -> CellRequest | None:
    """Return the host's native cell, else the first that it can boot."""
    config = planned.config

    def distance(cell: Cell) -> tuple[bool, int]:
        """Order by instruction set, then width, as profiles may be of 32 bits."""
        profile = config.profiles[cell.arch]
        return profile.names.uname != offer.system.partition("/")[2], -profile.bits

    cells = [cell for cell in planned.cells if config.machine(cell).qemu in offer.qemu]
    ordered = sorted(cells, key=distance)
    return request_of(ordered[0], config.machine(ordered[0])) if ordered else None
