"""`bootmatrix matrix`: run all cells, judge them, report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.exits import exit_status, regression_status
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError

if TYPE_CHECKING:
    from bootmatrix.history.values import Comparison
    from bootmatrix.model import Run
    from bootmatrix.workspace.planned_run import PlannedRun


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
    """Options of running a plan."""
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
    parser.add_argument("--executor", default="local", metavar="NAME", help="what runs the cells (default: this host)")
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
    workspace = options.workspace(args)
    if args.resume:
        options.check_resumed(args)
        return run_planned(args, workspace.resume(args.resume))
    if not args.files:
        raise InputError("name a matrix, or specs", "Or a run to take up again: --resume RUN.")
    return run_planned(args, workspace.plan(*args.files, selection=options.selection(args)))


def run_planned(args: argparse.Namespace, planned: PlannedRun) -> int:
    """Run it, report it, and say what came of it; the exit status."""
    import anyio

    from bootmatrix.cli.progress import open_screen
    from bootmatrix.cli.signals import until_signal
    from bootmatrix.workspace.run import RunOptions, open_run

    chosen = RunOptions(
        jobs=args.jobs,
        dump=args.dump,
        single_file=args.single_file,
        baseline=args.baseline or "",
        regressions=bool(args.fail_on),
        executor=args.executor,
    )
    args.is_kept = True
    with open_screen(planned.plan) as screen, open_run(planned, chosen, screen) as opened:
        finished = anyio.run(until_signal, opened.execute, screen.note)
        done = opened.finish(interrupted=not finished)
        screen.finish(done.run, done.folder)
    _write_index(planned.reports)
    return _end(done.run, done.past.comparison, regressions_only=chosen.regressions)


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
