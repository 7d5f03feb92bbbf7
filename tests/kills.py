"""A run that is killed at some moment: what is left of its processes and of its records, and how it is taken up."""

from __future__ import annotations

import ctypes
import os
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.model import Run
from bootmatrix.runs.run_store import load_run

LIMIT_S = 600.0
"""No run of these takes longer; it is killed, and its test fails."""
ORPHAN_S = 5.0
"""No process may outlive a killed bootmatrix for longer."""
PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphans below us become our children, so that none can hide."""
DONE = re.compile(r"^(?:pass|fail|panic|hang|timeout|flaky|build-error|infra-error) +(\S+) ", re.MULTILINE)
"""The line about a cell that is over."""

Verdicts = dict[str, str]


@dataclass(frozen=True)
class Setting:
    """How bootmatrix is started: a command without its matrix, where, and with which environment."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )


@dataclass(frozen=True)
class Trial:
    """What came of one kill. `finished` and `told` count cells: with a record, and shown as done before the kill."""

    moment_s: float
    began: bool
    told: int
    finished: int
    orphans: tuple[str, ...]
    lost: tuple[str, ...]
    differs: tuple[str, ...]
    gone_s: float

    @property
    def ok(self) -> bool:
        return not (self.orphans or self.lost or self.differs)


def verdicts(run: Run) -> Verdicts:
    return {record.cell.id: f"{record.verdict}: {record.judgement.reason}" for record in run.records}


def try_kill(setting: Setting, matrix: Sequence[str], reports: Path, expected: Verdicts, moment_s: float) -> Trial:
    """Start a run, kill it after so many seconds, look at what is left, and take it up to its end."""
    with adopting():
        output = reports / "output"
        reports.mkdir(parents=True)
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*setting.command, "matrix", *matrix, "--reports", str(reports)],
                cwd=setting.folder,
                env=setting.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            time.sleep(moment_s)
            process.kill()
            process.wait(LIMIT_S)
        gone_s, orphans = wait_for_children()
    told = set(DONE.findall(output.read_text()))
    latest = reports / "latest"
    before = _loaded(latest)
    if before is None:
        return Trial(moment_s, False, len(told), 0, orphans, tuple(sorted(told)), (), gone_s)
    done = verdicts(before)
    lost = {*(told - done.keys()), *(f"{name}: {word}" for name, word in done.items() if expected[name] != word)}
    options = [word for word in matrix if word == "--offline"]
    after = _taken_up(setting, latest, before, options)
    differs = {f"{name}: {word}" for name, word in after.items() ^ expected.items()}
    return Trial(moment_s, True, len(told), len(done), orphans, tuple(sorted(lost)), tuple(sorted(differs)), gone_s)


def _taken_up(setting: Setting, latest: Path, before: Run, options: Sequence[str]) -> Verdicts:
    """Verdicts of the run after it was taken up; what had a record must have kept it."""
    resumed = setting.run("matrix", "--resume", str(latest), *options)
    run = _loaded(latest)
    if run is None or not run.ended_at:
        return {"the run": f"was not taken up: {resumed.stdout}{resumed.stderr}"}
    kept = {record.cell.id: record for record in run.records}
    again = {record.cell.id: "was run again" for record in before.records if kept.get(record.cell.id) != record}
    return {**verdicts(run), **again}


def moments(count: int, whole_s: float, seed: int) -> Iterator[float]:
    """Random moments of a run that takes so long."""
    chance = random.Random(seed)
    for _ in range(count):
        yield chance.uniform(0.05, whole_s)


def _loaded(latest: Path) -> Run | None:
    try:
        return load_run(latest)
    except InputError:
        if (latest / "cells").exists():
            raise
        return None


@contextmanager
def adopting() -> Iterator[None]:
    """Become the parent of whatever is orphaned below us, for as long as the context lasts."""
    prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def wait_for_children() -> tuple[float, tuple[str, ...]]:
    """Seconds until no child of ours is left, and those that are left when the time is up: they are ended."""
    start = time.monotonic()
    while (left := _children()) and time.monotonic() - start < ORPHAN_S:
        time.sleep(0.01)
    names = tuple(_command(pid) for pid in left)
    for pid in left:
        os.kill(pid, 9)
    return time.monotonic() - start, names


def _children() -> list[int]:
    """Children of ours that have not ended; those that have are reaped."""
    own = [int(pid) for task in Path("/proc/self/task").iterdir() for pid in _listed(task)]
    return [pid for pid in own if not _reaped(pid)]


def _listed(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except FileNotFoundError:
        return []


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:200]
    except OSError:
        return str(pid)
