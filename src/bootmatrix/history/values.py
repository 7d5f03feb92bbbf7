"""Values of the history: frozen, extracted from records or read from the index.

Plain dataclasses with verdicts as words: importing the model takes longer than answering from the index.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

LAST = 30
"""Verdicts per cell that are evaluated and displayed: a month of nightly runs."""


class Standing(StrEnum):
    """A verdict's standing: `fault` is ours, `skip` was never tried."""

    GOOD = "good"
    BAD = "bad"
    FORESEEN = "foreseen"
    FAULT = "fault"
    SKIP = "skip"


class RunState(StrEnum):
    """State of a run. Only a finished one has a result."""

    FINISHED = "finished"
    UNDER_WAY = "under way"
    INTERRUPTED = "interrupted"
    DAMAGED = "damaged"
    OTHER_FORMAT = "other format"
    NOT_READABLE = "not readable"


NO_RESULT = frozenset({RunState.DAMAGED, RunState.OTHER_FORMAT, RunState.NOT_READABLE})
"""States of runs of which nothing is known."""


@dataclass(frozen=True, slots=True)
class CellKey:
    """Identity of a cell across runs. `mode` is `cold` or `forked`."""

    spec: str
    arch: str
    machine: str
    kernel: str
    mode: str


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a cell. `digest` is a SHA-256, empty if only a version is known.

    `kind` is `spec`, `image`, `package`, `file`, `kernel`, `profile`, `fail_on`, `QEMU`, `bootmatrix`, or a derived
    `initrd` or `dtb`.
    """

    kind: str
    name: str
    digest: str = ""
    version: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.version, self.digest[:12]) if part)


@dataclass(frozen=True, slots=True)
class CellResult:
    """A cell of a run; `flaky` if it both passed and failed.

    `subresults` are pairs of a name and a verdict. `accepted` describes the acceptance of a failure.
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
    accepted: str = ""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list; `counts` by verdict, `fault` if unreadable.

    Durations are compared on the same `host` only. `interruption` is the reason of one. `accepted` counts the
    unexpected cells that a person accepted, `missing` the planned cells without a verdict. Of a run that cannot be
    read, title and start are those of its name.
    """

    name: str
    title: str
    started_at: str
    ended_at: str = ""
    wall_s: float = 0
    interrupted: bool = False
    interruption: str = ""
    tool_version: str = ""
    host: str = ""
    baseline: str = ""
    unexpected: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    fault: str = ""
    tags: tuple[str, ...] = ()
    state: RunState = RunState.FINISHED
    accepted: int = 0
    missing: int = 0
    branch: str = ""

    @property
    def is_tested(self) -> bool:
        """True if a cell was tried, not only skipped."""
        return any(number for verdict, number in self.counts.items() if verdict != "skip")

    @property
    def is_green(self) -> bool:
        """True if the run finished and all cells are as expected."""
        return self.is_good and not self.unexpected

    @property
    def is_finished(self) -> bool:
        """True if the run came to its end and can be read."""
        return bool(self.ended_at) and not (self.interrupted or self.fault)

    @property
    def is_good(self) -> bool:
        """True if a run finished with accepted failures only: a baseline."""
        return self.is_tested and self.is_finished and self.unexpected == self.accepted and not self.missing

    def is_future(self, now: str) -> bool:
        """Return whether the run is dated after `now`, in RFC 3339 in UTC."""
        return self.started_at > now


@dataclass(frozen=True, slots=True)
class UnusableRun:
    """A run that cannot be read, with the reason."""

    state: RunState
    fault: str


@dataclass(frozen=True, slots=True)
class RunResults:
    """A run and its cells."""

    line: RunLine
    cells: tuple[CellResult, ...]


@dataclass(frozen=True, slots=True)
class PastVerdict:
    """A cell's verdict in one run. `inputs` is a digest of all its inputs."""

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
    """Usual duration: median of passes on a host, and deviation."""

    median_s: float
    mad_s: float
    runs: int


@dataclass(frozen=True, slots=True)
class WeekCount:
    """Cells of an architecture in the week from `monday` (2026-11-23).

    `judged` counts those with a verdict on the guest, `passed` and `flaky` are among them. `pass_s` is the mean time of
    a pass in seconds; 0 without one.
    """

    monday: str
    arch: str
    judged: int
    passed: int
    flaky: int
    pass_s: float


@dataclass(frozen=True, slots=True)
class CellHistory:
    """A cell's last verdicts, oldest first, up to the run in question.

    `failing_since` is the first of the current failures, possibly before `past`; None if the cell passes.
    `failing_runs` counts the failures since then.
    `last_green` is the last pass. `flips` counts changes between pass and failure, `unprovoked_flips` those with
    identical inputs. Our own faults neither count nor end a series.
    """

    id: str
    key: CellKey
    past: tuple[PastVerdict, ...]
    failing_since: PastVerdict | None = None
    failing_runs: int = 0
    last_green: PastVerdict | None = None
    flips: int = 0
    unprovoked_flips: int = 0
    is_flapping: bool = False
    usual: Usual | None = None


