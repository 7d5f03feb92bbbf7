"""One thing that stands in the way of a pass."""

from __future__ import annotations

from dataclasses import dataclass

from bootmatrix.model import Evidence, Verdict

MAX_TEXT = 500
"""Characters of one piece of evidence."""

GRAVITY = (Verdict.BUILD_ERROR, Verdict.PANIC, Verdict.INFRA_ERROR, Verdict.HANG, Verdict.TIMEOUT, Verdict.FAIL)
"""Which verdict prevails. Whatever else went wrong may be due to files that the guest lacks, then to a panic."""


@dataclass(frozen=True)
class Finding:
    """A verdict with its reason in one line. Among complaints of one verdict, the first one is the reason given.

    `follows` marks what a fault reported elsewhere brings with it: beside that it need not be told.
    """

    verdict: Verdict
    reason: str
    evidence: tuple[Evidence, ...] = ()
    advice: str = ""
    follows: bool = False


def piece(source: str, text: str, line: int | None = None) -> Evidence:
    """A piece of evidence, cut to a bounded length."""
    return Evidence(source=source, text=text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…", line=line)
