"""`bootmatrix bisect`: find the first archive kernel that changes a spec's verdict."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from bootmatrix.bisect import Question, Search
from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, INTERRUPTED, NOT_EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say
from bootmatrix.cli.progress import open_screen
from bootmatrix.cli.signals import until_signal
from bootmatrix.errors import InputError
from bootmatrix.load.spec import find_spec
from bootmatrix.model import Plan
from bootmatrix.report.bisection import bisection_text
from bootmatrix.report.index_page import write_index
from bootmatrix.workspace.bisection import open_bisection, prepare


def run(args: argparse.Namespace) -> int:
    """Run the search and return the exit status."""
    if args.locked is not None:
        raise InputError("bisect needs many kernels, a lock file has few", "Omit --locked.")
    workspace = options.workspace(args)
    question = Question(find_spec(args.spec), args.arch, args.good, args.bad, args.kernel, args.distro)
    with download_progress() as downloads:
        search = prepare(workspace, question, downloads)
    args.is_kept = True
    with open_screen(Plan(cells=search.cells)) as screen:
        with open_bisection(workspace, search, screen, args.jobs) as opened:
            finished = anyio.run(until_signal, opened.execute, screen.note)
        page = opened.finish(interrupted=not finished)
    write_index(workspace.reports_folder)
    return _end(search, page, finished)


def _end(search: Search, page: Path, finished: bool) -> int:
    """Print the result and return the exit status."""
    options.print_table(bisection_text(search.state))
    say(page)
    if not finished:
        return INTERRUPTED
    if not search.state.problem():
        return EXPECTED
    return NOT_EXPECTED if all(search.state.steps[end].is_judged for end in (0, -1)) else OUR_FAULT
