"""A scheduler that others run: whole runs by it, and its loss in the middle of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boot_sector import MACHINE, write_guest
from bootmatrix.execute.dask.preload import VARIABLE
from bootmatrix.execute.dask.security import make_run_keys
from bootmatrix.model import Run, Verdict
from bootmatrix.runs.run_store import load_run
from free_ports import free_port

pytestmark = [pytest.mark.boots, pytest.mark.long]

COMMAND = [sys.executable, "-m", "bootmatrix.cli.main", "matrix"]
RECORDS = "cells/*/*/*/*/record.json"
LEASH = ["setpriv", "--pdeathsig", "KILL"]
CELLS = 4


class OwnCluster:
    """A scheduler and a worker, as a person would start them, with a folder that both share."""

    def __init__(self, folder: Path) -> None:
        self.folder, keys = folder, make_run_keys()
        for name, text in (("certificate", keys.certificate), ("key", keys.key)):
            (folder / f"{name}.pem").write_text(text)
        settings = {"exchange": f"{folder}/exchange", "cache": f"{folder}/cache", "host": "desk", "cores": 1}
        (folder / "worker.json").write_text(json.dumps(settings))
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> Path:
        """Start both; return the cluster's file."""
        self.address = address = f"tls://127.0.0.1:{free_port()}"
        files = {"ca": "certificate", "certificate": "certificate", "key": "key", "exchange": "exchange"}
        lines = "".join(
            f", {name}: {self.folder / (file + '.pem' * (name != 'exchange'))}" for name, file in files.items()
        )
        cluster = self.folder / "cluster.yml"
        cluster.write_text(f'scheduler: {{address: "{address}"{lines}}}\n')
        self._run("scheduler", "--host", address, "--no-dashboard")
        self._run("worker", address, "--preload", "bootmatrix.execute.dask.preload", "--no-nanny", "--no-dashboard")
        return cluster

    def _run(self, what: str, *arguments: str) -> None:
        pem = [f"--tls-ca-file={self.folder}/certificate.pem", f"--tls-cert={self.folder}/certificate.pem"]
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, *pem]
        with (self.folder / f"{what}.log").open("ab") as log:
            process = subprocess.Popen(
                [*LEASH, *command, f"--tls-key={self.folder}/key.pem"],
                env={"PATH": "/usr/bin:/bin", VARIABLE: f"{self.folder}/worker.json"},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)

    @property
    def dask_settings(self) -> dict[str, str]:
        """What a client needs besides the address, as variables of Dask's configuration."""
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        files = {"CA_FILE": "certificate", "CLIENT__CERT": "certificate", "CLIENT__KEY": "key"}
        paths = {f"{tls}{name}": f"{self.folder}/{file}.pem" for name, file in files.items()}
        return paths | {"DASK_BOOTMATRIX__EXCHANGE": f"{self.folder}/exchange"}

    def stop(self) -> None:
        """Kill the scheduler, and wait for the worker to leave by itself."""
        scheduler, worker = self.processes[-2:]
        scheduler.kill()
        scheduler.wait()
        worker.wait(20)

    def text(self) -> str:
        return "".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[OwnCluster]:
    made = OwnCluster(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def loaded(folder: Path) -> Run:
    run = load_run(folder / "reports" / "latest")
    names = [record.cell.id for record in run.records]
    assert len(names) == len(set(names)), "no record is doubled"
    return run


def test_a_run_whose_scheduler_is_killed_is_resumed(tmp_path: Path, cluster: OwnCluster) -> None:
    guests = [str(write_guest(tmp_path, f"guest{number}", 2)) for number in range(CELLS)]
    words = ["--reports", "reports", "--executor", "dask", "--cluster", str(cluster.start())]
    process = subprocess.Popen(
        [*COMMAND, *guests, "--arch", MACHINE, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 90
    while not list((tmp_path / "reports").glob(f"*/{RECORDS}")):
        assert time.monotonic() < deadline and process.poll() is None, cluster.text()
        time.sleep(0.05)
    cluster.stop()
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.returncode == 3, output
    assert "the cluster's scheduler was lost" in output
    assert f"--resume latest --executor dask --cluster {words[-1]}" in output
    before = loaded(tmp_path)
    assert 1 <= len(before.records) < CELLS
    assert before.interrupted
    cluster.start()
    words[-1] = cluster.address
    done = subprocess.run(
        [*COMMAND, "--resume", "reports/latest", *words],
        cwd=tmp_path,
        env={**os.environ, **cluster.dask_settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + cluster.text()
    after = loaded(tmp_path)
    assert [record.verdict for record in after.records] == [Verdict.PASS] * CELLS
    assert {record.host for record in after.records} == {"desk"}
    assert [record for record in after.records if record in before.records] == list(before.records)
