"""What a run leaves for people and for machines: report.html, junit.xml and run.json in its folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.errors import InputError
from bootmatrix.history.values import NO_PAST, Past

if TYPE_CHECKING:
    from bootmatrix.model import Record, Run

REPORT_FILE = "report.html"
JUNIT_FILE = "junit.xml"


def write_reports(run: Run, folder: Path, past: Past = NO_PAST) -> None:
    """Write all forms of the report into the run's folder, each whole or not at all.

    A console that is missing is said to be so. `past` is what is known beside the run: its cells' histories, and how it
    stands beside a baseline.

    Raises:
        OSError: a file cannot be written.
    """
    # Imported here, so that the words which this package gives a terminal are to be had without jinja2.
    from bootmatrix.report.html import render_html
    from bootmatrix.report.junit import render_junit
    from bootmatrix.report.view import view_run
    from bootmatrix.runs import RUN_FILE, read_console, write_model, write_whole

    def console(record: Record) -> bytes | None:
        with suppress(InputError, OSError):
            return read_console(folder, record)
        return None

    view = view_run(run, console, past)
    write_whole(folder / REPORT_FILE, render_html(view))
    write_whole(folder / JUNIT_FILE, render_junit(view))
    write_model(folder / RUN_FILE, run)
