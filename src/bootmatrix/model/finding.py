"""An observation that prevents a pass."""

from __future__ import annotations

from dataclasses import dataclass

from bootmatrix.model import Evidence, Verdict

MAX_TEXT = 500
"""Characters of one piece of evidence."""

GRAVITY = (Verdict.BUILD_ERROR, Verdict.PANIC, Verdict.INFRA_ERROR, Verdict.HANG, Verdict.TIMEOUT, Verdict.FAIL)
"""Priority of verdicts. Missing files may cause any other fault, then a panic may."""


@dataclass(frozen=True)
class Finding:
    """A verdict with its one-line reason. The first finding of the worst verdict gives the reason.

    `follows` marks a consequence of another fault: it is left out beside that.
    """

    verdict: Verdict
    reason: str
    evidence: tuple[Evidence, ...] = ()
    advice: str = ""
    follows: bool = False


def piece(source: str, text: str, line: int | None = None) -> Evidence:
    """Make a piece of evidence, cut to a bounded length."""
    return Evidence(source=source, text=text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…", line=line)
