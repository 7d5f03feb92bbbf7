"""Totals of cells: those as expected, and the worst of the others. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from bootmatrix.model import Record, Verdict
from bootmatrix.report.order import WORST_FIRST


@dataclass(frozen=True)
class Total:
    """A total: `text` is `7/8`, `verdict` the worst unexpected."""

    text: str
    words: str
    verdict: str


def total(records: Iterable[Record]) -> Total | None:
    """Count the cells that are as expected; None if all were skipped."""
    tried = [record for record in records if record.verdict is not Verdict.SKIP]
    if not tried:
        return None
    wrong = sorted((record.verdict for record in tried if not record.expected), key=WORST_FIRST.index)
    good = len(tried) - len(wrong)
    return Total(f"{good}/{len(tried)}", f"{good} of {len(tried)} as expected", wrong[0].value if wrong else "pass")
