"""Cells on hosts by SSH: real sshd in network namespaces, real workers, real guests, and faults of all of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.model import Run, Verdict
from bootmatrix.runs.run_store import load_run
from ssh_hosts import PYTHON, SshHost, make_key, run, ssh_hosts, write_hosts

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


def test_cells_run_on_a_bare_host_and_nothing_is_left(desk: Desk, hosts: list[SshHost]) -> None:
    output, done = desk.end(desk.start("quick", cluster=desk.cluster(*hosts)))
    assert [record.verdict for record in done.records] == [Verdict.PASS], output
    record = done.records[0]
    assert record.host in {"a", "b"}
    assert record.bootable and record.bootable.kernel and Path(record.bootable.kernel.path).is_file()
    assert str(hosts[0].folder) not in " ".join(record.command), "the command names files of this host"
    for host in hosts:
        assert host.wait_gone(GONE_S) == {}
        assert list((host.cache / "workers").iterdir()) == []


def test_a_killed_worker_and_a_killed_guest_cost_no_record(desk: Desk, hosts: list[SshHost]) -> None:
    process = desk.start("slow", cluster=desk.cluster(*hosts))
    until(lambda: busy(desk))
    first = busy(desk)
    assert first
    for pid in first.workers():
        os.kill(pid, signal.SIGKILL)
    second = next(host for host in hosts if host is not first)
    until(lambda: guests(first) == [])
    until(lambda: guests(second))
    os.kill(guests(second)[0], signal.SIGKILL)
    output, done = desk.end(process)
    assert [record.verdict for record in done.records] == [Verdict.PASS], output
    record = done.records[0]
    kept = [attempt.judgement for attempt in record.attempt_records]
    assert record.attempts == len(kept) >= 2, kept
    assert f"{first.name}: the host, or the way to it, was lost" in kept[0].reason
    assert all(judgement.verdict is Verdict.INFRA_ERROR for judgement in kept[:-1])


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


def test_ctrl_c_stops_guests_and_a_killed_client_can_be_resumed(desk: Desk, hosts: list[SshHost]) -> None:
    cluster = desk.cluster(hosts[0])
    process = desk.start("quick", "long", cluster=cluster)
    until(lambda: guests(hosts[0]))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert hosts[0].wait_gone(GONE_S) == {}
    (desk.folder / "long.yml").write_text(SPEC.replace("SECONDS", "1"))
    shutil.rmtree(desk.reports)
    process = desk.start("quick", "slow", cluster=cluster)
    until(lambda: list(desk.latest.glob("cells/quick/*/*/*/record.json")))
    until(lambda: guests(hosts[0]))
    process.kill()
    process.communicate()
    before = load_run(desk.latest)
    resumed = desk.start(cluster=cluster)
    output, done = desk.end(resumed)
    assert {record.cell.spec_name for record in done.records} == {"quick", "slow"}, output
    assert len(done.records) == 2
    kept = next(record for record in done.records if record.cell.spec_name == "quick")
    assert kept == before.records[0], "what had a record was not run again"


def test_two_runs_share_a_host(desk: Desk, hosts: list[SshHost]) -> None:
    cluster = desk.cluster(hosts[0])
    one = desk.start("quick", cluster=cluster, more=("--jobs", "1"))
    other = desk.start("slow", cluster=cluster)
    outputs = [process.communicate(timeout=120)[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], outputs


def test_a_host_whose_clock_is_wrong_is_used_and_corrected(desk: Desk, hosts: list[SshHost]) -> None:
    python = desk.folder / "yesterday"
    python.write_text(f'#!/bin/sh\nexec faketime -f -1d {PYTHON} "$@"\n')
    python.chmod(0o755)
    started = time.time()
    output, done = desk.end(desk.start("quick", cluster=desk.cluster(hosts[0], python=str(python))))
    assert [record.verdict for record in done.records] == [Verdict.PASS], output
    assert "its clock is -86400 s off" in output or "its clock is -86399 s off" in output
    from datetime import datetime

    assert abs(datetime.fromisoformat(done.records[0].started_at).timestamp() - started) < 120


def test_a_full_disk_there_is_said(desk: Desk, hosts: list[SshHost]) -> None:
    small = desk.folder / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small)
    try:
        output, done = desk.end(desk.start("quick", cluster=desk.cluster(hosts[0], cache=str(small))))
    finally:
        run("umount", "-l", small)
    assert [record.verdict for record in done.records] == [Verdict.INFRA_ERROR], output
    assert "cannot send the tool" in done.records[0].judgement.reason


def test_keys_that_do_not_fit_are_refused_in_words(desk: Desk, hosts: list[SshHost]) -> None:
    wrong = make_key(desk.folder / "wrong")
    output, done = desk.end(desk.start("quick", cluster=desk.cluster(hosts[0], key=str(wrong))))
    assert done.records[0].verdict is Verdict.INFRA_ERROR, output
    assert "permission denied for root" in done.records[0].judgement.reason
    other = make_key(desk.folder / "other").with_suffix(".pub").read_text().split()
    known = desk.folder / "known"
    known.write_text(f"{hosts[0].address} {other[0]} {other[1]}\n")
    output, done = desk.end(desk.start("quick", cluster=desk.cluster(hosts[0], known_hosts=str(known))))
    assert "its host key is not the known one" in done.records[0].judgement.reason, output
