"""`bootmatrix history`: verdicts of a cell over time."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from difflib import get_close_matches
from fnmatch import fnmatchcase

from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import complain, print_json, say
from bootmatrix.errors import InputError
from bootmatrix.history.index import ask
from bootmatrix.history.past import long_past
from bootmatrix.history.queries import Rows
from bootmatrix.history.reference import now, reports_folder, with_life
from bootmatrix.history.trend import history_of
from bootmatrix.history.values import CellHistory, CellKey, RunLine, RunState
from bootmatrix.report.history_text import history_lines


def run(args: argparse.Namespace) -> int:
    """Print the history of the matching cells."""
    reports = reports_folder(args.reports)
    newest, histories = ask(reports, lambda rows: (_newest(rows), list(_histories(rows, args.cell))))
    for line in newest:
        if (state := with_life(line, reports).state) is not RunState.FINISHED:
            complain(f"note: the newest run, {line.name}, is {state}")
    if args.json:
        print_json([asdict(history) for history in histories])
    else:
        say("\n\n".join("\n".join(history_lines(history)) for history in histories))
    return EXPECTED


def _newest(rows: Rows) -> list[RunLine]:
    return rows.runs(limit=1, until=now())


def _histories(rows: Rows, pattern: str) -> Iterable[CellHistory]:
    """Make the histories up to now, without runs of the future."""
    for name, key in _matching(rows.cells(), pattern):
        yield history_of(name, key, long_past(rows, key, RunLine("", title="", started_at=now())))


def _matching(cells: dict[str, list[CellKey]], pattern: str) -> Iterable[tuple[str, CellKey]]:
    names = [pattern] if pattern in cells else [name for name in cells if fnmatchcase(name, pattern)]
    if not names:
        near = get_close_matches(pattern, cells, 1)
        raise InputError(
            f"no run has a cell {pattern!r}",
            f"Did you mean {near[0]!r}?" if near else "A cell is spec/arch[/machine]/kernel, as in the reports.",
        )
    return [(name, key) for name in names for key in cells[name]]
