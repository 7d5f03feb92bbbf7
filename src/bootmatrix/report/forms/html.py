"""The report as one HTML file."""

from __future__ import annotations

from bootmatrix.report.context import ReportContext
from bootmatrix.report.html import render_html
from bootmatrix.report.view import view_run


def render(given: ReportContext) -> bytes:
    """The document, with the consoles folded in: it stands alone."""
    return render_html(view_run(given.run, given.read_console, given.past, single_file=True))
