"""Runs and baselines by user-supplied name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bootmatrix.errors import BootmatrixError, InputError
from bootmatrix.history.acceptance import AcceptedFailure, of_title, read_accepted
from bootmatrix.history.index import ask
from bootmatrix.history.past import compared_with, histories_of, past_of
from bootmatrix.history.reference import BRANCH_PREFIX, RELATIVE, RunLocation, baseline_before, find_baseline, find_run

if TYPE_CHECKING:
    from bootmatrix.history.queries import Rows
    from bootmatrix.history.values import Comparison, Past, RunResults
    from bootmatrix.model import Run


def compared(reports: Path, run_name: str, baseline_name: str) -> Comparison:
    """Compare by the index. Raises InputError if a run cannot be read."""
    place = find_run(reports, run_name)
    is_relative = baseline_name in RELATIVE or baseline_name.startswith(BRANCH_PREFIX)
    named = None if is_relative else find_run(place.reports, baseline_name)
    accepted = read_accepted(place.reports)

    def question(rows: Rows) -> Comparison:
        run = _load(rows, place)
        name = named.name if named else baseline_before(rows, baseline_name, run.line.title, run.line)
        baseline: RunResults | None = None
        if named and named.reports != place.reports:
            baseline = results_at(named)
        elif name:
            baseline = _load(rows, RunLocation(place.reports, name))
        histories = histories_of(rows, run.cells, run.line)
        return compared_with(rows, run, baseline, histories, of_title(accepted, run.line.title))

    # A single query, since each one first checks all runs for changes.
    return ask(place.reports, question)


def baseline_of(place: RunLocation, name: str) -> RunLocation | None:
    """Find a run's baseline; None for `latest` or `last-good` without one.

    Raises InputError if the baseline does not exist, or the run cannot be read.
    """
    line = results_at(place).line
    return find_baseline(place.reports, name, title=line.title, before=line)


def results_at(place: RunLocation) -> RunResults:
    """Load a run by the index. Raises InputError if it cannot be read."""
    return ask(place.reports, lambda rows: _load(rows, place))


def _load(rows: Rows, place: RunLocation) -> RunResults:
    results = rows.results(place.name)
    if results is None:
        raise InputError(f"{place.folder}: no such run")
    if results.line.fault:
        raise InputError(results.line.fault)
    return results


def read_baseline(place: RunLocation | None) -> RunResults | None:
    """Load a baseline's files. Raises InputError if they cannot be read."""
    return _extract().load_results(place.folder) if place else None


def _extract() -> ModuleType:
    """Import the reader of runs, and pydantic; the index often does without."""
    from bootmatrix.history import extract

    return extract


def past_against(place: RunLocation, run: Run, baseline: str) -> Past:
    """Return a run's past, compared if a baseline is named.

    Raises InputError if the baseline cannot be read.
    """
    results = read_baseline(baseline_of(place, baseline)) if baseline else None
    return past_of_run(place, run, results, compared=bool(baseline))


def past_of_run(
    place: RunLocation,
    run: Run,
    baseline: RunResults | None,
    *,
    compared: bool,
    accepted: Sequence[AcceptedFailure] | None = None,
) -> Past:
    """Return the cells' history and, if `compared`, the comparison.

    `accepted` are the accepted failures, by default those that are kept beside the run.
    """
    results = _extract().results_of(run, place.name)
    _extract().keep_results(place.folder, results)
    holding = of_title(read_accepted(place.reports), run.title) if accepted is None else accepted
    return ask(place.reports, lambda rows: past_of(rows, results, baseline, compared=compared, accepted=holding))


def usual_s(reports: Path) -> dict[str, float]:
    """Return cells' usual seconds, for ordering only; may be empty."""
    with suppress(BootmatrixError, OSError):
        return ask(reports, lambda rows: rows.usual_s())
    return {}
