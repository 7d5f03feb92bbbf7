"""`bootmatrix prune`: remove old runs."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.output import complain, say
from bootmatrix.errors import described
from bootmatrix.history.index import ask
from bootmatrix.history.prune import kept, remove_leftovers, remove_run
from bootmatrix.history.reference import newest_run, reports_folder, tags_of
from bootmatrix.history.values import NO_RESULT, RunLine


def run(args: argparse.Namespace) -> int:
    """Remove old runs and print them."""
    reports = reports_folder(args.reports)
    newest_run(reports)  # points the link to it
    lines = ask(reports, lambda rows: rows.runs())
    staying = kept(lines, reports, tags_of(reports), args.keep, unreadable=args.unreadable)
    doomed = [line.name for line in lines if line.name not in staying]
    if args.dry_run:
        say(*(f"would remove {name}" for name in doomed))
        removed, failed = doomed, 0
    else:
        remove_leftovers(reports)
        removed, failed = _remove(reports, doomed)
    _say_unusable(lines, staying)
    say(f"{len(removed)} {'to remove' if args.dry_run else 'removed'}, {len(lines) - len(removed)} kept")
    if not args.dry_run:
        _write_index(reports)
    return OUR_FAULT if failed else EXPECTED


def _remove(reports: Path, doomed: Iterable[str]) -> tuple[list[str], int]:
    """Remove runs; return the removed ones, and how many could not be."""
    removed, failed = [], 0
    for name in doomed:
        try:
            is_removed = remove_run(reports / name)
        except OSError as error:
            failed += 1
            complain(f"kept {name}: it cannot be removed: {': '.join(filter(None, described(error)))}")
            continue
        if is_removed:
            removed.append(name)
        say(f"removed {name}" if is_removed else f"kept {name}: it was resumed meanwhile")
    return removed, failed


def _say_unusable(lines: Iterable[RunLine], staying: Mapping[str, str]) -> None:
    """Name the runs that cannot be read and are kept for that."""
    for line in lines:
        if line.state in NO_RESULT and staying.get(line.name) == str(line.state):
            say(f"kept {line.name}: {line.state}; --unreadable removes it")


def _write_index(reports: Path) -> None:
    """Rewrite the index page without the removed runs."""
    from bootmatrix.report.index_page import INDEX_PAGE, write_index

    if (reports / INDEX_PAGE).is_file():
        write_index(reports)
