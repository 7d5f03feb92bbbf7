"""An observation that prevents a pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bootmatrix.model import Evidence, Verdict

MAX_TEXT = 500
"""Characters of one piece of evidence."""

GRAVITY = (
    Verdict.BUILD_ERROR,
    Verdict.PANIC,
    Verdict.INFRA_ERROR,
    Verdict.HANG,
    Verdict.TIMEOUT,
    Verdict.FAIL,
    Verdict.SKIP,
)
"""Priority of verdicts. Missing files may cause any other fault, then a panic may."""
KERNEL_GRAVITY = GRAVITY.index(Verdict.INFRA_ERROR) + 0.5
"""Priority of other faults that the kernel itself reports: its hangs, timeouts and failures may follow from them."""


@dataclass(frozen=True)
class Finding:
    """A verdict with its one-line reason. The first finding of the worst verdict gives the reason.

    `cause` is set if the kernel itself reported a fault: a `stall`, for which a busy host may be the cause, or any
    other. `follows` marks a consequence of another fault: it is left out beside that.
    """

    verdict: Verdict
    reason: str
    evidence: tuple[Evidence, ...] = ()
    advice: str = ""
    cause: Literal["", "kernel", "stall"] = ""
    follows: bool = False

    @property
    def gravity(self) -> float:
        """The priority of this finding; the lowest comes first."""
        return KERNEL_GRAVITY if self.cause and self.verdict is Verdict.FAIL else GRAVITY.index(self.verdict)


def piece(source: str, text: str, line: int | None = None) -> Evidence:
    """Make a piece of evidence, cut to a bounded length."""
    return Evidence(source=source, text=text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…", line=line)
