"""What is known of the past: frozen values, made from records by `facts` or read from the index.

These are plain dataclasses and verdicts are plain words, as the commands that answer from the index must not wait until
all of the model is imported, which takes longer than the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

LAST = 30
"""Verdicts of a cell that are looked at and shown: a month of nightly runs."""


class Standing(StrEnum):
    """What a verdict means to its matrix: `fault` is ours and says nothing of the guest, `skip` was never tried."""

    GOOD = "good"
    BAD = "bad"
    FORESEEN = "foreseen"
    FAULT = "fault"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class CellKey:
    """What makes two cells of two runs the same one. `mode` is how it was booted: `cold`, or `forked`."""

    spec: str
    arch: str
    machine: str
    kernel: str
    mode: str


@dataclass(frozen=True, slots=True)
class Input:
    """Something that a cell was made of. `kind` is `spec`, `image`, `kernel`, `profile`, `QEMU`, `bootmatrix`, or
    `initrd`, `dtb`, which follow from the others. `digest` is a SHA-256, empty where there is a version only.
    """

    kind: str
    name: str
    digest: str = ""
    version: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.version, self.digest[:12]) if part)


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell of one run. `seconds` is how long the guest ran; `flaky` says that it both passed and failed in it.

    `subresults` are pairs of a name and a verdict.
    """

    id: str
    key: CellKey
    verdict: str
    standing: Standing
    seconds: float
    flaky: bool = False
    reason: str = ""
    expect: str = ""
    inputs: tuple[Input, ...] = ()
    subresults: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list of runs. `counts` has how many cells have each verdict; `fault` says why it cannot be read.

    `host` is what durations depend on: those of two hosts are not compared.
    """

    name: str
    title: str
    started_at: str
    ended_at: str = ""
    wall_s: float = 0
    interrupted: bool = False
    tool_version: str = ""
    host: str = ""
    baseline: str = ""
    unexpected: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    fault: str = ""
    tags: tuple[str, ...] = ()

    @property
    def is_tested(self) -> bool:
        """True if there is a cell that was not just skipped."""
        return any(number for verdict, number in self.counts.items() if verdict != "skip")

    @property
    def is_green(self) -> bool:
        """Whether it came to its end, and all of its cells were as expected."""
        return self.is_tested and not (self.unexpected or self.interrupted or self.fault) and bool(self.ended_at)


@dataclass(frozen=True, slots=True)
class RunResults:
    """A run with its cells."""

    line: RunLine
    cells: tuple[CellResult, ...]


@dataclass(frozen=True, slots=True)
class PastVerdict:
    """What a cell came to in one run. `inputs` is a digest of all that it was made of."""

    run: str
    started_at: str
    verdict: str
    standing: Standing
    seconds: float
    flaky: bool = False
    inputs: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Usual:
    """How long a cell usually takes: the median of its passes on one host, and of their distances from it."""

    median_s: float
    mad_s: float
    runs: int


@dataclass(frozen=True, slots=True)
class CellHistory:
    """A cell's last verdicts, oldest first, the one of the run in question last.

    `failing_since` is the first of the unbroken row of failures at its end, which may have begun before `past`; None if
    it does not fail. `last_green` is its last pass; `flips` counts how often it went from pass to failure or back,
    `unprovoked_flips` those of them with exactly the same inputs. A fault of ours neither counts nor ends a row.
    """

    id: str
    key: CellKey
    past: tuple[PastVerdict, ...]
    failing_since: PastVerdict | None = None
    last_green: PastVerdict | None = None
    flips: int = 0
    unprovoked_flips: int = 0
    is_flaky: bool = False
    usual: Usual | None = None


class ChangeKind(StrEnum):
    """How a cell stands beside the baseline, in the order in which it is told.

    `new failure`: it fails, and the baseline has no failure of it. `flaky`: its verdict changed, and is known to change
    by itself. `no verdict`: a fault of ours. `expected failure`: it fails, the baseline has no failure of it, and the
    matrix expects that.
    """

    NEW_FAILURE = "new failure"
    FLAKY = "flaky"
    NO_VERDICT = "no verdict"
    STILL_FAILING = "still failing"
    EXPECTED_FAILURE = "expected failure"
    GONE_CELL = "gone cell"
    NEW_CELL = "new cell"
    FIXED = "fixed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class SubChange:
    """A sub-result that changed; empty where it was not there."""

    name: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class DurationChange:
    """A duration beyond what is noise: `usual_s` over `runs` runs up to the baseline."""

    usual_s: float
    now_s: float
    runs: int

    @property
    def ratio(self) -> float:
        """Over 1 for slower."""
        return self.now_s / self.usual_s if self.usual_s else 0.0


@dataclass(frozen=True, slots=True)
class InputChange:
    """An input that is another than in the baseline; None where there was none."""

    kind: str
    name: str
    before: Input | None
    now: Input | None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.before or 'none'} → {self.now or 'none'}"


@dataclass(frozen=True, slots=True)
class CellChange:
    """A cell beside its baseline. `before` and `now` are verdicts, empty where there was none.

    `is_regression` is what `--fail-on regression` fails on. `reason` is that of the verdict now. `since` is when its
    row of failures began, as RFC 3339. `note` says in words what the rest does not.
    """

    id: str
    mode: str
    kind: ChangeKind
    before: str
    now: str
    is_regression: bool = False
    reason: str = ""
    since: str = ""
    note: str = ""
    subresults: tuple[SubChange, ...] = ()
    duration: DurationChange | None = None
    inputs: tuple[InputChange, ...] = ()

    @property
    def is_changed(self) -> bool:
        """Whether the cell deserves a mark: anything but other inputs is different."""
        plain = {ChangeKind.UNCHANGED, ChangeKind.STILL_FAILING}
        return self.kind not in plain or self.before != self.now or bool(self.subresults or self.duration)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run beside its baseline: one change a cell, regressions first. `baseline` is empty where there was none.

    `interrupted` is true of a run that did not come to its end: what it lacks may be worse."""

    run: str
    baseline: str
    baseline_started_at: str
    changes: tuple[CellChange, ...]
    interrupted: bool = False

    @property
    def regressions(self) -> tuple[CellChange, ...]:
        """What got worse."""
        return tuple(change for change in self.changes if change.is_regression)

    def counts(self) -> dict[ChangeKind, int]:
        """How many cells are of each kind that occurs."""
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in ChangeKind if found[kind]}

    def by_id(self) -> dict[str, CellChange]:
        """The changes of the cells that are in the run, by cell id."""
        return {change.id: change for change in self.changes if change.kind is not ChangeKind.GONE_CELL}


@dataclass(frozen=True, slots=True)
class Past:
    """What a report can tell beside the run itself. `histories` is by cell id."""

    comparison: Comparison | None = None
    histories: Mapping[str, CellHistory] = field(default_factory=lambda: MappingProxyType({}))


NO_PAST = Past()
