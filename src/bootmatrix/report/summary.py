"""Markdown summary of a CI system's step."""

import os
from contextlib import suppress
from pathlib import Path

from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import render

VARIABLE = "GITHUB_STEP_SUMMARY"
"""Environment variable of GitHub's and compatible runners: the summary file."""


def append_summary(context: ReportContext) -> None:
    """Append the report to the summary file, if any; errors fail no run."""
    path = os.environ.get(VARIABLE)
    if path:
        with suppress(OSError), Path(path).open("ab") as file:
            file.write(render("md", context))
