"""The unit of work: one spec × machine × kernel."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Board, Model, Name
from bootmatrix.model.image import ImageOverride

BootKind = Literal["cold", "fork"]
"""From power-on, or as a copy of a guest that was booted before."""


class Timeouts(Model):
    """Limits in seconds for the fastest machine; each machine multiplies them by its time factor.

    `silence` is how long a guest may show nothing on any channel, in any phase.
    """

    boot: float = 60
    onboot: float = 120
    services: float = 60
    shutdown: float = 30
    silence: float = 60


class Traits(Model):
    """What may matter to a program about an architecture and a kernel, beside their names.

    `kernel_version` is what kernels of one version share: `7.2` for `7.2-64k` too.
    """

    bits: Literal[32, 64]
    endian: Literal["little", "big"]
    page_kib: int
    kernel_version: str


ConsoleText = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A piece of one line of a console."""


class ConsoleProof(Model):
    """How a guest without our init shows that all is well: `console` stands in a line, and nothing of `forbid` in any.

    Such a guest has to leave by itself; one that `stays` is ended soon after it has shown the text.
    """

    console: ConsoleText
    forbid: tuple[ConsoleText, ...] = ()
    stays: bool = False


class ConsoleRule(Model):
    """A ConsoleProof as files write it."""

    text: ConsoleText
    forbid: tuple[ConsoleText, ...] = ()
    stays: bool = False

    @property
    def proof(self) -> ConsoleProof:
        """The proof that the guest must show."""
        return ConsoleProof(console=self.text, forbid=self.forbid, stays=self.stays)


class Cell(Model):
    """One spec × machine × kernel. `spec` is the spec's file, `spec_name` the part of the id made from it.

    `machine` may name a CPU model too, `virt@cortex-a72`. `machine_is_default` keeps the profile's first machine out of
    the id. `expect` is the reason for which this cell is known not to pass, `proof` what a pass of a guest looks like
    that is not ours. `traits` is None where the profile has no such kernel. It is tried again `retries` times after
    faults of ours, `flaky` times after those of its guest. `qemu_args` are arguments beyond its machine's.
    """

    spec: str
    spec_name: Name
    arch: Name
    machine: Board
    machine_is_default: bool
    kernel: Name
    expect: str = ""
    proof: ConsoleProof | None = None
    timeouts: Timeouts = Timeouts()
    retries: int = 1
    boot: BootKind = "cold"
    verify: bool = False
    traits: Traits | None = None
    flaky: int = 0
    qemu_args: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """`spec/arch[/machine][@cpu]/kernel`."""
        return f"{self.spec_name}/{self.target}/{self.kernel}"

    @property
    def target(self) -> str:
        """`arch`, `arch/machine`, `arch@cpu` or `arch/machine@cpu`."""
        _, at, cpu = self.machine.partition("@")
        return f"{self.arch}{at}{cpu}" if self.machine_is_default else f"{self.arch}/{self.machine}"


class Skip(Model):
    """A cell that is not run, and why."""

    cell: Cell
    reason: str


class Plan(Model):
    """The cells of a matrix, the skipped ones, and the user's image overrides. `notes` are not saved."""

    cells: tuple[Cell, ...]
    skips: tuple[Skip, ...] = ()
    images: tuple[ImageOverride, ...] = ()
    notes: tuple[str, ...] = Field(default=(), exclude=True)
