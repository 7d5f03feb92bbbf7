"""Runs and baselines as users name them, with their cells and what the index knows of before."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.errors import BootmatrixError, InputError
from bootmatrix.history.index import LATEST, ask
from bootmatrix.history.past import compared_with, histories_of, past_of
from bootmatrix.history.reference import RunLocation, find_baseline, find_run, latest_before

if TYPE_CHECKING:
    from bootmatrix.history.queries import Rows
    from bootmatrix.history.values import Comparison, Past, RunResults
    from bootmatrix.model import Run


def compared(reports: Path, run_name: str, baseline_name: str) -> Comparison:
    """A run beside its baseline, as the index knows them.

    Raises:
        InputError: one of them does not exist or cannot be read.
    """
    place = find_run(reports, run_name)
    named = None if baseline_name == LATEST else find_run(place.reports, baseline_name)

    def question(rows: Rows) -> Comparison:
        run = _known(rows, place)
        name = named.name if named else latest_before(rows, run.line.title, run.line)
        baseline: RunResults | None = None
        if named and named.reports != place.reports:
            baseline = results_at(named)
        elif name:
            baseline = _known(rows, RunLocation(place.reports, name))
        return compared_with(rows, run, baseline, histories_of(rows, run.cells, run.line))

    # One question, as each begins with a look at all the runs.
    return ask(place.reports, question)


def baseline_of(place: RunLocation, name: str) -> RunLocation | None:
    """The baseline for a run that is there; None if it is to be the latest and nothing was before.

    Raises:
        InputError: it does not exist, or the run cannot be read.
    """
    line = results_at(place).line
    return find_baseline(place.reports, name, title=line.title, before=line)


def results_at(place: RunLocation) -> RunResults:
    """A run with its cells.

    Raises:
        InputError: it cannot be read.
    """
    return ask(place.reports, lambda rows: _known(rows, place))


def _known(rows: Rows, place: RunLocation) -> RunResults:
    found = rows.results(place.name)
    if found is None:
        raise InputError(f"{place.folder}: no such run")
    if found.line.fault:
        raise InputError(found.line.fault)
    return found


def read_baseline(place: RunLocation | None) -> RunResults | None:
    """A baseline out of its own files.

    Raises:
        InputError: it cannot be read.
    """
    from bootmatrix.history.extract import results_of
    from bootmatrix.runs.run_store import load_run

    return results_of(load_run(place.folder), place.name) if place else None


def past_of_run(place: RunLocation, run: Run, baseline: RunResults | None, *, compared: bool) -> Past:
    """What a report tells beside the run: how it stands beside the baseline, and what the index knows of before."""
    from bootmatrix.history.extract import results_of

    results = results_of(run, place.name)
    return ask(place.reports, lambda rows: past_of(rows, results, baseline, compared=compared))


def usual_s(reports: Path) -> dict[str, float]:
    """Seconds that cells usually take, by id. It only orders them, so that a past that cannot be read is no fault."""
    with suppress(BootmatrixError, OSError):
        return ask(reports, lambda rows: rows.usual_s())
    return {}
