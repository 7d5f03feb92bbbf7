"""Cells on hosts by SSH: real sshd in network namespaces, real workers, real guests, and faults of all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.model import Run, Verdict
from bootmatrix.runs.run_store import load_run
from ssh_hosts import SshHost, ssh_hosts, write_hosts

pytestmark = [
    pytest.mark.boots,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces with sshd need root"),
]

COMMAND = [sys.executable, "-m", "bootmatrix.cli.main"]
SPEC = """\
init: ["@pkg:./images/init", "@pkg:./images/crun"]
onboot:
  - {name: sleep, image: "@pkg:./images/busybox", command: [/bin/sh, -c, "sleep SECONDS"]}
"""
GONE_S = 15.0


class Desk:
    """A folder with specs and hosts, and bootmatrix in it."""

    def __init__(self, folder: Path, hosts: list[SshHost]) -> None:
        self.folder, self.hosts = folder, hosts
        self.reports = folder / "reports"
        self.processes: list[subprocess.Popen[str]] = []
        (folder / "images").symlink_to(CHECKOUT / "specs" / "images")
        for name, seconds in (("quick", 0), ("slow", 6), ("long", 60)):
            (folder / f"{name}.yml").write_text(SPEC.replace("SECONDS", str(seconds)))

    def start(self, *specs: str, cluster: Path, more: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Begin a run of specs on one architecture."""
        arguments = ["--resume", str(self.latest)] if not specs else [f"{name}.yml" for name in specs]
        machine = ["--arch", "x86_64", "--reports", str(self.reports)] if specs else []
        process = subprocess.Popen(
            [*COMMAND, "matrix", *arguments, *machine, "--executor", "dask", "--cluster", str(cluster), *more],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    @property
    def latest(self) -> Path:
        return self.reports / "latest"

    def cluster(self, *hosts: SshHost, **more: object) -> Path:
        return write_hosts(self.folder / "hosts.yml", list(hosts), **more)

    def end(self, process: subprocess.Popen[str], limit_s: float = 200) -> tuple[str, Run]:
        """Wait for a run's end."""
        try:
            output, _ = process.communicate(timeout=limit_s)
        finally:
            process.kill()
        return output, load_run(self.latest)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SshHost]]:
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), 2) as made:
        yield made


@pytest.fixture
def desk(tmp_path: Path, hosts: list[SshHost]) -> Iterator[Desk]:
    made = Desk(tmp_path, hosts)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
    for host in hosts:
        host.mend()
        assert host.wait_gone() == {}, f"left on {host.name}"


def until(condition: Callable[[], object], limit_s: float = 150) -> float:
    """Wait for something; the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit_s
        time.sleep(0.05)
    return time.monotonic() - start


def guests(host: SshHost) -> list[int]:
    """QEMUs on a host that boot a guest."""
    return [
        pid
        for pid, text in host.commands().items()
        if "qemu-system" in text and "-initrd" in text and "setpriv" not in text
    ]


def busy(desk: Desk) -> SshHost | None:
    return next((host for host in desk.hosts if guests(host)), None)


def test_a_silent_cut_is_noticed_and_a_mended_host_comes_back(desk: Desk, hosts: list[SshHost]) -> None:
    process = desk.start("slow", cluster=desk.cluster(hosts[0]))
    until(lambda: guests(hosts[0]))
    hosts[0].cut()
    assert until(lambda: not guests(hosts[0]), GONE_S) < GONE_S, "the host stops its guests without the client"
    hosts[0].mend()
    output, done = desk.end(process)
    assert [record.verdict for record in done.records] == [Verdict.PASS], output
    assert [attempt.judgement.verdict for attempt in done.records[0].attempt_records] == [
        Verdict.INFRA_ERROR,
        Verdict.PASS,
    ]
