"""The run as it is kept; `bootmatrix schema run` describes it."""

from __future__ import annotations

from bootmatrix.report.given import Given
from bootmatrix.runs import model_bytes


def render(given: Given) -> bytes:
    """The contents of run.json."""
    return model_bytes(given.run)
