"""Cells on hosts by SSH: real sshd in namespaces, real workers, real QEMU, and faults of all of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

import bootmatrix
from boot_sector import MACHINE, write_guest
from bootmatrix.assembly.build_context import fetch_kernel
from bootmatrix.cell.context import open_context
from bootmatrix.model import Run, Verdict
from bootmatrix.progress import NullObserver
from bootmatrix.runs.run_store import load_run
from ssh_hosts import PYTHON, QEMU, SshHost, make_key, ssh_hosts, write_hosts

pytestmark = [
    pytest.mark.boots,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces with sshd need root"),
]

COMMAND = [sys.executable, "-m", "bootmatrix.cli.main"]
GUESTS = {"quick": 0.0, "one": 6.0, "two": 6.0, "three": 6.0, "four": 6.0, "five": 6.0}
"""Guests of one sector, with the seconds that they take."""
GONE_S = 15.0
"""Limit within which nothing of a run is left on a host, and a silent cut is noticed."""


class Desk:
    """A folder with guests and hosts, and bootmatrix in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        for name, seconds in GUESTS.items():
            write_guest(folder, name, seconds)
        write_guest(folder, "large", 0, size_bytes=2 << 20)

    def start(self, *specs: str, cluster: Path, reports: str = "reports") -> subprocess.Popen[str]:
        """Begin a run of guests, or resume the last run."""
        guests = [f"{name}.guest.yml" for name in specs]
        what = [*guests, "--arch", MACHINE] if specs else ["--resume", str(self.folder / reports / "latest")]
        where = ["--reports", reports, "--executor", "dask", "--cluster", str(cluster)]
        process = subprocess.Popen(
            [*COMMAND, "matrix", *what, *where],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def end(self, process: subprocess.Popen[str], reports: str = "reports") -> tuple[str, Run]:
        """Wait for a run's end; return its output and records."""
        try:
            output, _ = process.communicate(timeout=240)
        finally:
            process.kill()
        return output, load_run(self.folder / reports / "latest")

    def run(self, *specs: str, cluster: Path) -> tuple[str, Run]:
        """Run guests to the end."""
        return self.end(self.start(*specs, cluster=cluster))


@dataclass(frozen=True)
class Checked:
    """The output and the exit status of `hosts check`, with a host that can be used and three that cannot.

    `has_fetched`: the former took the kernel's packages from its own archive.
    """

    output: str
    status: int
    has_fetched: bool


def _kernel_packages() -> dict[str, Path]:
    """The files of the kernel that `hosts check` boots, by their names in the archive."""
    planned = bootmatrix.Workspace().plan("hello", arch=["x86_64"], kernel=["6.1"])
    with open_context(planned.config, NullObserver()) as context:
        kernel = fetch_kernel(planned.cells[0], context)
        assert kernel
        return {package.filename: context.builder.archive.fetch(package) for package in kernel.packages}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SshHost]]:
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), 3) as made:
        yield made


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory, hosts: list[SshHost]) -> Checked:
    """Check the first host, which gets the tool by that; then give the others a copy of it."""
    folder = tmp_path_factory.mktemp("check")
    usable, other = hosts[:2]
    files, kernel = folder / "archive", _kernel_packages()
    for name, blob in kernel.items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).symlink_to(blob)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nBOOTMATRIX_ARCHIVE=http://{usable.network}.1:8000 exec {PYTHON} "$@"\n')
    python.chmod(0o755)
    stranger, impostor = make_key(folder / "stranger"), folder / "impostor"
    words = make_key(folder / "other").with_suffix(".pub").read_text().split()
    impostor.write_text(f"{other.address} {words[0]} {words[1]}\n")
    unseen = folder / "unseen"
    unseen.touch()
    path = write_hosts(folder / "hosts.yml", [usable], fetch="archive", python=str(python))
    bad = (
        other.entry(name="wrong-key", key=str(stranger)),
        other.entry(name="impostor", known_hosts=str(impostor)),
        other.entry(name="unseen", known_hosts=str(unseen)),
        other.entry(name="nowhere", address=f"{other.network}.9"),
    )
    path.write_text(path.read_text() + "".join(bad))
    wide = {**os.environ, "COLUMNS": "200"}
    command = [*COMMAND, "hosts", "check", str(path)]
    words = ["-m", "http.server", "8000", "--bind", f"{usable.network}.1", "--directory", str(files)]
    with (folder / "archive.log").open("wb") as log:
        serve = ["setpriv", "--pdeathsig", "KILL", sys.executable, *words]
        with subprocess.Popen(serve, stdout=log, stderr=log) as server:
            done = subprocess.run(command, env=wide, capture_output=True, text=True, check=False)
            server.kill()
    fetched = [name for name in kernel if f"GET /{quote(name)} " in (folder / "archive.log").read_text()]
    assert usable.cache.joinpath("tool").is_dir(), done.stdout + done.stderr
    for host in hosts[1:]:
        shutil.copytree(usable.cache / "tool", host.cache / "tool", copy_function=os.link)
    return Checked(done.stdout + done.stderr, done.returncode, fetched == list(kernel))


