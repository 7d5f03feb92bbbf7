"""The report as JUnit's XML."""

from __future__ import annotations

from bootmatrix.report.context import ReportContext
from bootmatrix.report.junit import render_junit


def render(given: ReportContext) -> bytes:
    """The document."""
    return render_junit(given.view)
