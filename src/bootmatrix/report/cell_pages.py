"""Each cell's own page, beside its record: all of its console, with an address for each line."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import write_atomic
from bootmatrix.model import Record, Verdict
from bootmatrix.report.cell_view import PAGE_FILE, CellView, ReadConsole, Surroundings
from bootmatrix.report.console_view import Extent
from bootmatrix.report.html import render_cell
from bootmatrix.report.view import ReportView
from bootmatrix.runs.run_store import cell_folder, read_console


def console_reader(folder: Path) -> ReadConsole:
    """Reads consoles of the run in a folder; one that is missing is None."""

    def read(record: Record) -> bytes | None:
        with suppress(InputError, OSError):
            return read_console(folder, record)
        return None

    return read


def write_page(record: Record, folder: Path) -> None:
    """Write the page of a cell that has just ended; of its siblings and its past that one knows nothing yet."""
    if record.verdict is not Verdict.SKIP:
        _write(CellView(record, Surroundings(console_reader(folder), extent=Extent.PAGE)), folder)


def write_pages(view: ReportView, folder: Path) -> None:
    """Write the page of every cell; in a large run only of what did not simply pass, and where there is none.

    A pass of a large run was given its page when it ended, and thousands of them take longer than all the rest.

    Raises:
        OSError: one cannot be written.
    """
    for cell in view.cells:
        if cell.page and (view.complete or _is_special(cell) or not _page(cell, folder).exists()):
            _write(replace(cell, around=replace(cell.around, extent=Extent.PAGE)), folder)


def _is_special(cell: CellView) -> bool:
    return cell.verdict != Verdict.PASS or bool(cell.state or cell.marks)


def _page(cell: CellView, folder: Path) -> Path:
    return cell_folder(folder, cell.record.cell) / PAGE_FILE


def _write(cell: CellView, folder: Path) -> None:
    path = _page(cell, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render_cell(cell), durable=False)
