"""`bootmatrix bisect`: find the first kernel or commit that differs."""

import argparse
from pathlib import Path

import anyio

from bootmatrix.bisect.kernels import Question
from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, INTERRUPTED, NOT_EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say
from bootmatrix.cli.progress import open_screen
from bootmatrix.cli.signals import until_signal
from bootmatrix.cli.tables import print_table
from bootmatrix.errors import InputError
from bootmatrix.load.spec import find_spec
from bootmatrix.model import Bisection, Plan
from bootmatrix.report.bisection import bisection_text
from bootmatrix.report.index_page import write_index
from bootmatrix.workspace.bisection import open_bisection, prepare
from bootmatrix.workspace.tree_bisection import TreeQuestion, open_tree_bisection


def run(args: argparse.Namespace) -> int:
    """Run the search and return the exit status."""
    if args.locked is not None:
        raise InputError("bisect needs many kernels, a lock file has few", "Omit --locked.")
    state, page, finished = _search_tree(args) if args.tree else _search_archive(args)
    write_index(options.workspace(args).reports_folder)
    return _end(state, page, finished)


def _search_archive(args: argparse.Namespace) -> tuple[Bisection, Path, bool]:
    if args.build or args.built or args.match:
        raise InputError("--build, --built and --match need --tree")
    workspace = options.workspace(args)
    question = Question(find_spec(args.files[0]), args.arch, args.good, args.bad, args.kernel, args.distro)
    with download_progress() as downloads:
        search = prepare(workspace, question, downloads)
    args.is_kept = True
    with open_screen(Plan(cells=search.cells)) as screen:
        with open_bisection(workspace, search, screen, args.jobs) as opened:
            stopped = anyio.run(until_signal, opened.execute, screen.note)
        page = opened.finish(interrupted=bool(stopped))
    return search.state, page, not stopped


def _search_tree(args: argparse.Namespace) -> tuple[Bisection, Path, bool]:
    if args.kernel or args.distro:
        raise InputError("--kernel and --distro name kernels of the archive", "Omit them, or omit --tree.")
    if not args.build:
        raise InputError("--tree needs --build: the shell command that makes a commit's kernel", "Such as 'make -j8'.")
    built = args.built or Path()
    question = TreeQuestion(
        find_spec(args.files[0]), args.arch, args.tree, args.good, args.bad, args.build, built, args.match or ""
    )
    args.is_kept = True
    with (
        open_screen(Plan(cells=())) as screen,
        open_tree_bisection(options.workspace(args), question, screen, args.jobs) as opened,
    ):
        stopped = anyio.run(until_signal, opened.execute, screen.note)
        page = opened.finish(interrupted=bool(stopped))
        return opened.state, page, not stopped


def _end(state: Bisection, page: Path, finished: bool) -> int:
    """Print the result and return the exit status."""
    print_table(bisection_text(state))
    say(page)
    if not finished:
        return INTERRUPTED
    if not state.problem():
        return EXPECTED
    return NOT_EXPECTED if all(state.steps[end].is_judged for end in (0, -1)) else OUR_FAULT
