"""Measure everything, or what is named; print a table, and put it into benchmarks/results.md.

Exit status 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import beside, guests, history, kept, many_machines, nightlies, scale
from benchmarks.agent import agent
from benchmarks.bare_host import bare_host
from benchmarks.build import build
from benchmarks.build_memory import build_memory
from benchmarks.catalogues import catalogues
from benchmarks.ci_job import ci_job
from benchmarks.forked import forked, matrices, memory
from benchmarks.fragments import fragments
from benchmarks.go_test import go_test
from benchmarks.large import render_in_a_process, write_large
from benchmarks.own_kernel import ARCHIVE
from benchmarks.pages import open_and_filter
from benchmarks.peers import known_archs
from benchmarks.planted import loop, planted
from benchmarks.results import Result, as_json, median, table
from benchmarks.together import together
from benchmarks.tries import tries
from bootmatrix.cli import arguments as shared
from bootmatrix.errors import BootmatrixError
from bootmatrix.report.writer import write_reports
from bootmatrix.runs.run_store import load_run

MATRIX = "specs/influxdb.matrix.yml"
HELLO = "specs/hello.yml"

OVERHEAD_RATIO = 1.10
OVERHEAD_S = 0.15
MEMORY = "/dev/shm"
MATRIX_RATIO = 1.3
INITRD_BYTES = 2_000_000
HELP_S = 0.25
REPORT_S = 1.0
LARGE_S = 5.0
LARGE_MIB = 300
OPEN_S = 2.0
FILTER_S = 0.1
PLAN_CELLS, PLAN_S, PLAN_MIB, PLAN_GROWTH = 100_000, 60.0, 500, 13.0
RUN_CELLS, RUN_S = 100_000, 60.0
MERGED_RUNS, MERGE_S = 100, 5.0
LOOK_BACK_S = 0.3
INDEX_S = 120.0
"""To read 1,000 runs of 100 cells anew, which only a lost index takes."""
REPEATS = 10
DEMOS = 3


def main() -> int:
    """Measure what the arguments name."""
    args = arguments()
    results: list[Result] = []
    try:
        for name in args.only or BENCHMARKS:
            for result in BENCHMARKS[name](args):
                print(table([result]).splitlines()[1], file=sys.stderr, flush=True)
                results.append(result)
                kept.keep([result])
    except (BootmatrixError, guests.BenchmarkError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 3
    if args.json:
        Path(args.json).write_text(as_json(results) + "\n", encoding="utf-8")
    print(table(results))
    return 0 if all(result.ok for result in results) else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="pairs of boots per cell (default: 5)")
    parser.add_argument("--spec", default=HELLO, help=f"spec whose cells are timed in pairs (default: {HELLO})")
    parser.add_argument("--arch", default="all", metavar="A,…", help="architectures to time in pairs (default: all)")
    parser.add_argument("--kernel", default="6.1", metavar="K,…", help="kernels to time in pairs (default: 6.1)")
    parser.add_argument("--runs", type=int, default=1000, metavar="N", help="runs to look back over (default: 1000)")
    parser.add_argument(
        "--cells", type=int, default=100_000, metavar="N", help="cells over 100 simulated hosts (default: 100000)"
    )
    parser.add_argument(
        "--format",
        type=shared.names,
        default=(),
        metavar="F,…",
        help="formats whose memory is measured (default: all)",
    )
    parser.add_argument(
        "--linux",
        type=Path,
        default=next(iter(sorted(Path("/").glob(ARCHIVE.lstrip("/")))), None),
        metavar="TAR",
        help="source of the kernels that are built here, as in linux-source-6.1 (default: the installed one)",
    )
    parser.add_argument(
        "--of", type=Path, action="append", metavar="RUN", help="nights are these (default: the survey's cells)"
    )
    parser.add_argument("--trees", type=Path, metavar="FOLDER", help="build and keep kernels there")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    shared.add_shared(parser, *shared.SOURCES)
    args = parser.parse_args()
    unknown = [name for name in args.only if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    return args


def overhead(args: argparse.Namespace) -> Iterator[Result]:
    """A cell through bootmatrix and by bare QEMU, in turns, so that whatever else the host does meets both alike."""
    with guests.context_of(args, [args.spec], args.arch, args.kernel) as context:
        for cell in guests.cells(args, [args.spec], args.arch, args.kernel):
            ready = guests.make_ready(cell, context)
            guests.bare(ready)
            pairs = [(guests.through_bootmatrix(ready, context), guests.bare(ready)) for _ in range(args.pairs)]
            yield _overhead(cell.id, pairs)


def _overhead(name: str, pairs: list[tuple[guests.Sample, guests.Sample]]) -> Result:
    ratio = median([one.wall_s / other.wall_s for one, other in pairs])
    difference_s = median([one.wall_s - other.wall_s for one, other in pairs])
    cpu_ratio = median([one.cpu_s / other.cpu_s for one, other in pairs])
    ours, bare = [one for one, _ in pairs], [other for _, other in pairs]
    return Result(
        name=f"overhead {name}",
        value=f"{median([one.wall_s for one in ours]):.2f} s, bare {median([one.wall_s for one in bare]):.2f} s: "
        f"×{ratio:.3f}, {difference_s:+.2f} s (CPU ×{cpu_ratio:.3f})",
        target=f"×{OVERHEAD_RATIO:.2f} or +{OVERHEAD_S} s",
        ok=ratio <= OVERHEAD_RATIO or difference_s <= OVERHEAD_S,
        details={
            "bootmatrix_s": [one.wall_s for one in ours],
            "bootmatrix_qemu_s": [one.qemu_s for one in ours],
            "bootmatrix_cpu_s": [one.cpu_s for one in ours],
            "bare_s": [one.wall_s for one in bare],
            "bare_cpu_s": [one.cpu_s for one in bare],
            "ratio": ratio,
            "difference_s": difference_s,
            "cpu_ratio": cpu_ratio,
        },
    )


def matrix(args: argparse.Namespace) -> Iterator[Result]:
    """The demo with all in the cache, against the sum of what its guests take by bare QEMU, spread over the cores."""
    with guests.context_of(args, [MATRIX]) as context:
        ready = [guests.make_ready(cell, context) for cell in guests.cells(args, [MATRIX])]
    before, demos = [guests.bare(one) for one in ready], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(DEMOS):
            demos.append(guests.whole_matrix(args, [MATRIX], Path(folder) / f"{number}"))
    bare = [min(pair, key=lambda one: one.wall_s) for pair in zip(before, map(guests.bare, ready), strict=True)]
    cores = len(os.sched_getaffinity(0))
    threads = [min(one.machine.threads, cores) for one in ready]
    limit_s = sum(one.wall_s * many for one, many in zip(bare, threads, strict=True)) / cores
    wall_s, cpu_s = median([one.wall_s for one in demos]), median([one.cpu_s for one in demos])
    cpu_ratio = cpu_s / sum(one.cpu_s for one in bare)
    yield Result(
        name=f"{MATRIX}, {len(ready)} cells on {cores} cores",
        value=f"{wall_s:.1f} s, limit {limit_s:.1f} s: ×{wall_s / limit_s:.2f} (CPU ×{cpu_ratio:.2f})",
        target=f"×{MATRIX_RATIO}",
        ok=wall_s <= MATRIX_RATIO * limit_s,
        details={
            "walls_s": [one.wall_s for one in demos],
            "cpu_s": [one.cpu_s for one in demos],
            "bare_s": [one.wall_s for one in bare],
            "bare_cpu_s": [one.cpu_s for one in bare],
            "limit_s": limit_s,
        },
    )


def initrd(args: argparse.Namespace) -> Iterator[Result]:
    """Size of the initrd of `hello`."""
    with guests.context_of(args, [HELLO], "all", args.kernel) as context:
        for cell in guests.cells(args, [HELLO], "all", args.kernel):
            made = guests.make_ready(cell, context).bootable.initrd
            size_bytes = made.size_bytes if made else 0
            yield Result(
                name=f"initrd {cell.id}",
                value=f"{size_bytes / 1e6:.2f} MB",
                target=f"{INITRD_BYTES / 1e6:.0f} MB",
                ok=size_bytes < INITRD_BYTES,
                details={"bytes": size_bytes},
            )


def usage(_args: argparse.Namespace) -> Iterator[Result]:
    """`bootmatrix --help`, as a user starts it."""

    def show() -> None:
        subprocess.run([guests.PROGRAM, "--help"], check=True, stdout=subprocess.DEVNULL)

    samples = _times(show)
    yield _time("bootmatrix --help", samples, HELP_S)


def report(args: argparse.Namespace) -> Iterator[Result]:
    """The report of the demo's run, written again from its records."""
    with tempfile.TemporaryDirectory() as folder:
        guests.whole_matrix(args, [MATRIX], Path(folder))
        path = Path(folder) / "latest"
        run = load_run(path)
        samples = _times(lambda: write_reports(run, path))
        size_kb = (path / "report.html").stat().st_size / 1e3
    yield _time(f"write the report, {len(run.records)} cells, {size_kb:.0f} kB", samples, REPORT_S)


