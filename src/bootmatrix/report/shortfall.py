"""Whatever stands in the way of a run's success beside the verdicts of its cells. Pure."""

from __future__ import annotations

from typing import NamedTuple

from bootmatrix.model import Run, Verdict
from bootmatrix.report.sanitize import one_line

KIND = "unfinished"
"""In the place of a verdict, where a form has a word for each cell."""


class Shortfall(NamedTuple):
    """A cell that should have a verdict and has none, or `run` for what is wrong with the whole."""

    name: str
    reason: str


def shortfalls(run: Run) -> tuple[Shortfall, ...]:
    """All of a run; none if its records alone say whether it is good. Every form of the report shows them."""
    if run.missing:
        why = "no verdict: the run was interrupted" if run.interrupted else "no verdict: its record is missing"
        return tuple(Shortfall(one_line(name), why) for name in run.missing)
    if run.interrupted:
        return (Shortfall("run", "the run was interrupted"),)
    tested = any(record.verdict is not Verdict.SKIP for record in run.records)
    return () if tested or run.is_good else (Shortfall("run", "nothing was tested: no cell was run"),)
