"""Real guests whose QEMU, or bootmatrix itself, is stopped and goes on: what their verdicts come to."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bootmatrix.model import Run
from bootmatrix.runs.run_store import load_run
from kills import LIMIT_S, Setting

Whom = Literal["bootmatrix", "qemu"]

HEAD = 'init: ["@pkg:./images/init", "@pkg:./images/crun"]\nservices:\n'
CHECK = '  - {{name: check, image: "@pkg:./images/busybox", command: [/bin/sh, -c, "{}"], annotations: {{{}}}}}\n'
SPECS = {
    "sound": HEAD + CHECK.format("sleep 2", "bootmatrix.check: 5s"),
    "fails": HEAD + CHECK.format("sleep 1; exit 3", "bootmatrix.check: 5s"),
}
ALLOWED = {"sound": {"pass", "infra-error"}, "fails": {"fail", "infra-error"}}
"""Verdicts that are right, by spec: a stop may cost the answer, and never give a wrong one."""
TIMEOUTS = "{boot: 30s, onboot: 10s, services: 10s, shutdown: 10s, silence: 12s}"


@dataclass(frozen=True)
class Stop:
    """Someone is stopped for `length_s`, after a QEMU was there and nobody was stopped for `pause_s`."""

    whom: Whom
    pause_s: float
    length_s: float


@dataclass
class Stopped:
    """The result of a run: stops that met their process, and verdicts by cell."""

    stops: int
    status: int
    output: str
    verdicts: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def random_stops(seed: str) -> Iterator[Stop]:
    """Endless stops: most are short, some longer than what a guest may be silent."""
    chance = random.Random(seed)
    while True:
        longest_s = chance.choice((0.5, 2.0, 2.0, 6.0, 6.0, 20.0))
        whom: Whom = chance.choice(("bootmatrix", "qemu"))
        yield Stop(whom, chance.uniform(0.05, 2.0), chance.uniform(0.05, longest_s))


def write_matrix(folder: Path, images: Path, copies: int, more: str = "") -> Path:
    """A matrix of so many copies of each spec: each copy is a cell."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").symlink_to(images)
    names = [f"{name}-{number}" for number in range(copies) for name in SPECS]
    for name in names:
        (folder / f"{name}.yml").write_text(SPECS[name.partition("-")[0]])
    matrix = folder / "stops.matrix.yml"
    specs = ", ".join(f"{name}.yml" for name in names)
    matrix.write_text(f'specs: [{specs}]\narch: [x86_64]\nkernel: ["6.1"]\ntimeouts: {TIMEOUTS}\n{more}')
    return matrix


def run_with_stops(setting: Setting, arguments: Sequence[str], reports: Path, stops: Iterator[Stop]) -> Stopped:
    """Run a matrix, and stop somebody again and again until it is over, or there are no more stops."""
    reports.mkdir(parents=True, exist_ok=True)
    output = reports / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*setting.command, "matrix", *arguments, "--reports", str(reports)],
            cwd=setting.folder,
            env=setting.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        watchdog = threading.Timer(LIMIT_S, process.kill)
        watchdog.start()
        met = _stop_all(process, stops)
        status = process.wait()
        watchdog.cancel()
    run = load_run(reports / "latest")
    verdicts = {record.cell.spec_name: f"{record.verdict}: {record.judgement.reason}" for record in run.records}
    return Stopped(met, status, output.read_text(), verdicts, list(_wrong(run)))


def _stop_all(process: subprocess.Popen[bytes], stops: Iterator[Stop]) -> int:
    """Stop somebody until the run is over; return how many stops met their process."""
    met = 0
    for stop in stops:
        while process.poll() is None and find_qemu(process.pid) is None:
            time.sleep(0.05)
        time.sleep(stop.pause_s)
        if process.poll() is not None:
            break
        met += _stop(process.pid, stop)
    return met


def _wrong(run: Run) -> Iterator[str]:
    for record in run.records:
        for verdict in (record.verdict, *(one.judgement.verdict for one in record.attempt_records)):
            if verdict not in ALLOWED[record.cell.spec_name.partition("-")[0]]:
                yield f"{record.cell.id}: {verdict}: {record.judgement.reason}"


def _stop(bootmatrix: int, stop: Stop) -> bool:
    """Stop one of them for a while; whether there was one."""
    pid = bootmatrix if stop.whom == "bootmatrix" else find_qemu(bootmatrix)
    if pid is None:
        return False
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(stop.length_s)
        finally:
            os.kill(pid, signal.SIGCONT)
        return True
    return False


def find_qemu(bootmatrix: int) -> int | None:
    """A QEMU that bootmatrix has started, if there is one."""
    for task in Path("/proc").glob(f"{bootmatrix}/task/*"):
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                program, *arguments = Path(f"/proc/{child}/cmdline").read_text(errors="replace").split("\0")
                if "qemu-system" in program and "-initrd" in arguments:  # not one that only lists what it can
                    return int(child)
    return None
