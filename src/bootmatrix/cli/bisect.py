"""`bootmatrix bisect`: the first of the archive's kernels on which a spec has another verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, INTERRUPTED, NOT_EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError

if TYPE_CHECKING:
    from bootmatrix.bisect import Search

DESCRIPTION = """\
Boots the archive's kernels between two, where they halve what is left, until the first one is known on which the spec
has another verdict than on the good one. A kernel that cannot be judged, as it cannot be had or the host is at fault,
is passed over. Exit status: 0 if it is found, 1 if the two ends do not differ, 3 if one of them cannot be judged.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "bisect", help="find the first kernel of the archive that breaks a spec", description=DESCRIPTION
    )
    parser.add_argument("spec", metavar="SPEC", help="a spec (path or name)")
    parser.add_argument("--arch", required=True, metavar="A[/MACHINE]", help="one architecture")
    parser.add_argument("--good", required=True, metavar="VERSION", help="a version, or its beginning: 6.12.43")
    parser.add_argument("--bad", required=True, metavar="VERSION", help="another one, newer or older")
    parser.add_argument("--kernel", default="", metavar="K", help="whose flavour to take (default: by the version)")
    options.add_sources(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="host cores to use (default: all)")
    parser.add_argument("--reports", type=Path, metavar="FOLDER", help="where runs are kept (default: reports)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Search; the exit status."""
    import anyio

    from bootmatrix.bisect import Question
    from bootmatrix.cli.downloads import shown_downloads
    from bootmatrix.cli.progress import open_screen
    from bootmatrix.cli.signals import until_signal
    from bootmatrix.load.spec import find_spec
    from bootmatrix.model import Plan
    from bootmatrix.report.index_page import write_index
    from bootmatrix.workspace.bisection import open_bisection, prepare

    if args.locked is not None:
        raise InputError("a search takes many kernels, and a lock has few", "Leave out --locked.")
    workspace = options.workspace(args)
    question = Question(find_spec(args.spec), args.arch, args.good, args.bad, args.kernel)
    with shown_downloads() as downloads:
        search = prepare(workspace, question, downloads)
    args.is_kept = True
    with open_screen(Plan(cells=search.cells)) as screen:
        with open_bisection(workspace, search, screen, args.jobs) as opened:
            finished = anyio.run(until_signal, opened.execute, screen.note)
        page = opened.finish(interrupted=not finished)
    write_index(workspace.reports_folder)
    return _end(search, page, finished)


def _end(search: Search, page: Path, finished: bool) -> int:
    """Say what was found."""
    from bootmatrix.report.bisection import bisection_text

    options.print_table(bisection_text(search.state))
    say(page)
    if not finished:
        return INTERRUPTED
    if not search.state.problem():
        return EXPECTED
    return NOT_EXPECTED if all(search.state.steps[end].is_judged for end in (0, -1)) else OUR_FAULT
