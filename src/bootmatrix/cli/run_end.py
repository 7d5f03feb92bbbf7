"""The end of a run or merge: index page, changes, exit status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli.exits import exit_status, regression_status
from bootmatrix.cli.output import complain, say
from bootmatrix.report.history_text import comparison_lines
from bootmatrix.report.index_page import write_index

if TYPE_CHECKING:
    from bootmatrix.history.values import Comparison
    from bootmatrix.model import Run


def update_index(reports: Path) -> None:
    """Update the index page of all runs; a failure does not affect this run."""
    try:
        write_index(reports)
    except OSError as error:
        complain(f"bootmatrix: the index page is out of date: {error}")


def end_run(run: Run, comparison: Comparison | None, *, regressions_only: bool) -> int:
    """Print the changes since the baseline and return the exit status."""
    if comparison:
        say(*comparison_lines(comparison))
    if regressions_only and comparison and not (run.interrupted or run.missing):
        return regression_status(comparison, allow_empty=run.is_good)
    return exit_status(run)
