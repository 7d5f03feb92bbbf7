"""Trials of what nothing may spoil: `ends` of guests, `kills` of runs, `stops` of processes, `privileges`, `cases`.

    python -m benchmarks.trials ends --count 10000
    python -m benchmarks.trials kills --count 50
    python -m benchmarks.trials stops --count 200
    python -m benchmarks.trials privileges --count 300
    python -m benchmarks.trials cases

Exit status 1 if a verdict was wrong, a process outlived its run, or a record was lost.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import anyio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from bootmatrix.runs.run_store import load_run  # noqa: E402
from case_files import ALL, boot_cases  # noqa: E402
from ends import Figures, lean_qemu, try_ends  # noqa: E402  (the tests' own, which try a few of each)
from hostile import sample, write_specs  # noqa: E402
from kills import Setting, Trial, moments, try_kill, verdicts  # noqa: E402
from stops import random_stops, run_with_stops, write_matrix  # noqa: E402

PROGRAM = str(Path(sys.executable).with_name("bootmatrix"))
AT_ONCE = 8
"""Ends under way in each process: some only wait."""
COPIES = 4
"""Of each spec in a run that is stopped."""
SHARE = 250
"""Ends that one process tries in one go."""
ARCHS = "x86_64,aarch64,armv7,ppc64le"


def main() -> int:
    """Try what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trials", description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("ends", "kills", "stops", "privileges", "cases"))
    parser.add_argument("--count", type=int, help="how many (default: 10000 ends, 50 kills, 200 stops, 300 privileges)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes, or cores for guests")
    parser.add_argument("--arch", default=ARCHS, help=f"architectures of killed runs and of cases (default: {ARCHS})")
    parser.add_argument("--kernel", default="6.1", help="kernel of cases (default: 6.1)")
    args = parser.parse_args()
    trials = {"ends": ends, "kills": kills, "stops": stops, "privileges": privileges, "cases": cases}
    return trials[args.what](args)


def cases(args: argparse.Namespace) -> int:
    """All of tests/cases on each architecture, as forks and cold."""
    count, started, wrong = 0, time.monotonic(), 0
    for arch in args.arch.split(","):
        with tempfile.TemporaryDirectory(prefix="bootmatrix-cases-") as name:
            ways = ("--boot", "fork", "--verify-fork", str(len(ALL)), "--jobs", str(args.jobs))
            records = boot_cases(Path(name), ALL, arch, args.kernel, ways)
        faults = {case.name: list(case.faults(records[case.name])) for case in ALL}
        count += len(records)
        wrong += sum(map(bool, faults.values()))
        for case, found in faults.items():
            for fault in found:
                print(f"WRONG  {case} on {arch}: {fault}", flush=True)
    print(f"{count} cases in {time.monotonic() - started:.0f} s: {wrong} wrong")
    return 1 if wrong else 0


def privileges(args: argparse.Namespace) -> int:
    """Hostile containers, with one privilege or two, beside a check that fails: none is promised to make it pass.

    What a spec gives up on purpose may make it pass; the cell then says that it is weaker evidence.
    """
    hostile = {one.name: one for one in sample(args.count or 300, args.seed)}
    weak, false, found, started = Counter[str](), [], Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bootmatrix-hostile-") as name:
        specs = write_specs(Path(name), list(hostile.values()), ROOT / "specs/images")
        cells = ("--arch", args.arch.partition(",")[0], "--kernel", "6.1", "--boot", "fork", "--jobs", str(args.jobs))
        subprocess.run([PROGRAM, "matrix", *specs, *cells, "--reports", "reports"], cwd=name, check=False)
        for record in load_run(Path(name, "reports/latest")).records:
            found[record.verdict] += 1
            settings = dict(hostile[record.cell.spec_name].settings)
            if record.verdict.value != "fail":
                print(f"{record.verdict}  {settings}: {record.judgement.reason}")
            if record.verdict.value == "pass":
                weak[record.cell.spec_name] += record.judgement.is_weak
                false += [] if record.judgement.is_weak else [settings]
    print(", ".join(f"{times} {verdict}" for verdict, times in found.most_common()))
    wall_s = time.monotonic() - started
    print(
        f"{found.total()} hostile guests in {wall_s:.0f} s: {len(false)} false passes, "
        f"{weak.total()} passes of what a spec gives up, which say so"
    )
    return 1 if false or found.total() != len(hostile) else 0


