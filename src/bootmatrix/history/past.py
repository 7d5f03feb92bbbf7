"""Histories and comparison of a run, queried from the index."""

from collections.abc import Iterable, Sequence

from bootmatrix.history.acceptance import AcceptedFailure, without_passed
from bootmatrix.history.compare import compare
from bootmatrix.history.queries import Rows
from bootmatrix.history.trend import history_of, is_pass, usual
from bootmatrix.history.values import (
    LAST,
    CellHistory,
    CellKey,
    CellResult,
    Comparison,
    Past,
    PastVerdict,
    RunLine,
    RunResults,
    Standing,
)


def past_of(
    rows: Rows,
    run: RunResults,
    baseline: RunResults | None = None,
    *,
    compared: bool = False,
    accepted: Sequence[AcceptedFailure] = (),
) -> Past:
    """Return the cells' histories and, on request, the comparison.

    Args:
        rows: the index, which contains the run.
        run: the run.
        baseline: the run to compare with.
        compared: compare even without a baseline.
        accepted: failures that are accepted now, and acceptances that are over.
    """
    histories = histories_of(rows, run.cells, run.line)
    comparison = compared_with(rows, run, baseline, histories, accepted) if compared or baseline else None
    return Past(comparison, {history.id: history for history in histories.values()})


def histories_of(rows: Rows, cells: Iterable[CellResult], until: RunLine) -> dict[CellKey, CellHistory]:
    """Return the histories of cells up to a run; those without a boot have none."""
    return {
        cell.key: history_of(cell.id, cell.key, long_past(rows, cell.key, until))
        for cell in cells
        if cell.standing is not Standing.SKIP or cell.seconds
    }


def long_past(rows: Rows, key: CellKey, until: RunLine | None) -> list[PastVerdict]:
    """Return a cell's last verdicts, all if no pass is among them."""
    past = rows.past(key, until)
    if len(past) < LAST or any(map(is_pass, past)):
        return past
    return rows.past(key, until, limit=-1)


def compared_with(
    rows: Rows,
    run: RunResults,
    baseline: RunResults | None,
    histories: dict[CellKey, CellHistory],
    accepted: Sequence[AcceptedFailure] = (),
) -> Comparison:
    """Compare a run and a baseline; durations with the usual ones before."""
    usually = {
        cell.key: usual([entry for entry in rows.past(cell.key, baseline.line) if entry.host == run.line.host])
        for cell in (baseline.cells if baseline else ())
        if baseline and cell.standing is Standing.GOOD
    }
    return compare(run, baseline, histories, usually, without_passed(accepted, histories.values()))
