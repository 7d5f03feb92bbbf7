"""`bootmatrix prune`: remove old runs."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError
from bootmatrix.history.index import ask
from bootmatrix.history.prune import kept, remove_leftovers, remove_run
from bootmatrix.history.reference import tags_of


def run(args: argparse.Namespace) -> int:
    """Remove old runs and print them."""
    if args.keep < 0:
        raise InputError(f"--keep {args.keep}: must not be negative")
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
            say(f"kept {name}: it was resumed meanwhile")
    say(f"{len(removed)} {'to remove' if args.dry_run else 'removed'}, {len(lines) - len(removed)} kept")
    return EXPECTED
