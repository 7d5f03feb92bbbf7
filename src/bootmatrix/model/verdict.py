"""Verdicts, their evidence, and the findings that prevent a pass."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import AliasChoices, Field

from bootmatrix.model.base import Model


class Verdict(StrEnum):
    """The result of a cell.

    `pass` to `flaky` are verdicts on the guest; `build-error` and `infra-error` are faults of bootmatrix or the
    host; `skip` was not tried. `flaky`: the same files passed in one boot and failed in another.

    `user-pass`, `user-fail` and `user-unsupported` are those of the user tier: programs on the host's own kernel. They
    say nothing of a guest or its kernel. `user-unsupported`: user-mode emulation cannot run it.
    """

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    PANIC = "panic"
    HANG = "hang"
    TIMEOUT = "timeout"
    FLAKY = "flaky"
    BUILD_ERROR = "build-error"
    INFRA_ERROR = "infra-error"
    SKIP = "skip"
    USER_PASS = "user-pass"  # noqa: S105
    USER_FAIL = "user-fail"
    USER_UNSUPPORTED = "user-unsupported"

    @property
    def is_guests(self) -> bool:
        """True for a verdict on the guest."""
        return self not in {Verdict.BUILD_ERROR, Verdict.INFRA_ERROR, Verdict.SKIP} and not self.is_user_tier

    @property
    def is_user_tier(self) -> bool:
        """True for a verdict of the user tier."""
        return self in {Verdict.USER_PASS, Verdict.USER_FAIL, Verdict.USER_UNSUPPORTED}

    @property
    def is_tested(self) -> bool:
        """True for a verdict that the tested programs caused, in any tier."""
        return self.is_guests or self in {Verdict.USER_PASS, Verdict.USER_FAIL}


class Evidence(Model):
    """An observation on which a verdict rests.

    `source` is the channel: `result`, `console`, `kernel` (its log), `qmp`, `qemu` (its exit), `clock`, `host`.
    `line` is the line of the transcript, from 1, if the source is the console.
    """

    source: str
    text: str
    line: int | None = None


class SubResult(Model):
    """A named part of a cell: a container's exit, or one line of its TAP output."""

    name: str
    verdict: Verdict
    detail: str = ""


class KernelFault(Model):
    """A fault of kernel or firmware; `name` is its kind: `kernel oops`.

    A fatal one prevents a pass; others are reported as possible causes. `line` is the line of the transcript, from
    1; None if only the kernel's log has it. `at_s` is the time stamp, in seconds of the kernel's clock. `trace` is its
    stack trace from the first line on, bounded in number and length.
    """

    name: str
    is_fatal: bool
    text: str
    line: int | None
    at_s: float | None = None
    trace: tuple[str, ...] = ()
    advice: str = ""


class Judgement(Model):
    """A verdict with its evidence, one line of reason, and the next step.

    `is_weak` marks verdicts that rest on the console alone, on which the guest can print anything, and passes
    beside containers with power over init or the kernel: these are `privileged`, each with its means.
    """

    verdict: Verdict
    reason: str
    evidence: tuple[Evidence, ...] = ()
    subresults: tuple[SubResult, ...] = ()
    advice: str = ""
    kernel_faults: tuple[KernelFault, ...] = Field((), validation_alias=AliasChoices("kernel_faults", "troubles"))
    is_weak: bool = False
    privileged: tuple[str, ...] = ()


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
    """A verdict and its reason; the worst verdict's first finding counts.

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
