"""Guests that are copies of one that was booted before, against the same booted cold: time, memory, whole matrices."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio

from benchmarks import guests, kept
from benchmarks.peers import known_archs
from benchmarks.results import Result, median
from bootmatrix.cell.run import RunContext, run_cell
from bootmatrix.model import BootKind, Cell, Verdict
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.snapshot.pool import SnapshotPool

TARGETS = {"specs/hello.yml": 0.15, "specs/influxdb.yml": 0.4}
"""Time of a forked cell by that of a cold one."""
MEMORY_RATIO = 0.4
MATRIX_RATIO = 0.2
MATRIX_SPECS = ("hello", "check", "test", "redis", "influxdb")
MATRIX_KERNELS = ("6.1", "6.12", "7.2")
SNAPSHOTS_MIB = 1024
LOOK_S = 0.02


def forked(args: argparse.Namespace) -> Iterator[Result]:
    """Each spec's cells both ways, the guest to be copied booted beforehand."""
    for spec, target in TARGETS.items():
        for cell, context in _cells(args, spec):
            yield _result(cell, anyio.run(_pairs, cell, context, args.pairs), target)


def memory(args: argparse.Namespace) -> Iterator[Result]:
    """Memory that only one guest's QEMU has, of a copy and of a cold guest: its largest amount of anonymous pages.

    What is left are pages of files, the snapshot's memory among them, which guests share and which are there once.
    """
    for cell, context in _cells(args, "specs/hello.yml"):
        copy_mib, cold_mib = anyio.run(_memory, cell, context)
        ratio = copy_mib / cold_mib
        yield Result(
            name=f"private memory of {cell.id}, forked ÷ cold",
            value=f"{copy_mib:.0f} MiB, cold {cold_mib:.0f} MiB: ×{ratio:.3f}",
            target=f"×{MEMORY_RATIO}",
            ok=ratio <= MEMORY_RATIO,
            details={"copy_mib": copy_mib, "cold_mib": cold_mib},
        )


def matrices(args: argparse.Namespace) -> Iterator[Result]:
    """Whole matrices, forked and warm, against the same cold: each architecture with three kernels and five specs.

    Each architecture is a part that may be measured by itself (`--arch`); the whole is the sum of what was measured
    last. Other kernels are taken if several are named, such as where the archive has lost one of them.
    """
    named = tuple(args.kernel.split(","))
    kernels = named if len(named) > 1 else MATRIX_KERNELS
    cells = guests.cells(args, ["specs/hello.yml"], args.arch, args.kernel)
    for arch in sorted({cell.arch for cell in cells} & known_archs()):
        words = [*MATRIX_SPECS, "--arch", arch, "--kernel", ",".join(kernels)]
        _matrix_s(args, words, "fork", offline=False)
        copies_s, cold_s = (_matrix_s(args, words, boot) for boot in ("fork", "cold"))
        yield _matrix_result(f"15 cells of {arch}", copies_s, cold_s)
        kept.keep_matrix(arch, copies_s, cold_s)
    times = kept.matrices()
    if known_archs() <= times.keys():
        copies_s, cold_s = (sum(one[what] for one in times.values()) for what in ("forked_s", "cold_s"))
        yield _matrix_result("60 cells of four architectures", copies_s, cold_s)


def _matrix_result(what: str, copies_s: float, cold_s: float) -> Result:
    ratio = copies_s / cold_s
    value = f"{copies_s:.1f} s, cold {cold_s:.1f} s: ×{ratio:.3f}"
    return Result(f"{what}, forked and warm ÷ cold", value, f"×{MATRIX_RATIO}", ratio <= MATRIX_RATIO)


def _cells(args: argparse.Namespace, spec: str) -> Iterator[tuple[Cell, RunContext]]:
    with guests.context_of(args, [spec], args.arch, args.kernel) as context:
        forking = replace(context, builder=replace(context.builder, fork=True))
        for cell in guests.cells(args, [spec], args.arch, args.kernel):
            if cell.machine_is_default:
                yield cell, forking


async def _pairs(cell: Cell, context: RunContext, count: int) -> list[tuple[float, float]]:
    forks = SnapshotPool(SnapshotCache(context.builder.store), SNAPSHOTS_MIB, lambda _: None)
    warm = replace(context, forks=forks)
    try:
        await _seconds(cell, "fork", warm)
        return [(await _seconds(cell, "fork", warm), await _seconds(cell, "cold", warm)) for _ in range(count)]
    finally:
        forks.close()


async def _seconds(cell: Cell, boot: BootKind, context: RunContext) -> float:
    with tempfile.TemporaryDirectory() as folder:
        record = await run_cell(cell.model_copy(update={"boot": boot}), context, Path(folder))
    if record.verdict is not Verdict.PASS or record.boot != boot:
        why = record.cold_reason or record.judgement.reason
        raise guests.BenchmarkError(f"{cell.id}, {boot}: {record.verdict}: {why}")
    return record.wall_s


def _result(cell: Cell, pairs: list[tuple[float, float]], target: float) -> Result:
    ratio = median([one / other for one, other in pairs])
    copies, cold = ([pair[index] for pair in pairs] for index in (0, 1))
    return Result(
        name=f"forked {cell.id} ÷ cold",
        value=f"{median(copies):.2f} s, cold {median(cold):.2f} s: ×{ratio:.3f}",
        target=f"×{target}",
        ok=ratio <= target,
        details={"forked_s": copies, "cold_s": cold, "ratio": ratio},
    )


async def _memory(cell: Cell, context: RunContext) -> tuple[float, float]:
    forks = SnapshotPool(SnapshotCache(context.builder.store), SNAPSHOTS_MIB, lambda _: None)
    warm = replace(context, forks=forks)
    try:
        await _seconds(cell, "fork", warm)
        return await _most_mib(cell, "fork", warm), await _most_mib(cell, "cold", warm)
    finally:
        forks.close()


async def _most_mib(cell: Cell, boot: BootKind, context: RunContext) -> float:
    most_kib = 0

    async def watch() -> None:
        nonlocal most_kib
        while True:
            most_kib = max(most_kib, *(_anonymous_kib(child) for child in _children()), 0)
            await anyio.sleep(LOOK_S)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await _seconds(cell, boot, context)
        tasks.cancel_scope.cancel()
    return most_kib / 1024


def _children() -> list[str]:
    """proc_tid_children(5), of all our threads."""
    files = Path("/proc/self/task").glob("*/children")
    return [child for file in files for child in file.read_text(encoding="ascii").split()]


def _anonymous_kib(process: str) -> int:
    """proc_pid_smaps(5)."""
    with suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        found = re.search(r"^Anonymous: +(\d+) kB$", text, re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def _matrix_s(args: argparse.Namespace, words: Sequence[str], boot: BootKind, offline: bool = True) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return guests.whole_matrix(args, [*words, "--boot", boot], Path(folder), offline).wall_s
