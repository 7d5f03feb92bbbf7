"""Records of a run: one per cell."""

from collections import Counter
from typing import Literal

from pydantic import AliasChoices, Field

from bootmatrix.model.artefact import Artefact, Bootable
from bootmatrix.model.base import Model, RunName, Time
from bootmatrix.model.cell import BootKind, Cell, Plan
from bootmatrix.model.contents import Component, ImageContents, product_of
from bootmatrix.model.kernel import Kernel
from bootmatrix.model.outcome import Outcome
from bootmatrix.model.profile import Machine
from bootmatrix.model.user_tier import UserOutcome
from bootmatrix.model.verdict import Judgement, Verdict

LOCAL = "local"
"""The executor of this host."""


class PhaseTime(Model):
    """Duration of a phase in seconds, from the start of the phase before."""

    name: str
    seconds: float


class ResultFile(Model):
    """A file that a container left. `file` is relative to the record's folder.

    `size_bytes` is the guest's figure for the whole file; the saved file may be truncated. A folder `is_tree`: it is
    saved as a tar of `files` files. `notes` say what is missing.
    """

    container: str
    path: str
    file: str
    size_bytes: int
    is_cut: bool = False
    is_tree: bool = False
    files: int = 1
    notes: tuple[str, ...] = ()


class AttemptRecord(Model):
    """An attempt at a retried cell.

    `outcome` is None if it did not boot. `console` is a file beside the record; empty if it saved none.
    """

    judgement: Judgement
    outcome: Outcome | None = None
    console: str = ""
    started_at: Time


class Record(Model):
    """A complete cell of a run.

    `command` repeats the boot by hand; `console` is a file beside the record. `expected` is false for a cell that
    prevents exit status 0: a guest verdict other than pass without `expect`, or a pass despite `expect`.
    `user_outcome` has the observations of the user tier, in the place of `outcome`.
    `machine_profile` and `bootable` are the inputs of the verdict, for judging again. `attempt_records` (`tries` in
    format 1) holds every attempt, in order, of a cell that was tried more than once; all other fields are of the
    decisive one. `spec_sha256` is a digest of the spec's content, empty if not recorded. `host` is the name of the
    cluster's host that ran the cell, empty for the run's own.
    """

    cell: Cell
    judgement: Judgement
    expected: bool
    outcome: Outcome | None = None
    user_outcome: UserOutcome | None = None
    kernel: Kernel | None = None
    artefacts: tuple[Artefact, ...] = ()
    phases: tuple[PhaseTime, ...] = ()
    command: tuple[str, ...] = ()
    cmdline: str = ""
    qemu_version: str = ""
    console: str = ""
    files: tuple[ResultFile, ...] = ()
    notes: tuple[str, ...] = ()
    boot: BootKind = "cold"
    cold_reason: str = ""
    verified: bool = False
    attempts: int = 1
    attempt_records: tuple[AttemptRecord, ...] = Field((), validation_alias=AliasChoices("attempt_records", "tries"))
    started_at: Time
    wall_s: float
    spec_sha256: str = ""
    host: str = ""
    machine_profile: Machine | None = None
    bootable: Bootable | None = None

    def __repr__(self) -> str:
        """Name the cell and its verdict: all fields take 15 kB. `model_dump()` has them."""
        return f"<Record {self.cell.id}: {self.verdict.value} in {self.wall_s:.1f} s>"

    __str__ = __repr__

    @property
    def verdict(self) -> Verdict:
        """The judgement's verdict."""
        return self.judgement.verdict

    @property
    def contents(self) -> tuple[ImageContents, ...]:
        """Contents of the guest by image; empty if prebuilt, or in old records."""
        return self.bootable.contents if self.bootable else ()

    @property
    def product(self) -> tuple[Component, ...]:
        """The tested product; of a guest of unknown contents, its images or its disk."""
        named = product_of(self.contents)
        if named or self.contents:
            return named
        return tuple(
            Component(kind=artefact.kind, name=artefact.name, sha256=artefact.sha256, is_named=True)
            for artefact in self.artefacts
            if artefact.kind in {"image", "disk"}
        )


