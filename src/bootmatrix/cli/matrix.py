"""`bootmatrix matrix`: run all cells, judge them, report."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.exits import exit_status, regression_status
from bootmatrix.cli.output import say

if TYPE_CHECKING:
    from bootmatrix.cell.run import Bench
    from bootmatrix.cli.job import Job
    from bootmatrix.execute.local import Budget
    from bootmatrix.history.values import Comparison, Past, RunResults
    from bootmatrix.model import Plan, Record, Run
    from bootmatrix.runs.run_store import RunWriter

UNDER_WAY_S = 0.5
"""By then the first guest runs, and leaves us time for what is needed when it has ended."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("matrix", help="boot every spec × architecture × kernel, and write a report")
    options.add_selection(parser, required=False)
    options.add_sources(parser)
    options.add_qemu_args(parser)
    options.add_allow_empty(parser)
    parser.add_argument("--resume", metavar="RUN", help="run what is missing of a run that was interrupted or killed")
    parser.add_argument(
        "--flaky",
        type=options.times,
        metavar="N",
        help="boot what failed up to N times more; what then passes is 'flaky', never a pass",
    )
    add_running(parser)
    parser.set_defaults(run=run)


def add_running(parser: argparse.ArgumentParser) -> None:
    """What `run_job` takes."""
    parser.add_argument("--jobs", type=int, metavar="N", help="host cores to use (default: all)")
    parser.add_argument(
        "--boot",
        choices=("cold", "fork"),
        help="fork: boot one guest for each machine, kernel and init, and run cells as copies of it (default: cold)",
    )
    parser.add_argument(
        "--verify-fork",
        type=int,
        metavar="N",
        help="with --boot fork: boot N of the cells cold as well, and compare verdicts and results",
    )
    options.add_single_file(parser)
    options.add_baseline(parser)
    options.add_reports(parser)
    parser.add_argument(
        "--dump",
        action="store_true",
        help="keep the memory of guests that hang, panic or take too long, for gdb",
    )


def run(args: argparse.Namespace) -> int:
    """Run a matrix; the exit status."""
    from bootmatrix.cli.job import find_job

    return run_job(args, find_job(args))


def run_job(args: argparse.Namespace, job: Job) -> int:
    """Do a job, report it, and say what came of it; the exit status."""
    from bootmatrix.boot.acceleration import Accelerators
    from bootmatrix.cell.run import Bench
    from bootmatrix.cli.progress import open_screen
    from bootmatrix.execute.local import host_budget

    given = args.baseline or (job.before.baseline if job.before else "") or ("latest" if args.fail_on else "")
    # Read before anything is booted: a baseline that cannot be read must not cost a run its report.
    baseline = _baseline(job, given) if given else None
    budget = host_budget(args.jobs)
    args.is_kept = True
    with open_screen(job.plan) as screen:
        with job.builder(args, screen) as builder, job.forks(builder, screen) as forks:
            writer = job.writer(builder, baseline.line.name if baseline else "")
            writer.on_record = None if args.single_file else partial(_write_page, writer.path)
            for record in writer.earlier:
                screen.cell_done(record)
            accelerate = Accelerators(builder.store).choose
            bench = Bench(job.specs, job.profiles, builder, screen, budget.hold, forks, accelerate, args.dump)
            finished = _run_all(job.missing, bench, writer, budget)
        result = writer.finish(interrupted=not finished)
        past = _past(job, writer.path.name, result, baseline, compared=bool(given))
        _write_reports(result, writer.path, past, args.single_file)
        screen.finish(result, writer.path)
    _write_index(job.reports)
    return _end(result, past.comparison, regressions_only=bool(args.fail_on))


# What only the end of a run needs is imported by these, and before that by `_load_ahead`, while guests run.


def _baseline(job: Job, given: str) -> RunResults | None:
    from bootmatrix.cli.past import read_baseline
    from bootmatrix.history.reference import find_baseline

    return read_baseline(find_baseline(job.reports, given, title=job.title))


def _write_page(folder: Path, record: Record) -> None:
    from bootmatrix.report.cell_pages import write_page

    write_page(record, folder)


def _past(job: Job, name: str, result: Run, baseline: RunResults | None, *, compared: bool) -> Past:
    from bootmatrix.cli.past import past_of_run
    from bootmatrix.history.reference import Place

    return past_of_run(Place(job.reports, name), result, baseline, compared=compared)


def _write_reports(result: Run, folder: Path, past: Past, single_file: bool) -> None:
    from bootmatrix.report import write_reports
    from bootmatrix.report.cell_pages import console_reader
    from bootmatrix.report.context import Given
    from bootmatrix.report.summary import append_summary

    write_reports(result, folder, past, single_file)
    append_summary(Given(result, console_reader(folder), past))


def _write_index(reports: Path) -> None:
    """The page of all runs. That it cannot be written changes nothing about this one."""
    from bootmatrix.report.index_page import write_index

    try:
        write_index(reports)
    except OSError as error:
        options.complain(f"bootmatrix: the page of all runs is not up to date: {error}")


def _end(run: Run, comparison: Comparison | None, *, regressions_only: bool) -> int:
    """Say what changed since the baseline; the exit status."""
    from bootmatrix.report.history_text import comparison_lines

    if comparison:
        say(*comparison_lines(comparison))
    if regressions_only and comparison and not (run.interrupted or run.missing):
        return regression_status(comparison, allow_empty=run.is_good)
    return exit_status(run)


def _run_all(plan: Plan, bench: Bench, writer: RunWriter, budget: Budget) -> bool:
    """Whether the run came to its end.

    Raises:
        HostError: the run's folder cannot be written any more.
    """
    import anyio

    from bootmatrix.cli.signals import until_signal
    from bootmatrix.errors import HostError
    from bootmatrix.execute.local import run_matrix

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_load_ahead)
            await run_matrix(plan, bench, writer, budget, _usual_s(plan, writer.path.parent))
            tasks.cancel_scope.cancel()

    try:
        return anyio.run(until_signal, work, bench.observer.note)
    except BaseExceptionGroup as group:
        faults, others = group.split(OSError)
        if faults is None or others is not None:
            raise
        hint = f"When that is mended, take the run up: bootmatrix matrix --resume {writer.path}"
        raise HostError(f"the run in {writer.path} cannot be written: {_first(faults)}", hint) from group


def _usual_s(plan: Plan, reports: Path) -> dict[str, float]:
    """Seconds that cells usually take, by id; of one cell nobody needs to know."""
    if len(plan.cells) < 2:
        return {}
    from bootmatrix.cli.past import usual_s

    return usual_s(reports)


async def _load_ahead() -> None:
    """Load what only the end of a run needs, and would else keep it waiting."""
    import anyio
    import anyio.to_thread

    from bootmatrix.report import load

    await anyio.sleep(UNDER_WAY_S)
    await anyio.to_thread.run_sync(load)


def _first(group: BaseExceptionGroup[OSError]) -> OSError:
    """The first of the errors in a group of groups."""
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one