@pytest.fixture
def desk(tmp_path: Path, hosts: list[SshHost], checked: Checked) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
    for host in hosts:
        host.mend()
        assert host.wait_gone() == {}, f"left on {host.name}"
        folder = host.cache / "workers"
        assert not folder.exists() or list(folder.iterdir()) == [], f"files of a run on {host.name}"


def until(condition: Callable[[], object], limit_s: float = 90) -> float:
    """Wait for something; the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit_s
        time.sleep(0.05)
    return time.monotonic() - start


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def verdicts(run: Run) -> list[Verdict]:
    """The verdicts of a run in which no cell has two records."""
    counts = Counter(record.cell.id for record in run.records)
    assert set(counts.values()) <= {1}
    return [record.verdict for record in run.records]


def test_hosts_are_checked_by_a_guest_and_bad_ones_are_told_apart(checked: Checked) -> None:
    rows = {line.split()[1]: line for line in checked.output.splitlines() if line.startswith(("ok", "fault"))}
    assert rows["a"].startswith("ok"), checked.output
    assert "x86_64 pass in" in rows["a"]
    assert "  right  " in rows["a"], "its clock"
    assert [name for name, row in rows.items() if row.startswith("fault")] == [
        *("wrong-key", "impostor", "unseen", "nowhere"),
    ]
    faults = dict(line.split(": ", 1) for line in checked.output.splitlines() if ": " in line)
    assert "permission denied for root" in faults["wrong-key"]
    assert "its host key is not the known one" in faults["impostor"]
    assert "its host key is not known yet" in faults["unseen"]
    assert "cannot connect" in faults["nowhere"]
    assert checked.status == 3
    assert checked.has_fetched


def test_killed_workers_and_guests_cost_no_record(desk: Desk, hosts: list[SshHost]) -> None:
    first, second = hosts[:2]
    cluster = write_hosts(desk.folder / "hosts.yml", [first, second], slots=1)
    process = desk.start("one", "two", "three", "four", "five", cluster=cluster)
    until(lambda: first.guests() and second.guests())
    kill(first.workers())
    kill(second.guests())
    until(lambda: not first.guests(), GONE_S)
    output, run = desk.end(process)
    assert verdicts(run) == [Verdict.PASS] * 5, output
    lost = [attempt.judgement.reason for record in run.records for attempt in record.attempt_records[:-1]]
    assert any("a: the host, or the way to it, was lost" in reason for reason in lost), lost
    assert len(lost) >= 2, lost


@pytest.mark.long
def test_a_silent_cut_is_noticed_and_a_mended_host_comes_back(desk: Desk, hosts: list[SshHost]) -> None:
    host = hosts[2]
    process = desk.start("one", cluster=write_hosts(desk.folder / "hosts.yml", [host]))
    until(host.guests)
    host.cut()
    assert until(lambda: not host.workers(), GONE_S) < GONE_S, "the host stops its guests without the client"
    assert not host.guests()
    host.mend()
    output, run = desk.end(process)
    assert verdicts(run) == [Verdict.PASS], output
    judgements = [attempt.judgement for attempt in run.records[0].attempt_records]
    assert [judgement.verdict for judgement in judgements] == [Verdict.INFRA_ERROR, Verdict.PASS], judgements


@pytest.mark.long
def test_a_host_behind_another_and_a_folder_for_files(desk: Desk, hosts: list[SshHost]) -> None:
    """A jump host, a folder that both reach, a wrong key beside; nothing listens but on loopback."""
    gate, behind = hosts[:2]
    address = gate.reach(behind)
    words = (behind.folder / "host_key.pub").read_text().split()
    known = desk.folder / "known"
    known.write_text(f"{address} {words[0]} {words[1]}\n")
    jump = f"{{address: {gate.address}, user: root, key: {gate.key}, known_hosts: {gate.known_hosts}}}"
    entry = behind.entry(address=address, known_hosts=str(known), fetch=str(desk.folder / "files"))
    stranger = gate.entry(name="stranger", key=str(make_key(desk.folder / "stranger")))
    cluster = desk.folder / "hosts.yml"
    cluster.write_text(f"hosts:\n{entry.rstrip()[:-1]}, jump: [{jump}]}}\n{stranger}")
    process = desk.start("one", cluster=cluster)
    until(behind.guests)
    own = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    listeners = [line.split()[3] for line in own if f"pid={process.pid}," in line]
    assert listeners and gate.listeners() == [] and behind.listeners()
    assert {each.rpartition(":")[0] for each in [*listeners, *behind.listeners()]} <= {"127.0.0.1", "[::1]"}
    output, run = desk.end(process)
    assert verdicts(run) == [Verdict.PASS], output
    assert "host stranger: " in output and "permission denied for root" in output
    assert run.records[0].host == behind.name
    page = (desk.folder / "reports/latest/report.html").read_text()
    assert "Cells on b" in page and "1 pass" in page
    assert list((desk.folder / "files").rglob("*.tar")) == [], "bundles are taken away"


@pytest.mark.long
def test_a_killed_client_and_ctrl_c_leave_nothing_and_are_resumed(desk: Desk, hosts: list[SshHost]) -> None:
    cluster = write_hosts(desk.folder / "hosts.yml", hosts[:1])
    process = desk.start("one", "two", cluster=cluster)
    until(hosts[0].guests)
    process.kill()
    assert hosts[0].wait_gone(GONE_S) == {}
    process = desk.start(cluster=cluster)
    until(hosts[0].guests)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert hosts[0].wait_gone(GONE_S) == {}
    output, run = desk.end(desk.start(cluster=cluster))
    assert verdicts(run) == [Verdict.PASS] * 2, output


@pytest.mark.long
def test_two_clients_use_one_host(desk: Desk, hosts: list[SshHost]) -> None:
    """Its Python has this bootmatrix, which is not sent then."""
    cache = desk.folder / "there"
    cluster = write_hosts(desk.folder / "hosts.yml", hosts[:1], python=sys.executable, cache=str(cache))
    processes = {name: desk.start("quick", "one", cluster=cluster, reports=name) for name in ("left", "right")}
    for name, process in processes.items():
        output, run = desk.end(process, name)
        assert verdicts(run) == [Verdict.PASS] * 2, output
    assert (cache / "blobs").is_dir() and not (cache / "tool").exists()


@pytest.mark.long
def test_a_full_disk_and_a_wrong_clock_blame_no_guest(desk: Desk, hosts: list[SshHost]) -> None:
    full, late = hosts[:2]
    full.shell(f"mkdir -p {full.cache}/workers; mount -t tmpfs -o size=256k tmpfs {full.cache}/workers")
    python = desk.folder / "late-python"
    python.write_text(f'#!/bin/sh\nexec faketime -f -3600s {PYTHON} "$@"\n')
    python.chmod(0o755)
    cluster = desk.folder / "hosts.yml"
    try:
        cluster.write_text("hosts:\n" + full.entry() + late.entry(python=str(python)))
        output, run = desk.run("one", "two", "three", cluster=cluster)
        alone_output, alone = desk.run("large", cluster=write_hosts(cluster, [full]))
    finally:
        full.shell(f"umount {full.cache}/workers")
    assert verdicts(run) == [Verdict.PASS] * 3, output
    assert {record.host for record in run.records} == {"b"}
    assert "its clock is -3600 s off" in output
    started = [record.started_at for record in run.records]
    assert max(started) < "2100", started
    assert verdicts(alone) == [Verdict.INFRA_ERROR], alone_output
    assert "cannot write 2 MiB there" in alone.records[0].judgement.reason


def test_another_version_and_a_host_without_qemu_are_refused_at_once(desk: Desk, hosts: list[SshHost]) -> None:
    host = hosts[0]
    other = desk.folder / "other-version"
    tool = next(path for path in (host.cache / "tool").iterdir() if path.is_dir())
    shutil.copytree(tool, other, copy_function=os.link)
    file = other / "bootmatrix" / "__init__.py"
    text = file.read_text()
    file.unlink()  # a link: the host's own stays
    file.write_text(f'{text}\n__version__ = "9.9"\n')
    python = desk.folder / "other-python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={other} exec {PYTHON} "$@"\n')
    python.chmod(0o755)
    cluster = write_hosts(desk.folder / "hosts.yml", [host], python=str(python))
    output, run = desk.run("quick", cluster=cluster)
    assert verdicts(run) == [Verdict.INFRA_ERROR], output
    assert "runs bootmatrix 9.9" in run.records[0].judgement.reason
    assert run.records[0].attempts == 1, "it is not tried again"
    words = [*COMMAND, "hosts", "check", str(cluster)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=80, check=False)
    assert (done.returncode, "a: runs bootmatrix 9.9" in done.stdout) == (3, True), done.stdout + done.stderr
    python.write_text(f'#!/bin/sh\nPATH=/nowhere exec {PYTHON} "$@"\n')
    output, run = desk.run("quick", cluster=cluster)
    assert verdicts(run) == [Verdict.INFRA_ERROR], output
    assert run.records[0].judgement.reason == f"no host can run it: a: {QEMU} is not installed"
