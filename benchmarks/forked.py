"""Cells whose guests are copies of one that was booted before, against the same cells booted cold, in turns."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import anyio

from benchmarks import guests
from benchmarks.results import Result, median
from bootmatrix.boot.forks import Forks
from bootmatrix.boot.snapshots import SnapshotCache
from bootmatrix.cell import Bench, run_cell
from bootmatrix.model import BootKind, Cell, Verdict

TARGETS = {"specs/hello.yml": 0.15, "specs/influxdb.yml": 0.4}
"""Time of a forked cell by that of a cold one."""
SNAPSHOTS_MIB = 1024


def forked(args: argparse.Namespace) -> Iterator[Result]:
    """Each spec's cells both ways, the guest to be copied booted beforehand."""
    for spec, target in TARGETS.items():
        with guests.bench_of(args, [spec], args.arch, args.kernel) as bench:
            forking = replace(bench, builder=replace(bench.builder, fork=True))
            for cell in guests.cells(args, [spec], args.arch, args.kernel):
                yield _result(cell, anyio.run(_pairs, cell, forking, args.pairs), target)


async def _pairs(cell: Cell, bench: Bench, count: int) -> list[tuple[float, float]]:
    forks = Forks(SnapshotCache(bench.builder.store), SNAPSHOTS_MIB, lambda _: None)
    warm = replace(bench, forks=forks, turn=lambda _: nullcontext())
    try:
        await _seconds(cell, "fork", warm)
        return [(await _seconds(cell, "fork", warm), await _seconds(cell, "cold", warm)) for _ in range(count)]
    finally:
        forks.close()


async def _seconds(cell: Cell, boot: BootKind, bench: Bench) -> float:
    with tempfile.TemporaryDirectory() as folder:
        record = await run_cell(cell.model_copy(update={"boot": boot}), bench, Path(folder))
    if record.verdict is not Verdict.PASS or record.boot != boot:
        why = record.cold_reason or record.judgement.reason
        raise guests.BenchmarkError(f"{cell.id}, {boot}: {record.verdict}: {why}")
    return record.wall_s


def _result(cell: Cell, pairs: list[tuple[float, float]], target: float) -> Result:
    ratio = median([one / other for one, other in pairs])
    copies, cold = ([pair[index] for pair in pairs] for index in (0, 1))
    return Result(
        name=f"forked {cell.id}",
        value=f"{median(copies):.2f} s, cold {median(cold):.2f} s: ×{ratio:.3f}",
        target=f"×{target}",
        ok=ratio <= target,
        details={"forked_s": copies, "cold_s": cold, "ratio": ratio},
    )
