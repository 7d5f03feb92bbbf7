"""How planning, and whole runs whose guests are replayed, grow with the number of cells."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import anyio

from benchmarks.replay import Replay
from bootmatrix.cell.context import open_context
from bootmatrix.cell.retry import Prepared
from bootmatrix.cell.run import Backend, RunContext
from bootmatrix.execute.budget import host_budget
from bootmatrix.execute.executor import keep_durable, longest_first, requests_of, run_requests
from bootmatrix.execute.local import run_locally
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import (
    Artefact,
    Bootable,
    Cell,
    GuestMessage,
    Matrix,
    Outcome,
    Plan,
    Profile,
    QmpEvent,
    Record,
    Verdict,
)
from bootmatrix.model.run_config import RunConfig, SourceConfig
from bootmatrix.plan import plan
from bootmatrix.progress import NullObserver
from bootmatrix.runs.run_store import RunWriter

MEMORY = Path("/dev/shm")
MESSAGES = ("ready 6.1", "onboot hello start", "onboot hello exit 0", "services up", "shutdown", f"end pass {'0' * 64}")
BOOTABLE = Bootable(
    kernel_release="6.1",
    kernel=Artefact(kind="kernel", name="linux", path="/kernel", sha256="0" * 64, size_bytes=1),
    onboot=("hello",),
)
OUTCOME = Outcome(
    exit_status=0,
    ended_by="guest",
    messages=tuple(
        GuestMessage(kind=text.split()[0], words=tuple(text.split()[1:]), at_s=number / 10, sequence=number)
        for number, text in enumerate(MESSAGES, 1)
    ),
    events=(QmpEvent(name="SHUTDOWN", data={"guest": True, "reason": "guest-shutdown"}, at_s=0.7),),
    started_at="2026-01-01T00:00:00+00:00",
    wall_s=0.7,
    boot_s=0.1,
)
KERNELS = ("6.1", "6.12", "7.2")
SPEC = 'init: ["@pkg:./images/init"]\nonboot:\n  - {name: hello, image: "@pkg:./images/hello"}\n'


@dataclass(frozen=True)
class Grown:
    """What planning took: seconds, and the process's largest size in memory."""

    wall_s: float
    memory_mib: int


class Verdicts(NullObserver):
    """Shows nothing, and counts."""

    def __init__(self) -> None:
        self.counted: Counter[Verdict] = Counter()

    def cell_done(self, record: Record) -> None:
        """Count it."""
        self.counted[record.verdict] += 1


def in_a_process(what: str, cells: int) -> Grown:
    """`plan` or `run` so many cells in a fresh process, whose memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, what, str(cells)], check=True, stdout=subprocess.PIPE, text=True
    )
    return Grown(**json.loads(done.stdout))


def plan_here(cells: int) -> Grown:
    """Plan at least so many cells, and put them in order."""
    profiles = load_profiles(arch_folders())
    with tempfile.TemporaryDirectory() as folder:
        matrix = matrix_of(cells, profiles, Path(folder))
        started = time.monotonic()
        planned = plan(matrix, Path(folder), profiles)
        longest_first(planned.cells, lambda cell: profiles[cell.arch].machine(cell.machine).time_factor, {})
        return grown_since(started)


def run_here(cells: int) -> Grown:
    """Plan, run, judge and record at least so many cells; of the report only what is written as cells come."""
    profiles = load_profiles(arch_folders())
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder)
        matrix = matrix_of(cells, profiles, path)
        started = time.monotonic()
        planned = plan(matrix, path, profiles)
        seen = Verdicts()
        writer = RunWriter.create(path, "scale")
        config = RunConfig(SourceConfig(path / "cache", offline=True), profiles, {})
        anyio.run(_run, planned, config, writer, seen)
        writer.put_together()
        grown = grown_since(started)
        assert seen.counted == {Verdict.PASS: len(planned.cells)}, seen.counted
        return grown


async def _run(planned: Plan, config: RunConfig, writer: RunWriter, seen: Verdicts) -> None:
    """All cells of a plan, with guests that nobody boots."""
    backend = Backend(_prepare, Replay(OUTCOME, b"hello\n").start)
    budget = host_budget()
    with open_context(config, seen, budget.hold) as context:
        replayed = replace(context, backend=backend)
        async with run_locally(replayed, budget, writer.folder) as executor, anyio.create_task_group() as tasks:
            tasks.start_soon(keep_durable, writer)
            requests = requests_of(planned, config, {})
            async for _ in run_requests(requests, planned.skips, executor, writer, seen):
                pass
            tasks.cancel_scope.cancel()


async def _prepare(_cell: Cell, _bench: RunContext) -> Prepared:
    return Prepared(None, BOOTABLE, (), "")


def matrix_of(cells: int, profiles: Mapping[str, Profile], folder: Path) -> Matrix:
    """A matrix of at least so many cells."""
    archs = tuple(
        name for name, profile in profiles.items() if profile.setup and set(KERNELS) <= profile.kernels.keys()
    )
    names = [f"spec{number}.yml" for number in range(-(-cells // (len(archs) * len(KERNELS))))]
    for name in names:
        Path(folder, name).write_text(SPEC, encoding="utf-8")
    return Matrix(specs=tuple(names), arch=archs, kernel=KERNELS)


def grown_since(started: float) -> Grown:
    """Time from then on, and this process's memory."""
    return Grown(time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


if __name__ == "__main__":
    print(json.dumps(asdict({"plan": plan_here, "run": run_here}[sys.argv[1]](int(sys.argv[2])))))
