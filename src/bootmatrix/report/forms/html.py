"""HTML report in one file."""

from bootmatrix.report.context import ReportContext
from bootmatrix.report.html import render_html
from bootmatrix.report.view import view_run


def render(context: ReportContext) -> bytes:
    """Return the self-contained document, consoles included."""
    return render_html(view_run(context.run, context.read_console, context.past, single_file=True))
