"""The run as it is kept; `bootmatrix schema run` describes it."""

from __future__ import annotations

import re

from bootmatrix.report.context import ReportContext
from bootmatrix.runs.run_json import run_pieces

CONTROLS = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e]")
"""What JSON lets stand as it is, and a terminal may not."""


def render(given: ReportContext) -> bytes:
    """The contents of run.json, fit to be shown on a terminal: such characters are written by their numbers."""
    text = b"".join(run_pieces(given.run)).decode("utf-8")
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8")
