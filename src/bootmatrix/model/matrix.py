"""Which cells to run: what a `*.matrix.yml` says."""

from typing import Annotated

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Model
from bootmatrix.model.cell import BootKind, ConsoleRule, ConsoleText, Timeouts

MAX_AGAIN = 10
"""The most that a cell may be tried again: what has not come by then is not worth the time."""

Reason = Annotated[str, StringConstraints(min_length=1)]


class Pattern(Model):
    """Cells that match everything given; what is not given matches all.

    `arch` is `arch`, `arch/machine` or either with `@cpu`; without a machine or a CPU model it means all of them.
    """

    spec: str | None = None
    arch: str | None = None
    kernel: str | None = None


class Exclude(Pattern):
    """Cells not to run, and why."""

    reason: Reason


class Xfail(Pattern):
    """Cells that are known not to pass, and why."""

    reason: Reason


class ConsolePattern(Pattern, ConsoleRule):
    """Console text that proves a pass of these cells."""


class Expect(Pattern):
    """Deprecated: an `xfail` entry if it has a `reason`, else a `console` entry."""

    reason: Reason | None = None
    console: ConsoleText | None = None
    forbid: tuple[ConsoleText, ...] = ()
    stays: bool = False


class QemuArgs(Pattern):
    """Further arguments of QEMU for cells, as a shell would split them; a drive's file is relative to the matrix."""

    args: Annotated[str, StringConstraints(min_length=1)]


class Include(Model):
    """One more cell, outside of the product."""

    spec: str
    arch: str
    kernel: str


class Matrix(Model):
    """Specs × arch × kernel, with its exceptions. Paths of specs are relative to the file.

    `retries` and `flaky` say how often a cell is tried again: after a fault of ours, and after a failure of its guest.
    `images` are sources by the names of images, or globs of them, in whose place they are taken.
    """

    specs: tuple[str, ...] = Field(min_length=1)
    arch: tuple[str, ...] = Field(min_length=1)
    kernel: tuple[str, ...] = Field(min_length=1)
    include: tuple[Include, ...] = ()
    exclude: tuple[Exclude, ...] = ()
    xfail: tuple[Xfail, ...] = ()
    console: tuple[ConsolePattern, ...] = ()
    expect: tuple[Expect, ...] = Field(default=(), json_schema_extra={"deprecated": True})
    images: dict[str, str] = {}
    qemu_args: tuple[QemuArgs, ...] = ()
    timeouts: Timeouts = Timeouts()
    boot: BootKind = "cold"
    retries: int = Field(default=1, ge=0, le=MAX_AGAIN)
    flaky: int = Field(default=0, ge=0, le=MAX_AGAIN)
    notes: tuple[str, ...] = ()
