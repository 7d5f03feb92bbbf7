"""One issue for each cell that fails on the main branch: opened, updated, closed."""

from collections.abc import Callable, Iterable
from typing import Protocol

from bootmatrix.forge.api import ForgePlace
from bootmatrix.forge.message import issue, mark
from bootmatrix.model import Record, Verdict
from bootmatrix.report.context import ReportContext

MAX_ISSUES = 20
"""Issues that one run opens: a broken kernel must not flood a project."""
LABEL = "bootmatrix"


class IssueTracker(Protocol):
    """A project's issues with our label; NetworkError if the API fails."""

    def known(self) -> Iterable[tuple[str, int]]:
        """Yield text and number of each open issue of ours."""

    def open(self, title: str, text: str, is_done: Callable[[], bool]) -> None:
        """Open an issue; `is_done` tells whether one is open, if an answer was lost."""

    def update(self, number: int, title: str, text: str) -> None:
        """Replace title and text of an issue."""

    def close(self, number: int) -> None:
        """Close an issue."""


def tell_issues(tracker: IssueTracker, place: ForgePlace, context: ReportContext) -> str:
    """Open, update and close the issues of a run's cells; return the numbers.

    Cells without a verdict of this run keep their issues.

    Raises NetworkError if one cannot be written.
    """
    if not place.is_main:
        return "not the main branch: no issues"
    known = _known(tracker)
    counts = dict.fromkeys(("opened", "updated", "closed", "not opened"), 0)
    for record in context.records:
        done = _tell(tracker, record, known.get(mark(record.cell.id)), place.link, counts["opened"] < MAX_ISSUES)
        if done:
            counts[done] += 1
    left_out = counts.pop("not opened")
    words = ", ".join(f"{number} {name}" for name, number in counts.items())
    return f"issues: {words}" + (f", {left_out} more not opened" if left_out else "")


def _known(tracker: IssueTracker) -> dict[str, int]:
    """Return the numbers of our open issues, by their marks."""
    known: dict[str, int] = {}
    for text, number in tracker.known():
        known.setdefault(text.partition("\n")[0].rstrip("\r"), number)
    return known


def _tell(tracker: IssueTracker, record: Record, number: int | None, link: str, may_open: bool) -> str:
    """Write a cell's issue, if needed; return what was done, or empty."""
    if record.verdict is Verdict.PASS:
        if number is None:
            return ""
        tracker.close(number)
        return "closed"
    if not record.verdict.is_guests or record.expected:
        return ""
    if number is not None:
        tracker.update(number, *issue(record, link))
        return "updated"
    if not may_open:
        return "not opened"
    tracker.open(*issue(record, link), lambda: mark(record.cell.id) in _known(tracker))
    return "opened"
