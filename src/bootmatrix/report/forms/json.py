"""JSON report: run.json, described by `bootmatrix schema run`."""

import re

from bootmatrix.report.context import ReportContext
from bootmatrix.runs.run_json import run_pieces

CONTROLS = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e]")
"""Characters that JSON allows unescaped and a terminal may interpret."""


def render(context: ReportContext) -> bytes:
    """Return the contents of run.json with those characters escaped."""
    text = b"".join(run_pieces(context.run)).decode("utf-8")
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode("utf-8")
