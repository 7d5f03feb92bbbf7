"""Cells as jobs of a real Slurm: none at first, one when there are cells, none at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bootmatrix.execute.dask.preload import VARIABLE
from bootmatrix.execute.dask.security import make_run_keys
from bootmatrix.execute.dask.slurm import SlurmJobs, slurm_jobs
from bootmatrix.model import Verdict
from bootmatrix.model.cluster import Slurm
from bootmatrix.runs.run_store import load_run
from slurm_cluster import jobs, slurm_cluster

pytestmark = [
    pytest.mark.boots,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("slurmctld"), reason="needs root, and Slurm"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def workers(shared: Path) -> list[int]:
    """Workers whose settings are in a folder, and what they started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{VARIABLE}={shared}/".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def wait_gone(slurm: dict[str, str], shared: Path, limit_s: float = 15) -> None:
    end = time.monotonic() + limit_s
    while (jobs(slurm) or workers(shared)) and time.monotonic() < end:
        time.sleep(0.2)
    assert jobs(slurm) == []
    assert workers(shared) == []


def test_cells_run_in_jobs_and_no_job_is_left(tmp_path: Path, slurm: dict[str, str]) -> None:
    assert jobs(slurm) == []
    shared = tmp_path / "shared"
    shared.mkdir()
    cluster = tmp_path / "slurm.yml"
    cluster.write_text(f"slurm: {{exchange: {shared}, cores: 1, memory_mib: 2000, jobs: 2, partition: all}}\n")
    command = [sys.executable, "-m", "bootmatrix.cli.main", "matrix", "hello", "--arch", "x86_64"]
    more = ["--reports", str(tmp_path / "reports"), "--executor", "dask", "--cluster", str(cluster)]
    done = subprocess.run([*command, *more], env=slurm, capture_output=True, text=True, timeout=200, check=False)
    files = Path(slurm["SLURM_CONF"]).parent.glob("*.log")
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in files)
    assert done.returncode == 0, done.stdout + done.stderr + logs
    run = load_run(tmp_path / "reports" / "latest")
    assert [record.verdict for record in run.records] == [Verdict.PASS]
    assert run.records[0].host == os.uname().nodename
    wait_gone(slurm, shared)
    assert list(shared.iterdir()) == []


def script_of(pid: int) -> int:
    """The process that Slurm started, of which one of its job comes."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid if Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd") else script_of(parent)


async def _kill_the_script_of_a_starting_worker(folder: Path) -> set[int]:
    """Kill a job's first process; the processes of the job that are left after some time."""
    options = Slurm(exchange=str(folder), cores=1, memory_mib=1000, jobs=1, partition="all")
    async with (
        asyncio.timeout(90),
        slurm_jobs(SlurmJobs(options, make_run_keys(), folder, str(folder), folder), lambda: 1),
    ):
        while not any(b"distributed" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers(folder)):
            await asyncio.sleep(0.02)
        job = workers(folder)
        os.kill(script_of(job[0]), signal.SIGKILL)
        await asyncio.sleep(2)
        return {*job} & {*workers(folder)}


def test_a_worker_ends_with_its_script(tmp_path: Path, slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm kills the script first, and no longer finds its children: they are none of its descendants."""
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    assert asyncio.run(_kill_the_script_of_a_starting_worker(tmp_path)) == set()
    wait_gone(slurm, tmp_path)
