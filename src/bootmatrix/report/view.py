"""What the report shows, made from a run: plain values, in order, with all text harmless."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bootmatrix.history.values import NO_PAST, CellChange, ChangeKind, Past
from bootmatrix.model import Record, Run, Verdict
from bootmatrix.report.cell_view import CellView, ReadConsole, Surroundings
from bootmatrix.report.charts import Charts, view_charts
from bootmatrix.report.console_view import Extent
from bootmatrix.report.failure_pattern import families
from bootmatrix.report.headline import clauses, short_date
from bootmatrix.report.history_text import counted
from bootmatrix.report.history_view import HistoryMark
from bootmatrix.report.order import WORST_FIRST, cell_order, kernels_of, urgency
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.shortfall import Shortfall, shortfalls
from bootmatrix.report.units import duration

FEW_CELLS = 200
"""A report of no more cells than these has all of each in it; a larger one leads to each cell's own page."""


@dataclass(frozen=True)
class ReportRow:
    """A row of the grid: one target, with a cell or None for each kernel."""

    target: str
    cells: tuple[CellView | None, ...]


@dataclass(frozen=True)
class Sum:
    """What a column of a group comes to: `text` is `7/8`, `verdict` the worst that is not as expected, else `pass`."""

    text: str
    words: str
    verdict: str


@dataclass(frozen=True)
class Group:
    """The rows of one spec, and what each column comes to."""

    spec: str
    rows: tuple[ReportRow, ...]
    sums: tuple[Sum | None, ...]


@dataclass(frozen=True)
class Span:
    """Columns of the grid that follow each other and belong to one kernel version."""

    name: str
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """How many cells have a verdict; `start` and `width` are percent of a bar."""

    verdict: str
    count: int
    start: float
    width: float


@dataclass(frozen=True)
class Alike:
    """Cells that came to the same verdict in the same way: one card of the report. `cells` is not empty."""

    cells: tuple[CellView, ...]
    patterns: tuple[str, ...]

    @property
    def first(self) -> CellView:
        """The cell that stands for all."""
        return self.cells[0]

    @property
    def marks(self) -> tuple[HistoryMark, ...]:
        """What all of them are marked with."""
        return tuple(mark for mark in self.first.marks if all(mark in cell.marks for cell in self.cells))


@dataclass(frozen=True)
class Beside:
    """The run beside its baseline, which is a run's name. `counts` are words, `gone` are cells that it alone has."""

    baseline: str
    date: str
    counts: tuple[str, ...]
    gone: tuple[CellChange, ...]


@dataclass(frozen=True)
class ReportView:
    """The whole report. `facts` are pairs of a heading and a value; `attention` is what is not as expected."""

    run: Run
    title: str
    clauses: tuple[str, ...]
    good: bool
    complete: bool
    has_pages: bool
    date: str
    duration: str
    facts: tuple[tuple[str, str], ...]
    shares: tuple[Share, ...]
    kernels: tuple[str, ...]
    spans: tuple[Span, ...]
    groups: tuple[Group, ...]
    cells: tuple[CellView, ...]
    attention: tuple[CellView, ...]
    alike: tuple[Alike, ...]
    foreseen: tuple[CellView, ...]
    skips: tuple[CellView, ...]
    targets: tuple[str, ...]
    unfinished: tuple[str, ...]
    shortfalls: tuple[Shortfall, ...]
    beside: Beside | None
    marks: tuple[str, ...]
    charts: Charts
    past: Past

    @property
    def headline(self) -> str:
        """The sentence that the report opens with."""
        return "; ".join(self.clauses)

    def folded(self, cells: Iterable[CellView]) -> tuple[Alike, ...]:
        """Those of the same verdict and reason together."""
        return tuple(_alike(cells))


def view_run(run: Run, read_console: ReadConsole, past: Past = NO_PAST, single_file: bool = False) -> ReportView:
    """The view of a run. Consoles are read one by one, so that they are never in memory all at once."""
    records = sorted(run.records, key=lambda record: cell_order(record.cell))
    around = Surroundings(
        read_console,
        families(records),
        past.comparison.by_id() if past.comparison else {},
        past,
        Extent.FOLDED if single_file else Extent.EXCERPT,
        has_pages=not single_file,
    )
    cells = tuple(CellView(record, around) for record in records)
    spans = _spans(records, kernels_of(record.cell for record in records))
    kernels = tuple(kernel for span in spans for kernel in span.kernels)
    attention = _select(cells, lambda record: not record.expected)
    return ReportView(
        run=run,
        title=sanitize(run.title) or run.name,
        clauses=clauses(run, past),
        good=run.is_good,
        complete=len(cells) <= FEW_CELLS or single_file,
        has_pages=not single_file,
        date=datetime.fromisoformat(run.started_at).strftime("%-d %B %Y, %H:%M UTC"),
        duration=duration(run.wall_s),
        facts=tuple(_facts(run)),
        shares=tuple(_shares(records)),
        kernels=kernels,
        spans=spans,
        groups=tuple(_groups(cells, kernels)),
        cells=cells,
        attention=attention,
        alike=tuple(_alike(attention)),
        foreseen=_select(cells, lambda record: record.expected and bool(record.cell.expect)),
        skips=_select(cells, lambda record: record.verdict is Verdict.SKIP),
        targets=tuple(dict.fromkeys(record.cell.target for record in records)),
        unfinished=tuple(sanitize(name) for name in run.missing),
        shortfalls=shortfalls(run),
        beside=_beside(past),
        marks=tuple(dict.fromkeys(mark.kind for cell in cells for mark in cell.marks)),
        charts=view_charts(cells, past),
        past=past,
    )


