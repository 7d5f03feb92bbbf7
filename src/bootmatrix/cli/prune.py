"""`bootmatrix prune`: remove old runs."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import say

KEEP = 30


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "prune",
        help="remove old runs",
        description="Remove old runs. Kept are, of each title, the newest ones, and always: the latest, those that are "
        "tagged or signed off, what they were compared with, and one that may be under way. It asks nothing, and says "
        "what it removed.",
    )
    options.add_reports(parser)
    parser.add_argument("--keep", type=int, default=KEEP, metavar="N", help=f"of each title (default: {KEEP})")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Remove, and say so."""
    from bootmatrix.errors import InputError
    from bootmatrix.history.index import ask
    from bootmatrix.history.prune import kept, remove_leftovers, remove_run
    from bootmatrix.history.reference import tags_of

    if args.keep < 0:
        raise InputError(f"--keep {args.keep}: how many runs to keep cannot be less than none")
    reports = options.reports_of(args)
    lines = [line for line in ask(reports, lambda rows: rows.runs()) if not line.fault]
    staying = kept(lines, reports, tags_of(reports), args.keep)
    doomed = [line.name for line in lines if line.name not in staying]
    if not args.dry_run:
        remove_leftovers(reports)
    removed = [name for name in doomed if args.dry_run or remove_run(reports / name)]
    say(*(f"{'would remove' if args.dry_run else 'removed'} {name}" for name in removed))
    for name in doomed:
        if name not in removed:
            say(f"kept {name}: it was taken up meanwhile")
    say(f"{len(removed)} {'to remove' if args.dry_run else 'removed'}, {len(lines) - len(removed)} kept")
    return EXPECTED
