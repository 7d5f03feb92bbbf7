"""`bootmatrix matrix`: run all cells, judge them, report."""

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from bootmatrix.cli import options
from bootmatrix.cli.notify import notifier, tell_run
from bootmatrix.cli.output import say
from bootmatrix.cli.progress import open_screen
from bootmatrix.cli.run_end import end_run, update_index
from bootmatrix.cli.signals import until_signal
from bootmatrix.errors import HostError, InputError
from bootmatrix.history.index import ask
from bootmatrix.history.reference import now, with_life
from bootmatrix.history.values import RunState
from bootmatrix.load.cluster import load_cluster
from bootmatrix.model import LOCAL, Run
from bootmatrix.model.durations import duration_s
from bootmatrix.workspace.finished import RunOptions
from bootmatrix.workspace.guest_holder import DEFAULT_KEEP_S, GuestHolder
from bootmatrix.workspace.planned_run import PlannedRun, check_unchanged, resume_command
from bootmatrix.workspace.run import UNDER_WAY_S, OpenRun, open_run, request_of, was_begun_here
from bootmatrix.workspace.workspace import Workspace

BRANCH_VARIABLES = ("BOOTMATRIX_BRANCH", "GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "BRANCH_NAME")
"""Environment variables with the branch under test: ours, GitHub's, GitLab's, Jenkins's."""


def run(args: argparse.Namespace) -> int:
    """Run a matrix and return the exit status."""
    workspace, cluster = options.workspace(args), load_cluster(args.cluster) if args.cluster else None
    is_local = (args.executor or LOCAL) == LOCAL
    if cluster and is_local and cluster.boards != cluster.hosts:
        raise InputError("--cluster needs an executor that uses other machines", "Give --executor dask with it.")
    if args.resume:
        options.check_resumed(args)
        resumed = workspace.resume(args.resume, args.tier)
        if others := sorted(set(args.tier) - {cell.tier for cell in resumed.cells}):
            raise InputError(
                f"--resume: the run has no cells of the tier {others[0]!r}", "A resumed run keeps its own."
            )
        return run_planned(args, resumed)
    if not args.files:
        raise InputError("name a matrix, or specs", "To resume a run: --resume RUN.")
    # The machines of a cluster have QEMUs of their own.
    boards = cluster.boards if cluster else ()
    selection = replace(options.selection(args), needs_qemu=is_local, boards=boards)
    planned = workspace.plan(*args.files, selection=selection)
    options.print_notes(planned.plan)
    rest = rest_of_newest(workspace, planned, _run_options(args)) if args.resume_or_start else None
    return run_planned(args, rest or planned)


def rest_of_newest(workspace: Workspace, planned: PlannedRun, chosen: RunOptions) -> PlannedRun | None:
    """Plan the rest of the newest run of the same matrix.

    None if it was not interrupted, was begun elsewhere, or anything has changed since it began.
    """
    newest = ask(planned.reports, lambda rows: rows.runs(planned.title, limit=1, until=now()))
    lines = [with_life(line, planned.reports) for line in newest]
    if not lines or lines[0].state is not RunState.INTERRUPTED:
        return None
    folder = planned.reports / lines[0].name
    if not was_begun_here(folder, planned.config.sources.cache):
        say(f"starting a new run: {folder} was not begun with this cache. If you trust it: --resume {folder}")
        return None
    try:
        resumed, request = workspace.resume(folder, planned.tiers), request_of(planned, chosen)
        if resumed.before:
            check_unchanged(resumed.before, request)
            if resumed.before.order != request:
                raise InputError(f"{folder}: the matrix, or the options, have changed since it began")
    except InputError as error:
        say(f"starting a new run: {error}")
        return None
    return resumed


def run_planned(args: argparse.Namespace, planned: PlannedRun, show: Callable[[Run, Path], None] | None = None) -> int:
    """Execute a planned run, report it, and return the exit status.

    `show` prints more of the run and its folder.
    """
    keep_s, chosen = hold_s(args), _run_options(args)
    services = notifier(args)
    args.is_kept = True
    with ExitStack() as stack:
        screen = stack.enter_context(open_screen(planned.plan))
        chosen = replace(chosen, hold=GuestHolder(keep_s, screen.note).hold) if keep_s else chosen
        opened = stack.enter_context(open_run(planned, chosen, screen))
        screen.begin(opened.writer.path)
        fault, stopped = None, ""
        try:
            stopped = anyio.run(until_signal, partial(_execute, opened, planned.reports), screen.note, args.deadline)
        except HostError as error:
            fault = error
        done = opened.finish(interrupted=bool(stopped or fault), interruption=stopped)
        screen.finish(done.run, done.folder)
    update_index(planned.reports)
    if lost := fault or done.fault:
        raise lost
    if done.run.interrupted:
        say(f"To finish it: {resume_command(done.folder, done.run.order)}")
    tell_run(services, done.run, done.folder, done.past)
    if show:
        show(done.run, done.folder)
    return end_run(done.run, done.past.comparison, regressions_only=chosen.regressions)


def _run_options(args: argparse.Namespace) -> RunOptions:
    return RunOptions(
        jobs=args.jobs,
        dump=args.dump,
        explain_hang=args.explain_hang,
        single_file=args.single_file,
        baseline=args.baseline or "",
        regressions=bool(args.fail_on),
        executor=args.executor,
        cluster=args.cluster or "",
        branch=args.branch or next(filter(None, map(os.environ.get, BRANCH_VARIABLES)), "") or "",
        commit=options.commit_under_test(),
    )


async def _execute(opened: OpenRun, reports: Path) -> None:
    """Execute a run; show in the index page that it is under way.

    It may be killed, and never write that page.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_show_under_way, reports)
        await opened.execute()
        tasks.cancel_scope.cancel()


async def _show_under_way(reports: Path) -> None:
    await anyio.sleep(UNDER_WAY_S)
    await anyio.to_thread.run_sync(update_index, reports)


def hold_s(args: argparse.Namespace) -> float:
    """Return for how many seconds a failed guest is held; 0 for none.

    Raises InputError if options do not go together.
    """
    if not args.hold_on_fail:
        if args.keep_alive:
            raise InputError("--keep-alive needs --hold-on-fail")
        return 0.0
    if (vars(args).get("executor") or LOCAL) != LOCAL:
        raise InputError("--hold-on-fail is for guests on this host", "Leave out --executor.")
    return duration_s(args.keep_alive, "--keep-alive") if args.keep_alive else DEFAULT_KEEP_S