class RunRequest(Model):
    """The request of a run.

    `inputs` has digests of its inputs, by name. `locked`: it is confined to its lock. `allow_empty`: a run without
    cells is a success. `executor` and `cluster`, a file, are where its cells run. `commit` is under test. `archive` is
    the address that was named, `offline` and `allow_older_release` are further options of its sources.
    """

    plan: Plan
    inputs: dict[str, str] = {}
    locked: bool = False
    allow_empty: bool = False
    executor: str = LOCAL
    cluster: str = ""
    commit: str = ""
    archive: str = ""
    offline: bool = False
    allow_older_release: bool = False


class AcceptanceRecord(Model):
    """A person's acceptance of a failure; `cell` may be a pattern.

    It does not hold for the cells `passed`, which passed since and failed again.
    """

    cell: str
    reason: str
    by: str
    at: str
    until: str
    passed: tuple[str, ...] = ()


class MachineUse(Model):
    """Machines that were started for a run, their paid time, and prices.

    `hour` is the price of a machine's hour, `month` that of one that is always on.
    """

    machines: int
    paid_s: float
    hour: float | None = None
    month: float | None = None

    @property
    def cost(self) -> float:
        """Return the cost of the time; 0 without a price."""
        return self.paid_s / 3600 * (self.hour or 0)


class Run(Model):
    """One execution of a matrix, in UTC (RFC 3339); `format` is its layout's.

    `ended_at` is empty for a run that was killed; `unfinished` names the cells that had begun and have no record.
    `interruption` is the reason of an interruption: `SIGTERM`, `disk full`, `killed`.
    `baseline` is the name of the run compared with, if any. `order` is the request, kept for resuming; `resumed`
    has the times at which the run was resumed. `branch` is the branch under test, if any. `accepted` are the accepted
    failures at the run's end. `machines` were started for it: an entry for each time that
    it was begun or resumed. `under_way` is not stored: a process writes to the run.
    """

    format: int = 2
    name: str
    title: str
    tool_version: str
    started_at: Time
    ended_at: Literal[""] | Time = ""
    wall_s: float = 0
    interrupted: bool = False
    interruption: str = ""
    host: dict[str, str] = {}
    baseline: RunName = ""
    branch: str = ""
    accepted: tuple[AcceptanceRecord, ...] = ()
    records: tuple[Record, ...] = ()
    unfinished: tuple[str, ...] = ()
    order: RunRequest | None = None
    resumed: tuple[str, ...] = ()
    machines: tuple[MachineUse, ...] = ()
    under_way: bool = Field(default=False, exclude=True)

    def __repr__(self) -> str:
        """Name the run, and count its cells by verdict."""
        counts = Counter(record.verdict.value for record in self.records)
        cells = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        return f"<Run {self.name}: {cells or 'no records'}>"

    __str__ = __repr__

    @property
    def incomplete(self) -> str:
        """`interrupted` or `under way`, as in reports; empty if finished."""
        return "under way" if self.under_way else "interrupted" if self.interrupted else ""

    @property
    def incomplete_words(self) -> str:
        """The same with the reason: `interrupted: disk full`."""
        return f"interrupted: {self.interruption}" if self.incomplete and self.interruption else self.incomplete

    @property
    def part_words(self) -> str:
        """`a part: shard 2/4`, as in reports; empty for a whole matrix."""
        part = self.order.plan.part if self.order else None
        return f"a part: {part.words}" if part else ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of planned cells without a record, in the plan's order."""
        planned = self.order.plan.cells if self.order else ()
        done = {record.cell.id for record in self.records}
        # A run that was killed knows the cells that had begun by their folders, which name each machine.
        places = {"/".join((cell.spec_name, cell.arch, cell.machine, cell.kernel)): cell.id for cell in planned}
        begun = (places.get(name, name) for name in self.unfinished)
        return tuple(dict.fromkeys((*(cell.id for cell in planned if cell.id not in done), *begun)))

    @property
    def is_good(self) -> bool:
        """True if it came to its end, with something tested, and all of it as expected.

        Every form of the report and the exit status rest on this.
        """
        tested = any(record.verdict is not Verdict.SKIP for record in self.records)
        is_allowed = self.order is not None and self.order.allow_empty
        all_expected = all(record.expected for record in self.records)
        return (tested or is_allowed) and all_expected and not self.interrupted and not self.missing
