"""View of a run for the reports: plain, ordered, sanitized values."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bootmatrix.history.values import NO_PAST, CellChange, ChangeKind, Past
from bootmatrix.model import Record, Run, Verdict
from bootmatrix.report.cell_view import CellContext, CellView, ReadConsole
from bootmatrix.report.charts import Charts, view_charts
from bootmatrix.report.console_view import Extent
from bootmatrix.report.failure_pattern import families
from bootmatrix.report.headline import clauses, long_date, short_date
from bootmatrix.report.history_text import counted
from bootmatrix.report.history_view import HistoryMark
from bootmatrix.report.notes import tier_lines
from bootmatrix.report.order import cell_order, kernels_of, urgency
from bootmatrix.report.product import product_lines, product_words, version_changes
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.shortfall import Shortfall, shortfalls
from bootmatrix.report.totals import Total, total
from bootmatrix.report.traits import TraitRow, trait_rows
from bootmatrix.report.units import duration

FEW_CELLS = 200
"""Largest report that includes all cells; a larger one links to the cell pages."""


@dataclass(frozen=True)
class ReportRow:
    """A row of the grid: one target, a cell or None per kernel."""

    target: str
    cells: tuple[CellView | None, ...]


@dataclass(frozen=True)
class Group:
    """Rows of one spec, and the total of each column."""

    spec: str
    rows: tuple[ReportRow, ...]
    totals: tuple[Total | None, ...]


@dataclass(frozen=True)
class Span:
    """Adjacent columns of one kernel version."""

    name: str
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """Cells with one verdict; `start` and `width` are percent of a bar."""

    verdict: str
    count: int
    start: float
    width: float


@dataclass(frozen=True)
class FailureGroup:
    """Cells of one verdict and reason, on one card; at least one."""

    cells: tuple[CellView, ...]
    patterns: tuple[str, ...]

    @property
    def first(self) -> CellView:
        """The cell that represents the group."""
        return self.cells[0]

    @property
    def marks(self) -> tuple[HistoryMark, ...]:
        """Marks common to all cells."""
        return tuple(mark for mark in self.first.marks if all(mark in cell.marks for cell in self.cells))


@dataclass(frozen=True)
class BaselineSummary:
    """Comparison with the baseline: `counts`, and `gone` cells."""

    run: str
    date: str
    counts: tuple[str, ...]
    gone: tuple[CellChange, ...]


@dataclass(frozen=True)
class ReportView:
    """View of the report.

    `facts` are pairs of a heading and a value; `attention` are the unexpected cells. `tested` names the product,
    `versions` the changes of its packages since the baseline. `tiers` are sentences on the user tier, `traits` the
    totals of page sizes and the like.
    """

    run: Run
    title: str
    clauses: tuple[str, ...]
    good: bool
    complete: bool
    has_pages: bool
    date: str
    duration: str
    facts: tuple[tuple[str, str], ...]
    tested: str
    versions: str
    tiers: tuple[str, ...]
    shares: tuple[Share, ...]
    kernels: tuple[str, ...]
    spans: tuple[Span, ...]
    groups: tuple[Group, ...]
    traits: tuple[TraitRow, ...]
    cells: tuple[CellView, ...]
    attention: tuple[CellView, ...]
    failure_groups: tuple[FailureGroup, ...]
    expected_failures: tuple[CellView, ...]
    skips: tuple[CellView, ...]
    targets: tuple[str, ...]
    unfinished: tuple[str, ...]
    shortfalls: tuple[Shortfall, ...]
    baseline: BaselineSummary | None
    marks: tuple[str, ...]
    charts: Charts
    past: Past

    @property
    def headline(self) -> str:
        """The first sentence of the report."""
        return "; ".join(self.clauses)

    def grouped(self, cells: Iterable[CellView]) -> tuple[FailureGroup, ...]:
        """Group cells by verdict and reason."""
        return tuple(_failure_groups(cells))


def view_run(
    run: Run,
    read_console: ReadConsole,
    past: Past = NO_PAST,
    single_file: bool = False,
    has_plain_pages: bool = True,
) -> ReportView:
    """Make the view of a run. Consoles are read one at a time, to bound memory."""
    records = sorted(run.records, key=lambda record: cell_order(record.cell))
    by_spec = families(records)
    context = CellContext(
        read_console,
        by_spec,
        past.comparison.by_id() if past.comparison else {},
        past,
        Extent.FOLDED if single_file else Extent.EXCERPT,
        has_pages=not single_file,
        has_plain_pages=has_plain_pages,
    )
    cells = tuple(CellView(record, context) for record in records)
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
        date=long_date(run.started_at),
        duration=duration(run.wall_s),
        facts=tuple(_facts(run)),
        tested=product_words(product_lines(records)),
        versions=version_changes(past.comparison, records),
        tiers=tier_lines(records),
        shares=tuple(_shares(records)),
        kernels=kernels,
        spans=spans,
        groups=tuple(_groups(cells, kernels)),
        traits=trait_rows(records, by_spec),
        cells=cells,
        attention=attention,
        failure_groups=tuple(_failure_groups(attention)),
        expected_failures=_select(cells, lambda record: record.expected and bool(record.cell.expect)),
        skips=_select(cells, lambda record: record.verdict is Verdict.SKIP),
        targets=tuple(dict.fromkeys(record.cell.target for record in records)),
        unfinished=tuple(sanitize(name) for name in run.missing),
        shortfalls=shortfalls(run),
        baseline=_baseline(past),
        marks=tuple(dict.fromkeys(mark.kind for cell in cells for mark in cell.marks)),
        charts=view_charts(cells, past),
        past=past,
    )


def _select(cells: Iterable[CellView], is_selected: Callable[[Record], bool]) -> tuple[CellView, ...]:
    return tuple(sorted((cell for cell in cells if is_selected(cell.record)), key=_urgency))


def _urgency(cell: CellView) -> tuple[object, ...]:
    regressed = cell.change is not None and cell.change.is_regression
    return not regressed, urgency(cell.record)


def _failure_groups(attention: Iterable[CellView]) -> Iterable[FailureGroup]:
    """Group cells of one spec by verdict and reason, ignoring numbers in the reason."""
    groups: dict[tuple[object, ...], list[CellView]] = {}
    for cell in attention:
        regressed = cell.change is not None and cell.change.is_regression
        key = cell.spec, regressed, cell.verdict, re.sub(r"[0-9a-f]*[0-9][0-9a-f]*", "#", cell.reason), cell.expect
        groups.setdefault(key, []).append(cell)
    for members in groups.values():
        yield FailureGroup(tuple(members), tuple(dict.fromkeys(cell.pattern for cell in members if cell.pattern)))


def _baseline(past: Past) -> BaselineSummary | None:
    comparison = past.comparison
    if comparison is None or not comparison.baseline:
        return None
    counts = tuple(counted(kind, count) for kind, count in comparison.counts().items())
    gone = tuple(change for change in comparison.changes if change.kind is ChangeKind.GONE_CELL)
    return BaselineSummary(one_line(comparison.baseline), short_date(comparison.baseline_started_at), counts, gone)


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    versions = dict.fromkeys(record.qemu_version for record in run.records if record.qemu_version)
    yield "bootmatrix", sanitize(run.tool_version)
    yield "QEMU", ", ".join(map(sanitize, versions)) or "not started"
    yield from _hosts(run.records)
    yield from _cost(run)
    host = run.host
    yield "Host", sanitize(", ".join(host[key] for key in ("kernel", "machine") if key in host))
    yield "Processor", sanitize(f"{host.get('cpus', '?')} × {host.get('cpu', 'unknown')}, {host.get('memory', '?')}")
    yield "Python", sanitize(host.get("python", "unknown"))


def _hosts(records: Iterable[Record]) -> Iterable[tuple[str, str]]:
    """List the hosts of a cluster with the counts of their cells, by verdict."""
    counts: dict[str, Counter[Verdict]] = {}
    for record in records:
        if record.host:
            counts.setdefault(record.host, Counter())[record.verdict] += 1
    for name, verdicts in sorted(counts.items()):
        text = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        yield f"Cells on {sanitize(name)}", text


def _cost(run: Run) -> Iterable[tuple[str, str]]:
    """List the machines that were started, their cost, and one always on."""
    if not run.machines:
        return
    cost, number = sum(use.cost for use in run.machines), sum(use.machines for use in run.machines)
    yield "Machines", f"{number} started, {sum(use.paid_s for use in run.machines):.0f} s paid"
    if cost:
        yield "Cost", f"{cost:.4f}, {cost / max(1, len(run.records)):.5f} a cell"
    month = run.machines[-1].month
    if cost and month:
        yield "Always on", f"{month:.2f} a month: cheaper from {month / cost:.0f} such runs a month on"


def _shares(records: Iterable[Record]) -> Iterable[Share]:
    counts: Counter[Verdict] = Counter(record.verdict for record in records)
    start = 0.0
    for verdict in Verdict:
        if counts[verdict]:
            width = 100 * counts[verdict] / counts.total()
            yield Share(verdict.value, counts[verdict], round(start, 3), round(width, 3))
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
        yield Group(spec, rows, tuple(total(cell.record for cell in column if cell) for column in columns))
