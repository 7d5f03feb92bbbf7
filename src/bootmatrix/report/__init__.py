"""What a run leaves for people and for machines: report.html, junit.xml and run.json, and a page beside each record."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootmatrix.history.values import Past
    from bootmatrix.model import Run

REPORT_FILE = "report.html"
JUNIT_FILE = "junit.xml"

MODULES = (
    *("history.extract", "history.index", "history.past", "history.reference"),
    *("report.cell_pages", "report.context", "report.index_page", "report.junit", "report.summary"),
)


def load() -> None:
    """Load what writes a run's reports and pages, ahead of time."""
    from bootmatrix.report.html import load_templates

    for name in MODULES:
        import_module(f"bootmatrix.{name}")
    load_templates()


def write_reports(run: Run, folder: Path, past: Past | None = None, single_file: bool = False) -> None:
    """Write all forms of the report into the run's folder, each whole or not at all.

    A console that is missing is said to be so. `past` is what is known beside the run: its cells' histories, and how it
    stands beside a baseline. `single_file` folds the consoles into report.html, and writes no pages.

    Raises:
        OSError: a file cannot be written.
    """
    # Imported here, so that the words which this package gives a terminal are to be had without all this.
    from bootmatrix.fsio import write_atomic
    from bootmatrix.history.values import NO_PAST
    from bootmatrix.model.base import many_made
    from bootmatrix.report.cell_pages import console_reader, write_pages
    from bootmatrix.report.html import render_html
    from bootmatrix.report.junit import render_junit
    from bootmatrix.report.view import view_run
    from bootmatrix.runs.run_json import write_run
    from bootmatrix.runs.run_store import RUN_FILE

    with many_made():
        view = view_run(run, console_reader(folder), past or NO_PAST, single_file)
        write_atomic(folder / REPORT_FILE, render_html(view))
        write_pages(view, folder)
        write_atomic(folder / JUNIT_FILE, render_junit(view))
        write_run(folder / RUN_FILE, run)
