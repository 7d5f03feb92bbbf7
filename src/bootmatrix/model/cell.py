"""The unit of work: one spec × machine × kernel."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Board, Model, Name
from bootmatrix.model.guest_size import GuestSize
from bootmatrix.model.image import ImageOverride

BootKind = Literal["cold", "fork"]
"""A cold boot from power-on, or a clone of a guest that was booted before."""
RootPlace = Literal["auto", "ram", "disk"]
"""Place of containers' roots in a cold boot. `auto`: those of large images on disks, where possible."""


Tier = Literal["user", "docker", "hardware", "system"]
"""`user`: programs on the host's kernel, by user-mode emulation. `docker`: containers on the kernel of an engine's
host. `hardware`: containers on a board's own kernel. `system`: a guest that is booted.
"""


Network = Literal["none", "guest", "outbound"]
"""`guest`: a card on a network without anybody else. `outbound`: one that leads to the internet, and nowhere near."""


class Timeouts(Model):
    """Limits in s for the fastest machine, times each machine's factor.

    `silence` limits the time without output on any channel, in any phase.
    """

    boot: float = 60
    onboot: float = 120
    services: float = 60
    shutdown: float = 30
    silence: float = 60


class Traits(Model):
    """Properties of an architecture and a kernel for programs that read results.

    `kernel_version` is shared by kernels of one version: `7.2` for `7.2-64k` too. `va_bits` is the width of addresses,
    if known; `kernel_bits` the kernel's word size, if it is not the programs'.
    """

    bits: Literal[32, 64]
    endian: Literal["little", "big"]
    page_kib: int
    kernel_version: str
    va_bits: int | None = None
    kernel_bits: Literal[32, 64] | None = None


PRINTABLE = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
ConsoleText = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=PRINTABLE)]
"""Text within one line of a console, not blank."""


class ConsoleProof(Model):
    """Console text that proves a pass of a guest with a foreign init.

    `console` must occur in a line, and no text of `forbid` in any. Such a guest must shut down by itself; if it
    `stays`, it is stopped soon after the text.
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
    """One spec × machine × kernel; `spec` the file, `spec_name` in the id.

    `machine` may include a CPU model, `virt@cortex-a72`. `machine_is_default`: the id leaves the machine out.
    `expect` is the reason of a known failure. `proof` is the console text that proves a pass of a foreign guest.
    `traits` is None if the profile lacks the kernel. The cell is retried `retries` times after infra errors, and
    `flaky` times after failures of its guest. `qemu_args` are arguments beyond the machine's. `size` replaces the
    machine's memory and CPUs, `append` is added to the kernel command line, and `limit_s` replaces the checks' limits.
    `fail_on` names kernel messages that fail the cell although they are notes elsewhere.
    `get_limit` is the limit of result files, in bytes.
    `network` replaces that of the spec.
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
    size: GuestSize = GuestSize()
    append: str = ""
    limit_s: float | None = None
    fail_on: tuple[str, ...] = ()
    roots: RootPlace = "auto"
    get_limit: int | None = None
    network: Network | None = None
    tier: Tier = "system"

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
    """A cell that is not run, with the reason."""

    cell: Cell
    reason: str


class Part(Model):
    """Description of a plan that is a part of another one.

    `words` is for people: `shard 2/4`. `title` is the other plan's. `shard` is `2/4` or empty. `whole` has the ids of
    all cells and skips of all shards.
    """

    words: str
    title: str = ""
    shard: str = ""
    whole: tuple[str, ...] = ()

    @property
    def choice(self) -> str:
        """The words without the shard: what all shards together are confined to."""
        return ", ".join(word for word in self.words.split(", ") if word != f"shard {self.shard}")


class Plan(Model):
    """A matrix's cells, skipped ones, image overrides; `notes` are not saved.

    `part` is set if it is a part of another plan.
    """

    cells: tuple[Cell, ...]
    skips: tuple[Skip, ...] = ()
    images: tuple[ImageOverride, ...] = ()
    notes: tuple[str, ...] = Field(default=(), exclude=True)
    part: Part | None = None

    @property
    def counts(self) -> str:
        """Numbers of cells: `1 cell, 0 skipped`."""
        return f"{len(self.cells)} cell{'' if len(self.cells) == 1 else 's'}, {len(self.skips)} skipped"
