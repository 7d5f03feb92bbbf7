"""The same guests through bootmatrix and through bare QEMU."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import anyio

from bootmatrix.boot.command import by_hand
from bootmatrix.cell import Bench, prepare, run_cell
from bootmatrix.cli import options
from bootmatrix.model import Bootable, Cell, Machine, Verdict
from bootmatrix.observe import Silent

BARE_LIMIT_S = 300


@dataclass(frozen=True)
class Ready:
    """A cell that is fetched and built."""

    cell: Cell
    machine: Machine
    bootable: Bootable


class BenchmarkError(Exception):
    """A guest that did not come to its proper end: its time would say nothing."""


@contextmanager
def bench_of(args: argparse.Namespace, files: Sequence[str], arch: str = "", kernel: str = "") -> Iterator[Bench]:
    """A bench for the cells of a matrix or a spec, as `bootmatrix matrix` has it."""
    plan, profiles, _ = options.load_plan(_arguments(args, files, arch, kernel))
    builder = options.open_builder(args, Silent())
    yield Bench(options.load_specs(plan.cells), profiles, builder, Silent(), lambda _machine: nullcontext())


def cells(args: argparse.Namespace, files: Sequence[str], arch: str = "", kernel: str = "") -> tuple[Cell, ...]:
    """The cells of a matrix or a spec."""
    plan, _, _ = options.load_plan(_arguments(args, files, arch, kernel))
    return plan.cells


def make_ready(cell: Cell, bench: Bench) -> Ready:
    """Fetch and build a cell, so that a later boot finds all in the cache."""
    return Ready(cell, bench.machine(cell), prepare(cell, bench).bootable)


def through_bootmatrix_s(ready: Ready, bench: Bench) -> float:
    """Seconds of a whole cell: everything looked up and verified in the cache, booted, judged."""
    with tempfile.TemporaryDirectory() as folder:
        record = anyio.run(run_cell, ready.cell, bench, Path(folder))
    if record.verdict is not Verdict.PASS:
        raise BenchmarkError(f"{ready.cell.id}: {record.verdict}: {record.judgement.reason}")
    return record.wall_s


def bare_s(ready: Ready) -> float:
    """Seconds of the same kernel, initrd and machine in QEMU by itself; the guest's init waits for nobody."""
    line = by_hand(ready.machine, ready.bootable)
    started = time.monotonic()
    done = subprocess.run(
        line.arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=BARE_LIMIT_S, check=False
    )
    wall_s = time.monotonic() - started
    if b"end pass" not in done.stdout:
        tail = done.stdout[-400:].decode("utf-8", "replace")
        raise BenchmarkError(f"{ready.cell.id} by hand did not end with a pass (QEMU: {done.returncode}): …{tail}")
    return wall_s


def _arguments(args: argparse.Namespace, files: Sequence[str], arch: str, kernel: str) -> argparse.Namespace:
    chosen = {"files": list(files), "arch": options.names(arch), "kernel": options.names(kernel)}
    return argparse.Namespace(**{**vars(args), **chosen})
