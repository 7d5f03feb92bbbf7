"""The summary of a CI system's step: Markdown, added to a file that it names."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import render

VARIABLE = "GITHUB_STEP_SUMMARY"
"""Environment variable of GitHub's runners, and of those that are compatible."""


def append_summary(given: ReportContext) -> None:
    """Add to the file, where there is one. A summary that cannot be written is no reason for a run to fail."""
    path = os.environ.get(VARIABLE)
    if path:
        with suppress(OSError), Path(path).open("ab") as file:
            file.write(render("md", given))