def ends(args: argparse.Namespace) -> int:
    """Ends of guests: how many of which kind, the verdicts, and what was wrong."""
    count, started, figures = args.count or 10_000, time.monotonic(), Figures()
    shares = [(min(SHARE, count - done), f"{args.seed}/{done}") for done in range(0, count, SHARE)]
    with lean_qemu() as folder, _first_in_path(folder), ProcessPoolExecutor(args.jobs) as pool:
        for number, found in enumerate(pool.map(_share, shares), 1):
            figures += found
            print(f"{min(number * SHARE, count)} of {count}: {len(figures.wrong)} wrong", file=sys.stderr, flush=True)
    for kind, times in sorted(figures.tried.items()):
        print(f"{times:6}  {kind}")
    print(", ".join(f"{times} {verdict}" for verdict, times in figures.verdicts.most_common()))
    for words in figures.wrong[:20]:
        print(f"WRONG  {words}")
    wall_s = time.monotonic() - started
    print(
        f"{figures.tried.total()} ends in {wall_s:.0f} s: {len(figures.false_passes)} false passes, "
        f"{len(figures.wrong_blame)} wrong blame, {len(figures.otherwise_wrong)} otherwise wrong"
    )
    return 1 if figures.wrong else 0


def _share(share: tuple[int, str]) -> Figures:
    count, seed = share
    return anyio.run(try_ends, count, seed, AT_ONCE)


@contextmanager
def _first_in_path(folder: str) -> Iterator[None]:
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def kills(args: argparse.Namespace) -> int:
    """Runs of real guests that are killed at random moments, and taken up."""
    setting = Setting([PROGRAM], ROOT, os.environ)
    matrix = ["hello", "--arch", args.arch, "--kernel", "6.1", "--offline", "--jobs", str(args.jobs)]
    with tempfile.TemporaryDirectory(prefix="bootmatrix-kills-") as name:
        started = time.monotonic()
        setting.run("matrix", *matrix, "--reports", f"{name}/whole")
        whole_s = time.monotonic() - started
        expected = verdicts(load_run(Path(name, "whole/latest")))
        if unfit := [f"{cell}: {word}" for cell, word in expected.items() if not word.startswith("pass: ")]:
            print(f"the reference run is not green, so nothing can be measured: {'; '.join(unfit)}", file=sys.stderr)
            return 1
        trials = []
        for number, moment_s in enumerate(moments(args.count or 50, whole_s, args.seed), 1):
            trial = try_kill(setting, matrix, Path(name, f"{number}"), expected, moment_s)
            trials.append(trial)
            print(_line(number, trial), flush=True)
    return _sum(trials, whole_s)


def stops(args: argparse.Namespace) -> int:
    """Runs of real guests, of which QEMU or bootmatrix itself is stopped and goes on at random moments."""
    setting = Setting([PROGRAM], ROOT, os.environ)
    count, done, number, started = args.count or 200, 0, 0, time.monotonic()
    found: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bootmatrix-stops-") as name:
        while done < count:
            number += 1
            folder, boot = Path(name, f"{number}"), ("cold", "fork")[number % 2]
            matrix = write_matrix(folder, ROOT / "specs/images", COPIES)
            words = [str(matrix), "--offline", "--jobs", str(args.jobs), "--boot", boot]
            result = run_with_stops(setting, words, folder / "reports", random_stops(f"{args.seed}/{number}"))
            done += result.stops
            found.update(f"{cell[:5]} {verdict.partition(':')[0]}" for cell, verdict in result.verdicts.items())
            wrong += result.wrong
            print(f"{done} of {count} stops, {boot}: {len(wrong)} wrong", file=sys.stderr, flush=True)
            for words_of in result.wrong:
                print(f"WRONG  {words_of}", flush=True)
    kinds = ", ".join(f"{times} {kind}" for kind, times in sorted(found.items()))
    print(f"{done} stops in {time.monotonic() - started:.0f} s, {found.total()} cells ({kinds}): {len(wrong)} wrong")
    return 1 if wrong else 0


def _line(number: int, trial: Trial) -> str:
    state = f"{trial.finished} records" if trial.began else "before the run began"
    faults = [*trial.orphans, *trial.lost, *trial.differs]
    words = f"all gone after {trial.gone_s:.2f} s, " + ("; ".join(faults) if faults else "taken up to the same report")
    return f"{number:3}  killed at {trial.moment_s:5.2f} s, {state}: {words}"


def _sum(trials: list[Trial], whole_s: float) -> int:
    orphans, lost, differ = (sum(len(getattr(one, name)) for one in trials) for name in ("orphans", "lost", "differs"))
    longest_s = max(one.gone_s for one in trials)
    print(
        f"{len(trials)} kills of a run of {whole_s:.1f} s: {orphans} orphans (the last process gone after "
        f"{longest_s:.2f} s), {lost} lost records, {differ} cells otherwise than in a whole run"
    )
    return 0 if all(one.ok for one in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
