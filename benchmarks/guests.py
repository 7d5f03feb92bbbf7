"""The same guests through bootmatrix and through bare QEMU."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from bootmatrix.assembly.kernel.package import unpack_kernel
from bootmatrix.cell.context import open_context
from bootmatrix.cell.run import RunContext, prepare, run_cell
from bootmatrix.model import Bootable, Cell, Kernel, Machine, Verdict
from bootmatrix.progress import NullObserver
from bootmatrix.qemu.command import interactive
from bootmatrix.workspace.planned_run import PlannedRun
from bootmatrix.workspace.workspace import Workspace

BARE_LIMIT_S = 120
LEAVE_S = 15
PROGRAM = Path(sys.executable).with_name("bootmatrix")


@dataclass(frozen=True)
class Ready:
    """A cell that is fetched and built."""

    cell: Cell
    machine: Machine
    bootable: Bootable
    kernel: Kernel


@dataclass(frozen=True)
class Sample:
    """One boot in seconds: the wall clock's, the CPU's of all processes, and the wall clock's of QEMU alone.

    CPU time tells on a busy host, where the wall clock says little.
    """

    wall_s: float
    cpu_s: float
    qemu_s: float


class BenchmarkError(Exception):
    """A guest that did not come to its proper end: its time would say nothing."""


def workspace_of(args: argparse.Namespace) -> Workspace:
    """The workspace that the options of the benchmarks describe."""
    return Workspace(cache=args.cache, archive=args.archive, offline=args.offline, images=tuple(args.image))


def plan_of(args: argparse.Namespace, files: Sequence[str], arch: str = "", kernel: str = "") -> PlannedRun:
    """The cells of a matrix or a spec, of architectures and kernels with commas between them."""
    return workspace_of(args).plan(*files, arch=_names(arch), kernel=_names(kernel))


@contextmanager
def context_of(
    args: argparse.Namespace, files: Sequence[str], arch: str = "", kernel: str = ""
) -> Iterator[RunContext]:
    """A context for the cells of a matrix or a spec, as `bootmatrix matrix` has it."""
    with open_context(plan_of(args, files, arch, kernel).config, NullObserver()) as context:
        yield context


def cells(args: argparse.Namespace, files: Sequence[str], arch: str = "", kernel: str = "") -> tuple[Cell, ...]:
    """The cells of a matrix or a spec."""
    return plan_of(args, files, arch, kernel).cells


def make_ready(cell: Cell, context: RunContext) -> Ready:
    """Fetch and build a cell, so that a later boot finds all in the cache."""
    prepared = prepare(cell, context)
    assert prepared.kernel
    return Ready(cell, context.machine(cell), prepared.bootable, prepared.kernel)


def through_bootmatrix(ready: Ready, context: RunContext) -> Sample:
    """A whole cell: everything looked up and verified in the cache, booted, judged."""
    cpu_s = used_cpu_s()
    with tempfile.TemporaryDirectory() as folder:
        record = anyio.run(run_cell, ready.cell, context, Path(folder))
    if record.verdict is not Verdict.PASS or record.outcome is None:
        raise BenchmarkError(f"{ready.cell.id}: {record.verdict}: {record.judgement.reason}")
    return Sample(record.wall_s, used_cpu_s() - cpu_s, record.outcome.wall_s)


def bare(ready: Ready) -> Sample:
    """The same kernel, initrd and machine in QEMU by itself; the guest's init waits for nobody."""
    return boot_by(interactive(ready.machine, ready.bootable).arguments, ready.cell.id, BARE_LIMIT_S)


def package_kernel(ready: Ready, context: RunContext) -> str:
    """The kernel as it comes in its package: a path."""
    store = context.builder.store
    return str(store.verified(unpack_kernel(ready.kernel, context.builder.archive, store).image))


def our_words(ready: Ready) -> list[str]:
    """What our init has to read on the kernel's command line."""
    words = interactive(ready.machine, ready.bootable).cmdline.split()
    return [word for word in words if word.startswith("bootmatrix.")]


def boot_by(
    command: Sequence[str], name: str, limit_s: float, status: int | None = None, folder: Path | None = None
) -> Sample:
    """A guest by a command; it must say on its console that all went well. What it started ends with it.

    With a `status`, the command must end with it. It is run in `folder`, where it may leave files.
    """
    started, cpu_s = time.monotonic(), used_cpu_s()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=limit_s)
        except BaseException:
            _end(process)
            raise
    wall_s = time.monotonic() - started
    if b"end pass" not in said or status not in {None, process.returncode}:
        tail = said[-400:].decode("utf-8", "replace")
        raise BenchmarkError(f"{name} by {command[0]} did not end with a pass (status {process.returncode}): …{tail}")
    return Sample(wall_s, used_cpu_s() - cpu_s, wall_s)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with what it started. It is asked first: a peer's QEMU has a session and a terminal of its own."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(LEAVE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def whole_matrix(args: argparse.Namespace, words: Sequence[str], reports: Path, offline: bool = True) -> Sample:
    """`bootmatrix matrix` with these words, the whole process; if `offline`, what it needs is fetched already.

    Raises:
        BenchmarkError: a cell was not as expected.
    """
    given = ["--reports", str(reports), *(["--cache", str(args.cache)] if args.cache else [])]
    given += ["--offline"] if offline or args.offline else []
    started, cpu_s = time.monotonic(), used_cpu_s()
    done = subprocess.run([PROGRAM, "matrix", *words, *given], capture_output=True, text=True, check=False)
    wall_s = time.monotonic() - started
    if done.returncode:
        raise BenchmarkError(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return Sample(wall_s, used_cpu_s() - cpu_s, wall_s)


def used_cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)
