"""What is said of a cell."""

from enum import StrEnum

from pydantic import AliasChoices, Field

from bootmatrix.model.base import Model


class Verdict(StrEnum):
    """`pass` to `flaky` speak of the guest, `build-error` and `infra-error` of us; `skip` was never tried.

    `flaky` is a cell of which the same files passed in one boot and failed in another.
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

    @property
    def is_guests(self) -> bool:
        """Whether it speaks of the guest."""
        return self not in {Verdict.BUILD_ERROR, Verdict.INFRA_ERROR, Verdict.SKIP}


class Evidence(Model):
    """One observation that a verdict rests on: where it was seen, what was seen.

    `source` is the channel: `result`, `console`, `kernel` (its own account), `qmp`, `qemu` (its exit), `clock`, `host`.
    `line` is that of the transcript, from 1, for the console's.
    """

    source: str
    text: str
    line: int | None = None


class SubResult(Model):
    """A named part of a cell: a container's exit, or one line of the TAP that it printed."""

    name: str
    verdict: Verdict
    detail: str = ""


class KernelFault(Model):
    """A fault that the kernel or the firmware reported; `name` is its kind, such as `kernel oops`.

    A fatal one keeps the cell from passing; another is worth knowing, and perhaps the cause. `line` is that of the
    transcript, from 1, None where only the kernel's log has it; `trace` has the lines of its stack trace, the first one
    included, bounded in number and length.
    """

    name: str
    is_fatal: bool
    text: str
    line: int | None
    trace: tuple[str, ...] = ()
    advice: str = ""


class Judgement(Model):
    """A verdict with what it rests on. `reason` is one line for people; `advice` says what to do next.

    `is_weak` marks what was judged by the console alone, which whatever runs in the guest can print; and a pass beside
    containers that the spec gives power over init or the kernel: these are `privileged`, each with what it has.
    `kernel_faults` was `troubles` in format 1.
    """

    verdict: Verdict
    reason: str
    evidence: tuple[Evidence, ...] = ()
    subresults: tuple[SubResult, ...] = ()
    advice: str = ""
    kernel_faults: tuple[KernelFault, ...] = Field((), validation_alias=AliasChoices("kernel_faults", "troubles"))
    is_weak: bool = False
    privileged: tuple[str, ...] = ()
