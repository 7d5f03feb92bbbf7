"""The page of all runs, `reports/index.html`: trend, last green of each cell. Static, and made anew after each run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bootmatrix.history.index import ask
from bootmatrix.history.past import histories_of
from bootmatrix.history.queries import Rows
from bootmatrix.history.reference import tags_of
from bootmatrix.history.values import CellHistory, PastVerdict, RunLine, Standing
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.history_text import day, run_state
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration, natural

INDEX_PAGE = "index.html"
SHOWN_RUNS = 200
TREND_RUNS = 60
ORDER = ("pass", "fail", "panic", "hang", "timeout", "flaky", "build-error", "infra-error", "skip")


@dataclass(frozen=True)
class PageSection:
    """A part of a bar of 100: so many cells of a verdict."""

    verdict: str
    start: float
    size: float


@dataclass(frozen=True)
class RunView:
    """A row of the table of runs."""

    name: str
    href: str
    title: str
    date: str
    time: str
    state: str
    good: bool
    parts: tuple[PageSection, ...]
    tags: tuple[str, ...]
    counts: str


@dataclass(frozen=True)
class RunMark:
    """One verdict of a row of them; `href` leads to the cell in its run."""

    verdict: str
    standing: str
    href: str
    words: str


@dataclass(frozen=True)
class CellLine:
    """A cell with its last verdicts."""

    id: str
    mode: str
    verdict: str
    standing: str
    marks: tuple[RunMark, ...]
    words: str
    flaky: bool
    usual: str
    last_green: str
    last_green_href: str


@dataclass(frozen=True)
class TitleView:
    """All runs of one matrix: the trend, oldest first, and the cells of its newest run."""

    title: str
    trend: tuple[RunView, ...]
    cells: tuple[CellLine, ...]


@dataclass(frozen=True)
class IndexView:
    """The whole page."""

    runs: tuple[RunView, ...]
    total: int
    titles: tuple[TitleView, ...]


def write_index(reports: Path) -> Path:
    """Write the page; its path.

    Raises:
        OSError: it cannot be written.
    """
    from bootmatrix.fsio import write_atomic
    from bootmatrix.report.html import render_page

    tags = tags_of(reports)
    view = ask(reports, lambda rows: view_index(rows, tags))
    path = reports / INDEX_PAGE
    write_atomic(path, render_page("index.html.j2", ("index.css",), view=view))
    return path


def view_index(rows: Rows, tags: dict[str, str]) -> IndexView:
    """What the page shows."""
    lines = rows.runs()
    titles = dict.fromkeys(line.title for line in lines if not line.fault)
    return IndexView(
        runs=tuple(_run(line, tags) for line in lines[:SHOWN_RUNS]),
        total=len(lines),
        titles=tuple(_title(rows, title, [line for line in lines if line.title == title], tags) for title in titles),
    )


def _title(rows: Rows, title: str, lines: list[RunLine], tags: dict[str, str]) -> TitleView:
    newest = next((line for line in lines if line.ended_at), lines[0])
    results = rows.results(newest.name)
    histories = histories_of(rows, results.cells, newest) if results else {}
    cells = sorted(histories.values(), key=_urgency)
    return TitleView(
        title=one_line(title) or "(no title)",
        trend=tuple(_run(line, tags) for line in reversed(lines[:TREND_RUNS])),
        cells=tuple(_cell(one) for one in cells if one.past),
    )


def _urgency(history: CellHistory) -> tuple[object, ...]:
    """Cells that fail come first, then those that flip."""
    standing = history.past[-1].standing if history.past else Standing.SKIP
    order = (Standing.BAD, Standing.FAULT, Standing.FORESEEN, Standing.GOOD, Standing.SKIP)
    return order.index(standing), not history.is_flaky, natural(history.id)


def _run(line: RunLine, tags: dict[str, str]) -> RunView:
    return RunView(
        name=one_line(line.name),
        href=f"{quote(line.name)}/{REPORT_FILE}",
        title=one_line(line.title),
        date=day(line.started_at),
        time=duration(line.wall_s) if line.ended_at else "",
        state=run_state(line),
        good=line.is_green,
        parts=tuple(_parts(line)),
        tags=tuple(tag for tag, name in tags.items() if name == line.name),
        counts=", ".join(f"{line.counts[verdict]} {one_line(verdict)}" for verdict in _verdicts(line)),
    )


def _verdicts(line: RunLine) -> list[str]:
    return sorted(line.counts, key=lambda one: ORDER.index(one) if one in ORDER else len(ORDER))


def _parts(line: RunLine) -> Iterator[PageSection]:
    total, start = sum(line.counts.values()) or 1, 0.0
    for verdict in _verdicts(line):
        size = 100 * line.counts[verdict] / total
        yield PageSection(one_line(verdict), round(start, 2), round(size, 2))
        start += size


def _cell(history: CellHistory) -> CellLine:
    last, green = history.past[-1], history.last_green
    return CellLine(
        id=history.id,
        mode=history.key.mode,
        verdict=last.verdict,
        standing=last.standing.value,
        marks=tuple(_marks(history.id, history.past)),
        words=f"fails since {day(since.started_at)}" if (since := history.failing_since) else "",
        flaky=history.is_flaky,
        usual=duration(history.usual.median_s) if history.usual else "",
        last_green=day(green.started_at) if green else "none",
        last_green_href=_href(history.id, green) if green else "",
    )


def _marks(cell: str, past: Iterable[PastVerdict]) -> Iterator[RunMark]:
    for one in past:
        words = f"{day(one.started_at)}: {one.verdict}"
        yield RunMark(one_line(one.verdict), one.standing.value, _href(cell, one), words)


def _href(cell: str, one: PastVerdict) -> str:
    return f"{quote(one.run)}/{REPORT_FILE}#{quote(cell)}"
