"""Pages of single cells, beside their records: the whole console, a link for each line."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import write_atomic
from bootmatrix.model import Record, Verdict
from bootmatrix.report.cell_view import PAGE_FILE, CellContext, CellView, ReadConsole
from bootmatrix.report.console_view import Extent
from bootmatrix.report.html import render_cell
from bootmatrix.report.view import ReportView
from bootmatrix.runs.run_store import cell_folder, read_console


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

    In a large run a plain pass keeps the page that it got when it finished: rewriting thousands of pages takes longer
    than the rest of the report.

    Raises:
        OSError: a page cannot be written.
    """
    for cell in view.cells:
        if cell.page and (view.complete or _is_special(cell) or not _page(cell, folder).exists()):
            _write(replace(cell, context=replace(cell.context, extent=Extent.PAGE)), folder)


def _is_special(cell: CellView) -> bool:
    return cell.verdict != Verdict.PASS or bool(cell.state or cell.marks)


def _page(cell: CellView, folder: Path) -> Path:
    return cell_folder(folder, cell.record.cell) / PAGE_FILE


def _write(cell: CellView, folder: Path) -> None:
    path = _page(cell, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render_cell(cell), durable=False)
