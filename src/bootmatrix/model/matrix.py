"""Matrix files: the cells to run."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Model, Name
from bootmatrix.model.cell import BootKind, ConsoleRule, ConsoleText, Network, RootPlace, Tier, Timeouts
from bootmatrix.model.guest_size import LimitText, SizeRequest
from bootmatrix.model.kernel import VaBits

MAX_AGAIN = 10
"""Maximum of retries per cell."""

Reason = Annotated[str, StringConstraints(min_length=1)]


class Pattern(Model):
    """A pattern of cells: all keys must match, and a missing key matches all.

    `arch` is `arch`, `arch/machine` or either with `@cpu`; without a machine or a CPU model it matches all of them.
    """

    spec: str | None = None
    arch: str | None = None
    kernel: str | None = None


class Exclude(Pattern):
    """Cells that are not run, with the reason."""

    reason: Reason


class Xfail(Pattern):
    """Known failures, with the reason."""

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
    """Extra QEMU arguments in shell syntax; files beside the matrix."""

    args: Annotated[str, StringConstraints(min_length=1)]


class ResourceRule(Pattern, SizeRequest):
    """Memory, CPUs and scratch disks of cells; the last matching entry counts."""


PageSize = Literal["all", "4k", "8k", "16k", "32k", "64k", "256k"]
"""A page size, or all that an architecture's kernels have."""


class Include(Model):
    """A cell outside of the product."""

    spec: str
    arch: str
    kernel: str


class Matrix(Model):
    """Specs × arch × kernel with exceptions; paths are from the file's.

    `retries` limits attempts after infra errors, `flaky` those after failures of the guest. `images` maps image
    names or globs to the sources that replace them. `page_size` chooses kernels, `bits`,
    `kernel_bits`, `endian` and `cpu` machines, `va_bits` both.
    `append` is added to the kernel command line, `limit` replaces the time limits of checks, `get_limit` limits result
    files. `fail_on` names kernel messages that fail a cell and are notes otherwise, such as `kernel warning`.
    `network` replaces that of the specs.
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
    resources: tuple[ResourceRule, ...] = ()
    page_size: tuple[PageSize, ...] = ()
    va_bits: tuple[Literal["all"] | VaBits, ...] = ()
    bits: tuple[Literal[32, 64], ...] = ()
    kernel_bits: tuple[Literal[32, 64], ...] = ()
    endian: tuple[Literal["little", "big"], ...] = ()
    cpu: tuple[Name, ...] = ()
    append: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000)] = ""
    limit: float | None = Field(default=None, gt=0, le=24 * 3600)
    fail_on: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    boot: BootKind = "cold"
    roots: RootPlace = "auto"
    get_limit: LimitText | None = None
    network: Network | None = None
    tier: tuple[Tier, ...] = ("system",)
    retries: int = Field(default=1, ge=0, le=MAX_AGAIN)
    flaky: int = Field(default=0, ge=0, le=MAX_AGAIN)
    notes: tuple[str, ...] = ()
