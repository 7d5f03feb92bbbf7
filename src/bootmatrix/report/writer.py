"""Writer of reports and cell pages; loads all that a run's end needs."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import write_atomic
from bootmatrix.history.values import NO_PAST, Past
from bootmatrix.model import Record, Run, Verdict
from bootmatrix.model.base import many_made
from bootmatrix.report import JUNIT_FILE, REPORT_FILE, html
from bootmatrix.report.cell_view import PAGE_FILE, CellContext, CellView, ReadConsole
from bootmatrix.report.console_view import Extent
from bootmatrix.report.context import ReportContext
from bootmatrix.report.junit import render_junit
from bootmatrix.report.summary import append_summary
from bootmatrix.report.view import ReportView, view_run
from bootmatrix.runs.consoles import read_console
from bootmatrix.runs.run_json import write_run
from bootmatrix.runs.run_store import RUN_FILE, cell_folder

MANY_PAGES = 1000
"""Number of cells from which the pages of plain passes take longer than a second."""


def write_reports(
    run: Run, folder: Path, past: Past = NO_PAST, single_file: bool = False, *, has_run: bool = False
) -> None:
    """Write all reports, each atomically, as many as can be written.

    Args:
        run: the run.
        folder: its folder; a missing console is noted in the report.
        past: cell histories and the comparison with a baseline.
        single_file: fold the consoles into report.html and write no cell pages.
        has_run: the folder has the run's file already.

    Raises OSError if a file cannot be written.
    """
    faults: list[OSError] = []
    with many_made():
        view = view_run(run, console_reader(folder), past, single_file, _has_plain_pages(run, folder))
        # On a disk that is soon full, the small files for programs come first.
        writers: tuple[Callable[[], None], ...] = (
            lambda: write_atomic(folder / JUNIT_FILE, render_junit(view)),
            *(() if has_run else (lambda: write_run(folder / RUN_FILE, run),)),
            lambda: write_atomic(folder / REPORT_FILE, html.render_html(view)),
            lambda: write_pages(view, folder),
        )
        for write in writers:
            try:
                write()
            except OSError as error:
                faults.append(error)
    if faults:
        raise faults[0]


def publish_reports(run: Run, folder: Path, past: Past, single_file: bool) -> None:
    """Write a new run's reports, and a CI step's summary, if any.

    Its file is written only if the disk had no room for it before: the index knows the one that is there.
    """
    write_reports(run, folder, past, single_file, has_run=(folder / RUN_FILE).exists())
    append_summary(ReportContext(run, console_reader(folder), past))


def console_reader(folder: Path) -> ReadConsole:
    """Return a reader of the run's consoles; it returns None for a missing one."""

    def read(record: Record) -> bytes | None:
        with suppress(InputError, OSError):
            return read_console(folder, record)
        return None

    return read


def write_page(record: Record, folder: Path) -> None:
    """Write the page of a finished cell, without siblings and history."""
    if record.verdict is not Verdict.SKIP:
        _write(CellView(record, CellContext(console_reader(folder), extent=Extent.PAGE)), folder)


def write_pages(view: ReportView, folder: Path) -> None:
    """Write the pages of all cells.

    In a large run a plain pass keeps the page that it got when it finished, and has none if it got none: writing
    thousands of pages takes longer than the rest of the report.

    Raises OSError if a page cannot be written.
    """
    for cell in view.cells:
        if cell.page and (view.complete or cell.is_special or not _page(cell.record, folder).exists()):
            _write(replace(cell, context=replace(cell.context, extent=Extent.PAGE)), folder)


def _has_plain_pages(run: Run, folder: Path) -> bool:
    """Return whether plain passes have pages, perhaps since they ended."""
    plain = next((record for record in run.records if record.verdict is Verdict.PASS), None)
    return len(run.records) <= MANY_PAGES or plain is None or _page(plain, folder).exists()


def _page(record: Record, folder: Path) -> Path:
    return cell_folder(folder, record.cell) / PAGE_FILE


def _write(cell: CellView, folder: Path) -> None:
    path = _page(cell.record, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, html.render_cell(cell), durable=False)