def _select(cells: Iterable[CellView], wanted: Callable[[Record], bool]) -> tuple[CellView, ...]:
    return tuple(sorted((cell for cell in cells if wanted(cell.record)), key=_urgency))


def _urgency(cell: CellView) -> tuple[object, ...]:
    regressed = cell.change is not None and cell.change.is_regression
    return not regressed, urgency(cell.record)


def _alike(attention: Iterable[CellView]) -> Iterable[Alike]:
    """Cells of one spec that came to the same verdict for the same reason, but for its numbers, belong together."""
    found: dict[tuple[object, ...], list[CellView]] = {}
    for cell in attention:
        regressed = cell.change is not None and cell.change.is_regression
        key = cell.spec, regressed, cell.verdict, re.sub(r"[0-9a-f]*[0-9][0-9a-f]*", "#", cell.reason), cell.expect
        found.setdefault(key, []).append(cell)
    for cells in found.values():
        yield Alike(tuple(cells), tuple(dict.fromkeys(cell.pattern for cell in cells if cell.pattern)))


def _beside(past: Past) -> Beside | None:
    comparison = past.comparison
    if comparison is None or not comparison.baseline:
        return None
    counts = tuple(counted(kind, count) for kind, count in comparison.counts().items())
    gone = tuple(change for change in comparison.changes if change.kind is ChangeKind.GONE_CELL)
    return Beside(one_line(comparison.baseline), short_date(comparison.baseline_started_at), counts, gone)


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    versions = dict.fromkeys(record.qemu_version for record in run.records if record.qemu_version)
    yield "bootmatrix", run.tool_version
    yield "QEMU", ", ".join(map(sanitize, versions)) or "not started"
    host = run.host
    yield "Host", sanitize(", ".join(host[key] for key in ("kernel", "machine") if key in host))
    yield "Processor", sanitize(f"{host.get('cpus', '?')} × {host.get('cpu', 'unknown')}, {host.get('memory', '?')}")
    yield "Python", sanitize(host.get("python", "unknown"))


def _shares(records: Iterable[Record]) -> Iterable[Share]:
    found: Counter[Verdict] = Counter(record.verdict for record in records)
    start = 0.0
    for verdict in Verdict:
        if found[verdict]:
            width = 100 * found[verdict] / found.total()
            yield Share(verdict.value, found[verdict], round(start, 3), round(width, 3))
            start += width


def _spans(records: Iterable[Record], kernels: Sequence[str]) -> tuple[Span, ...]:
    versions = {record.cell.kernel: record.cell.traits.kernel_version for record in records if record.cell.traits}
    spans: dict[str, list[str]] = {}
    for kernel in kernels:
        spans.setdefault(versions.get(kernel, kernel), []).append(kernel)
    return tuple(Span(name, tuple(members)) for name, members in spans.items())


def _groups(cells: Iterable[CellView], kernels: tuple[str, ...]) -> Iterable[Group]:
    places: dict[str, dict[str, dict[str, CellView]]] = {}
    for cell in cells:
        places.setdefault(cell.spec, {}).setdefault(cell.target, {})[cell.kernel] = cell
    for spec, targets in places.items():
        rows = tuple(ReportRow(target, tuple(map(by_kernel.get, kernels))) for target, by_kernel in targets.items())
        columns = zip(*(row.cells for row in rows), strict=True)
        yield Group(spec, rows, tuple(_sum([cell for cell in column if cell]) for column in columns))


def _sum(cells: Sequence[CellView]) -> Sum | None:
    tried = [cell for cell in cells if cell.record.verdict is not Verdict.SKIP]
    if not tried:
        return None
    wrong = sorted((cell.record.verdict for cell in tried if not cell.record.expected), key=WORST_FIRST.index)
    good = len(tried) - len(wrong)
    return Sum(f"{good}/{len(tried)}", f"{good} of {len(tried)} as expected", wrong[0].value if wrong else "pass")