def others(args: argparse.Namespace) -> Iterator[Result]:
    """A cell by all ways: bare QEMU with the settings that others have and with ours, cold, forked, and by peers."""
    with guests.context_of(args, [HELLO], args.arch, args.kernel) as context:
        for cell in guests.cells(args, [HELLO], args.arch, args.kernel):
            if cell.machine_is_default and cell.arch in known_archs():
                kept.keep_row(beside.measure(guests.make_ready(cell, context), context, args.pairs))
                yield from kept.cell_results(cell.id)
    yield kept.common_result()


def plans(_args: argparse.Namespace) -> Iterator[Result]:
    """Planning many cells."""
    yield _growing("plan", f"plan {PLAN_CELLS} cells", PLAN_CELLS, PLAN_S)


def runs(_args: argparse.Namespace) -> Iterator[Result]:
    """Whole runs whose guests are replayed: all of bootmatrix but build and boot."""
    yield _growing("run", f"run {RUN_CELLS} cells, replayed", RUN_CELLS, RUN_S)


def _growing(kind: str, name: str, cells: int, limit_s: float) -> Result:
    """Time, memory, and whether time grows with the cells; each size in a process of its own."""
    few, many = (scale.in_a_process(kind, count) for count in (cells // 10, cells))
    growth = many.wall_s / few.wall_s
    return Result(
        name=name,
        value=f"{many.wall_s:.1f} s, {many.memory_mib} MiB, ×{growth:.1f} for ten times as many",
        target=f"{limit_s} s, {PLAN_MIB} MiB, ×{PLAN_GROWTH}",
        ok=many.wall_s <= limit_s and many.memory_mib <= PLAN_MIB and growth <= PLAN_GROWTH,
        details={"few_s": few.wall_s, "many_s": many.wall_s, "memory_mib": many.memory_mib},
    )


def look_back(args: argparse.Namespace) -> Iterator[Result]:
    """The commands that look back, over 1,000 runs of 100 cells; what is written is in memory, where there is room."""
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as folder:
        history.write_runs(Path(folder), args.runs)
        index_s = history.build_index(Path(folder))
        yield _time(f"index of {args.runs} runs of 100 cells, made anew", [index_s], INDEX_S)
        for answer in history.answers(Path(folder), REPEATS):
            yield _time(f"bootmatrix {answer.command}, {args.runs} runs", answer.samples_s, LOOK_BACK_S)


def merge(_args: argparse.Namespace) -> Iterator[Result]:
    """Many runs merged into one, in memory where there is room."""
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as folder:
        merge_s = history.merge_s(Path(folder), MERGED_RUNS)
    yield _time(f"bootmatrix merge, {MERGED_RUNS} runs of 100 cells", [merge_s], MERGE_S)


def large(_args: argparse.Namespace) -> Iterator[Result]:
    """The report of 10,000 cells with 20 runs of history, and how it opens in a browser."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        cells = len(write_large(path).records)
        rendered = render_in_a_process(path)
        size_kb = (path / "report.html").stat().st_size / 1e3
        opened_s, filtered_s = open_and_filter(path / "report.html", ["panic", "arch07", "spec3 arch11"])
    name = f"report of {cells} cells:"
    took = f"{rendered.write_s:.3f} s, {rendered.all_s:.1f} s with reading the run; {size_kb:.0f} kB"
    yield Result(f"{name} write all its forms", took, f"{LARGE_S} s", rendered.write_s <= LARGE_S)
    within = rendered.memory_mib <= LARGE_MIB
    yield Result(f"{name} memory of all that", f"{rendered.memory_mib:.0f} MiB", f"{LARGE_MIB} MiB", within)
    yield _time(f"{name} open in a browser", opened_s, OPEN_S)
    yield _time(f"{name} filter", filtered_s, FILTER_S)


def _times(action: Callable[[], object]) -> list[float]:
    action()
    samples = []
    for _ in range(REPEATS):
        started = time.monotonic()
        action()
        samples.append(time.monotonic() - started)
    return samples


def _time(name: str, samples: list[float], target_s: float) -> Result:
    found_s = median(samples)
    return Result(name, f"{found_s:.3f} s", f"{target_s} s", found_s <= target_s, {"samples_s": samples})


BENCHMARKS: dict[str, Callable[[argparse.Namespace], Iterator[Result]]] = {
    "help": usage,
    "initrd": initrd,
    "overhead": overhead,
    "beside": others,
    "together": together,
    "forked": forked,
    "agent": agent,
    "memory": memory,
    "matrices": matrices,
    "matrix": matrix,
    "build": build,
    "build-memory": build_memory,
    "report": report,
    "large": large,
    "plan": plans,
    "runs": runs,
    "history": look_back,
    "merge": merge,
    "ci": ci_job,
    "tries": tries,
    "go-test": go_test,
    "hosts-rate": many_machines.rate,
    "hosts-speedup": many_machines.speedup,
    "hosts-memory": many_machines.memory,
    "hosts-beside": many_machines.dask_beside_local,
    "hosts-bare": bare_host,
    "nightlies": nightlies.year,
    "catalogues": catalogues,
    "fragments": fragments,
    "planted": planted,
    "kernel-loop": loop,
}

if __name__ == "__main__":
    sys.exit(main())