class ChangeKind(StrEnum):
    """Kind of a cell's change since the baseline, in display order.

    `new failure`: fails, and did not fail in the baseline. `flapping`: the verdict changed, as it often does.
    `no verdict`: a fault of ours. `expected failure`: a new failure that the matrix expects. `accepted failure`: a
    failure that a person accepted. `not tested`: an unfinished run did not come to it.
    """

    NEW_FAILURE = "new failure"
    FLAPPING = "flapping"
    NO_VERDICT = "no verdict"
    STILL_FAILING = "still failing"
    EXPECTED_FAILURE = "expected failure"
    ACCEPTED_FAILURE = "accepted failure"
    NOT_TESTED = "not tested"
    GONE_CELL = "gone cell"
    NEW_CELL = "new cell"
    FIXED = "fixed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class SubChange:
    """A changed sub-result; `before` or `now` is empty if it does not exist."""

    name: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class DurationChange:
    """A change beyond noise; `usual_s` is over `runs` earlier runs."""

    usual_s: float
    now_s: float
    runs: int

    @property
    def ratio(self) -> float:
        """Ratio to the usual duration, above 1 if slower."""
        return self.now_s / self.usual_s if self.usual_s else 0.0


@dataclass(frozen=True, slots=True)
class InputChange:
    """A changed input; None if it does not exist."""

    kind: str
    name: str
    before: Input | None
    now: Input | None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.before or 'none'} → {self.now or 'none'}"


@dataclass(frozen=True, slots=True)
class CellChange:
    """A cell's change; `before` and `now` are empty if it is not there.

    `is_regression` counts for `--fail-on regression`. `reason` is the current verdict's. `since` is the start of the
    failures, in RFC 3339. `note` is a comment.
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
        """True if the cell is marked as changed; changed inputs alone do not count."""
        plain = {ChangeKind.UNCHANGED, ChangeKind.STILL_FAILING}
        return self.kind not in plain or self.before != self.now or bool(self.subresults or self.duration)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of a run with a baseline: a change per cell, regressions first.

    `baseline` is empty without one. `interrupted` is true if the run did not finish: missing cells may be worse."""

    run: str
    baseline: str
    baseline_started_at: str
    changes: tuple[CellChange, ...]
    interrupted: bool = False

    @property
    def regressions(self) -> tuple[CellChange, ...]:
        """Changes for the worse."""
        return tuple(change for change in self.changes if change.is_regression)

    @property
    def is_tested(self) -> bool:
        """True if a cell has a verdict on the guest, not only a fault of ours."""
        none = {ChangeKind.NO_VERDICT, ChangeKind.NOT_TESTED, ChangeKind.GONE_CELL}
        return any(change.now not in {"", "skip"} and change.kind not in none for change in self.changes)

    @property
    def baseline_cells(self) -> tuple[str, ...]:
        """Ids of the cells that the baseline tested."""
        return tuple(dict.fromkeys(change.id for change in self.changes if change.before not in {"", "skip"}))

    @property
    def not_tested(self) -> tuple[str, ...]:
        """Ids of the cells that the baseline tested and the run did not, in no boot mode."""
        tested = {change.id for change in self.changes if change.now not in {"", "skip"}}
        return tuple(name for name in self.baseline_cells if name not in tested)

    @property
    def not_tested_words(self) -> str:
        """`20 of the 24 cells of the baseline were not tested`; empty if all were."""
        count, total = len(self.not_tested), len(self.baseline_cells)
        return (
            f"{count} of the {total} cells of the baseline {'was' if count == 1 else 'were'} not tested"
            if count
            else ""
        )

    def counts(self) -> dict[ChangeKind, int]:
        """Count the changes by kind."""
        numbers = Counter(change.kind for change in self.changes)
        return {kind: numbers[kind] for kind in ChangeKind if numbers[kind]}

    def by_id(self) -> dict[str, CellChange]:
        """Return the changes of the run's cells by id."""
        absent = {ChangeKind.GONE_CELL, ChangeKind.NOT_TESTED}
        return {change.id: change for change in self.changes if change.kind not in absent}


@dataclass(frozen=True, slots=True)
class Past:
    """Histories by cell id, and the comparison with a baseline.

    `regressions_only`: the exit status is 1 for regressions only, and forms that CI systems read agree with it.
    """

    comparison: Comparison | None = None
    histories: Mapping[str, CellHistory] = field(default_factory=lambda: MappingProxyType({}))
    regressions_only: bool = False


NO_PAST = Past()
