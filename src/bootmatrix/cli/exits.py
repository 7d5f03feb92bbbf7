"""Exit statuses, and the one that a run comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootmatrix.history.values import Comparison
    from bootmatrix.model import Run

EXPECTED = 0
NOT_EXPECTED = 1
BAD_INPUT = 2
OUR_FAULT = 3
INTERRUPTED = 130


def exit_status(run: Run) -> int:
    """The exit status of a run: a guest's unexpected verdict weighs more than a fault of ours."""
    unexpected = [record.verdict for record in run.records if not record.expected]
    if run.interrupted:
        return INTERRUPTED
    if any(verdict.is_guests for verdict in unexpected):
        return NOT_EXPECTED
    return OUR_FAULT if unexpected else EXPECTED


def regression_status(comparison: Comparison) -> int:
    """The exit status where only what got worse counts. A cell without a verdict is no proof that nothing did."""
    if comparison.regressions:
        return NOT_EXPECTED
    lost = any(change.kind == "no verdict" for change in comparison.changes)
    return OUR_FAULT if lost else EXPECTED
