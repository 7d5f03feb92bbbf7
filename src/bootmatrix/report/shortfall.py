"""Reasons other than verdicts that keep a run from success. Pure."""

from typing import NamedTuple

from bootmatrix.model import Run, Verdict
from bootmatrix.report.sanitize import one_line

KIND = "unfinished"
"""Stands in for a verdict where a form needs one per cell."""


class Shortfall(NamedTuple):
    """A cell without the verdict that it should have, or `run` for the whole run."""

    name: str
    reason: str


def shortfalls(run: Run) -> tuple[Shortfall, ...]:
    """List a run's shortfalls, in every form; none if verdicts decide."""
    if run.missing:
        why = f"no verdict: the {end_words(run)}" if run.interrupted else "no verdict: its record is missing"
        return tuple(Shortfall(one_line(name), why) for name in run.missing)
    if run.interrupted:
        return (Shortfall("run", f"the {end_words(run)}"),)
    tested = any(record.verdict is not Verdict.SKIP for record in run.records)
    return () if tested or run.is_good else (Shortfall("run", "nothing was tested: no cell was run"),)


def end_words(run: Run) -> str:
    """Describe the end of an incomplete run: `run was interrupted: disk full`."""
    return "run is still under way" if run.under_way else one_line(f"run was {run.incomplete_words}")
