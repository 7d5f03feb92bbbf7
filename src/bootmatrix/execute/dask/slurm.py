"""Workers as Slurm's jobs by dask-jobqueue: none until cells wait."""

import math
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import dask
from dask_jobqueue.slurm import SLURMCluster
from distributed.deploy.adaptive import Adaptive

from bootmatrix.errors import HostError
from bootmatrix.execute.dask.preload import VARIABLE
from bootmatrix.execute.dask.security import LOOPBACK, RunKeys
from bootmatrix.model.cluster import Slurm
from bootmatrix.model.remote import SharedWorkerSettings

PRELOAD = "bootmatrix.execute.dask.preload"
INTERVAL = "1s"
IDLE_CHECKS = 10
"""Checks in which a worker must be idle before its job ends."""
SLOTS_PER_CORE, SPARE_SLOTS = 2, 2
END_S = 20.0
SETTINGS_FILE = "worker.json"
KEYS_FOLDER = "keys"


def demand_class(demand: Callable[[], int], slots: int) -> type[Adaptive]:
    """Return an Adaptive that wants a worker for every `slots` cells."""

    class Demand(Adaptive):
        """Scales by the cells that have no record yet."""

        async def target(self) -> int:
            """Return the number of workers that the cells need, within the limits."""
            jobs = math.ceil(demand() / slots)
            return int(max(self.minimum, min(self.maximum, jobs)))

    return Demand


@dataclass(frozen=True)
class SlurmJobs:
    """Settings of jobs; `folder` and `exchange` are shared with the nodes."""

    slurm: Slurm
    keys: RunKeys
    folder: Path
    exchange: str
    cache: Path

    @property
    def slots(self) -> int:
        """Return the number of cells that are with a worker at a time."""
        return SLOTS_PER_CORE * self.slurm.cores + SPARE_SLOTS

    def write(self) -> None:
        """Write the files that the nodes read."""
        settings = SharedWorkerSettings(
            cache=str(self.cache), exchange=self.exchange, cores=self.slurm.cores, slots=self.slots
        )
        (self.folder / SETTINGS_FILE).write_text(settings.model_dump_json())
        (self.folder / KEYS_FOLDER).mkdir(mode=0o700)

    def options(self) -> dict[str, Any]:
        """Return dask-jobqueue's options."""
        slurm, address = self.slurm, {} if self.slurm.interface else {"host": LOOPBACK}
        return {
            "queue": slurm.partition,
            "account": slurm.account,
            "cores": slurm.cores,
            "processes": 1,
            "memory": f"{slurm.memory_mib}MiB",
            "walltime": slurm.walltime,
            "job_extra_directives": list(slurm.directives),
            "job_script_prologue": [
                *slurm.script,
                "export PYTHONSAFEPATH=1",  # no module of the folder that the run was started in
                f"export {VARIABLE}={shlex.quote(str(self.folder / SETTINGS_FILE))}",
            ],
            "worker_extra_args": [
                *("--nthreads", str(self.slots), "--preload", PRELOAD, "--no-dashboard"),
                *("--dashboard-address", f"{LOOPBACK}:0", "--memory-limit", "0"),
                *(() if slurm.interface else ("--host", LOOPBACK)),
            ],
            # Instead of the job's shell: a worker whose shell is killed first is no longer found by Slurm.
            "python": f"exec {slurm.python or sys.executable}",
            "nanny": False,
            "local_directory": str(self.folder),
            "death_timeout": 60,
            "security": self.keys.security(),
            "protocol": "tls",
            "shared_temp_directory": str(self.folder / KEYS_FOLDER),
            "log_directory": str(self.folder),
            "interface": slurm.interface,
            "scheduler_options": {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0", **address},
        }


@asynccontextmanager
async def slurm_jobs(jobs: SlurmJobs, demand: Callable[[], int]) -> AsyncIterator[str]:
    """Run a scheduler with Slurm's jobs as workers; all are cancelled after.

    Raises HostError if Slurm's programs are missing.
    """
    if shutil.which("sbatch") is None:
        raise HostError("sbatch was not found in PATH", "Run bootmatrix on a host from which jobs are submitted.")
    jobs.write()
    with dask.config.set({"temporary-directory": str(jobs.folder)}):
        cluster: Any = SLURMCluster(**jobs.options(), asynchronous=True)
        await cluster
    try:
        cluster.adapt(
            demand_class(demand, jobs.slots),
            minimum_jobs=0,
            maximum_jobs=jobs.slurm.jobs,
            interval=INTERVAL,
            wait_count=IDLE_CHECKS,
        )
        yield cluster.scheduler_address
    finally:
        with anyio.move_on_after(END_S, shield=True), suppress(Exception):
            await cluster.close()
