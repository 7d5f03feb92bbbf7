"""What the report shows, made from a run: plain values, in order, with all text harmless. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from bootmatrix.history.values import NO_PAST, Past
from bootmatrix.model import Record, Run, Verdict
from bootmatrix.report.cell_view import CellView, view_cell
from bootmatrix.report.harmless import harmless
from bootmatrix.report.order import cell_order, headline, kernels_of, urgency
from bootmatrix.report.units import duration

ReadConsole = Callable[[Record], bytes | None]
"""A record's console; None if it is missing."""


@dataclass(frozen=True)
class Row:
    """A row of the grid: one target, with a cell or None for each kernel."""

    target: str
    cells: tuple[CellView | None, ...]


@dataclass(frozen=True)
class Group:
    """The rows of one spec."""

    spec: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Share:
    """How many cells have a verdict; `start` and `width` are percent of a bar."""

    verdict: str
    count: int
    start: float
    width: float


@dataclass(frozen=True)
class ReportView:
    """The whole report. `facts` are pairs of a heading and a value; `attention` is what is not as expected."""

    run: Run
    title: str
    headline: str
    good: bool
    date: str
    duration: str
    facts: tuple[tuple[str, str], ...]
    shares: tuple[Share, ...]
    kernels: tuple[str, ...]
    groups: tuple[Group, ...]
    cells: tuple[CellView, ...]
    attention: tuple[CellView, ...]
    foreseen: tuple[CellView, ...]
    skips: tuple[CellView, ...]
    targets: tuple[str, ...]
    unfinished: tuple[str, ...]
    past: Past = NO_PAST


def view_run(run: Run, read_console: ReadConsole, past: Past = NO_PAST) -> ReportView:
    """The view of a run. Consoles are read one by one, so that they are never in memory all at once."""
    records = sorted(run.records, key=lambda record: cell_order(record.cell))
    views = {record.cell.id: view_cell(record, read_console(record)) for record in records}
    kernels = kernels_of(record.cell for record in records)
    return ReportView(
        run=run,
        title=harmless(run.title) or run.name,
        headline=headline(records, run.interrupted),
        good=bool(records) and all(record.expected for record in records) and not run.interrupted,
        date=datetime.fromisoformat(run.started_at).strftime("%-d %B %Y, %H:%M UTC"),
        duration=duration(run.wall_s),
        facts=tuple(_facts(run)),
        shares=tuple(_shares(records)),
        kernels=kernels,
        groups=tuple(_groups(records, views, kernels)),
        cells=tuple(views.values()),
        attention=_select(records, views, lambda record: not record.expected),
        foreseen=_select(records, views, lambda record: record.expected and bool(record.cell.expect)),
        skips=_select(records, views, lambda record: record.verdict is Verdict.SKIP),
        targets=tuple(dict.fromkeys(record.cell.target for record in records)),
        unfinished=tuple(harmless(name) for name in run.unfinished),
        past=past,
    )


def _select(
    records: Iterable[Record], views: dict[str, CellView], wanted: Callable[[Record], bool]
) -> tuple[CellView, ...]:
    return tuple(views[record.cell.id] for record in sorted(filter(wanted, records), key=urgency))


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    versions = dict.fromkeys(record.qemu_version for record in run.records if record.qemu_version)
    yield "bootmatrix", run.tool_version
    yield "QEMU", ", ".join(map(harmless, versions)) or "not started"
    host = run.host
    yield "Host", harmless(", ".join(host[key] for key in ("kernel", "machine") if key in host))
    yield "Processor", harmless(f"{host.get('cpus', '?')} × {host.get('cpu', 'unknown')}, {host.get('memory', '?')}")
    yield "Python", harmless(host.get("python", "unknown"))


def _shares(records: Iterable[Record]) -> Iterable[Share]:
    found: Counter[Verdict] = Counter(record.verdict for record in records)
    start = 0.0
    for verdict in Verdict:
        if found[verdict]:
            width = 100 * found[verdict] / found.total()
            yield Share(verdict.value, found[verdict], round(start, 3), round(width, 3))
            start += width


def _groups(records: Iterable[Record], views: dict[str, CellView], kernels: tuple[str, ...]) -> Iterable[Group]:
    places: dict[str, dict[str, dict[str, CellView]]] = {}
    for record in records:
        cell = record.cell
        places.setdefault(cell.spec_name, {}).setdefault(cell.target, {})[cell.kernel] = views[cell.id]
    for spec, targets in places.items():
        rows = (Row(target, tuple(map(by_kernel.get, kernels))) for target, by_kernel in targets.items())
        yield Group(spec, tuple(rows))
