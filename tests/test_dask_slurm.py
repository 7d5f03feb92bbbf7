"""Cells as jobs of a real Slurm: none at first, one when there are cells, none at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootmatrix.model import Verdict
from bootmatrix.runs.run_store import load_run
from slurm_cluster import jobs, slurm_cluster

pytestmark = [
    pytest.mark.boots,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("slurmctld"), reason="needs root, and Slurm"),
]


def test_cells_run_in_jobs_and_no_job_is_left(tmp_path: Path) -> None:
    with slurm_cluster(tmp_path / "slurm") as environment:
        assert jobs(environment) == []
        shared = tmp_path / "shared"
        shared.mkdir()
        cluster = tmp_path / "slurm.yml"
        cluster.write_text(f"slurm: {{exchange: {shared}, cores: 1, memory_mib: 2000, jobs: 2, partition: all}}\n")
        command = [sys.executable, "-m", "bootmatrix.cli.main", "matrix", "hello", "--arch", "x86_64"]
        more = ["--reports", str(tmp_path / "reports"), "--executor", "dask", "--cluster", str(cluster)]
        done = subprocess.run(
            [*command, *more], env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in (tmp_path / "slurm").glob("*.log"))
        assert done.returncode == 0, done.stdout + done.stderr + logs
        run = load_run(tmp_path / "reports" / "latest")
        assert [record.verdict for record in run.records] == [Verdict.PASS]
        assert run.records[0].host == os.uname().nodename
        end = time.monotonic() + 15
        while jobs(environment) and time.monotonic() < end:
            time.sleep(0.2)
        assert jobs(environment) == []
        assert list(shared.iterdir()) == []
