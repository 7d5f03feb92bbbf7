"""JUnit XML report."""

from bootmatrix.report.context import ReportContext
from bootmatrix.report.junit import render_junit


def render(context: ReportContext) -> bytes:
    """Return the document."""
    return render_junit(context.view)
