"""The run as it is kept; `bootmatrix schema run` describes it."""

from __future__ import annotations

from bootmatrix.report.given import Given
from bootmatrix.runfile import run_pieces


def render(given: Given) -> bytes:
    """The contents of run.json."""
    return b"".join(run_pieces(given.run))
