"""Exit statuses of commands and runs."""

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
CANNOT_TEST = 125
"""`git bisect run` skips a commit with this status, counts 1 to 124 as bad, and stops from 128 on (git-bisect(1))."""
ABORTED = 128


def git_bisect_status(status: int) -> int:
    """Return the status for `git bisect run`: only a guest's is good or bad."""
    return CANNOT_TEST if status in {BAD_INPUT, OUR_FAULT} else status


def exit_status(run: Run) -> int:
    """Return a run's exit status: a guest's verdict outranks a fault of ours.

    A run that tested nothing is bad input, unless allowed.
    """
    unexpected = [record.verdict for record in run.records if not record.expected]
    if run.interrupted:
        return INTERRUPTED
    if any(verdict.is_tested for verdict in unexpected):
        return NOT_EXPECTED
    if unexpected or run.missing:
        return OUR_FAULT
    return EXPECTED if run.is_good else BAD_INPUT


def regression_status(comparison: Comparison, *, allow_empty: bool = False) -> int:
    """Return the exit status with `--fail-on regression`.

    A cell without a verdict, or an interruption, may hide a regression. A run that tested nothing is bad input, unless
    `allow_empty`.
    """
    if comparison.regressions:
        return NOT_EXPECTED
    if comparison.interrupted:
        return INTERRUPTED
    if any(change.kind == "no verdict" for change in comparison.changes):
        return OUR_FAULT
    tested = any(change.now not in {"", "skip"} for change in comparison.changes)
    return EXPECTED if tested or allow_empty else BAD_INPUT
