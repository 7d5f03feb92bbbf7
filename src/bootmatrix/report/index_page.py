"""Index of all runs, `reports/index.html`, rewritten by each run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bootmatrix.fsio import write_atomic
from bootmatrix.history.compare import input_changes
from bootmatrix.history.index import ask
from bootmatrix.history.past import histories_of
from bootmatrix.history.queries import Rows
from bootmatrix.history.reference import now, tags_of, with_life
from bootmatrix.history.values import CellHistory, PastVerdict, RunLine, RunState, Standing
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.history_text import run_state
from bootmatrix.report.html import render_page
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration, moment, natural
from bootmatrix.report.weekly import WEEKS, WeeklyTrend, view_weeks

INDEX_PAGE = "index.html"
SHOWN_RUNS = 200
SHOWN_CELLS = 500
"""Cells of a title: the failing ones first."""
TREND_RUNS = 60
SHOWN_INPUTS = 2
ORDER = ("pass", "fail", "panic", "hang", "timeout", "flaky", "build-error", "infra-error", "skip")


@dataclass(frozen=True)
class PageSection:
    """A segment of a bar; `start` and `size` are percent."""

    verdict: str
    start: float
    size: float


@dataclass(frozen=True)
class RunView:
    """A row of runs; `tone` is good, bad, or empty if accepted or future."""

    name: str
    href: str
    title: str
    date: str
    time: str
    state: str
    tone: str
    parts: tuple[PageSection, ...]
    tags: tuple[str, ...]
    counts: str


@dataclass(frozen=True)
class RunMark:
    """A verdict of a cell's history; `href` links to the cell in its run."""

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
    """Runs of a matrix: trend, and cells of the newest finished run.

    `warning` is set if there is a newer run, without a result; `more` is the number of cells that are not shown.
    """

    title: str
    trend: tuple[RunView, ...]
    cells: tuple[CellLine, ...]
    newest: RunView
    warning: str
    weeks: WeeklyTrend | None
    more: int


@dataclass(frozen=True)
class IndexView:
    """Values of the page."""

    runs: tuple[RunView, ...]
    total: int
    titles: tuple[TitleView, ...]
    newest: RunView | None


def write_index(reports: Path) -> Path:
    """Write the page; return its path. Raises OSError if it cannot be."""
    tags = tags_of(reports)
    view = ask(reports, lambda rows: view_index(rows, reports, tags))
    path = reports / INDEX_PAGE
    write_atomic(path, render_page("index.html.j2", ("index.css",), view=view))
    return path


def view_index(rows: Rows, reports: Path, tags: dict[str, str]) -> IndexView:
    """Make the view of the page."""
    site = Site(reports, tags)
    lines = [with_life(line, reports) for line in rows.runs()]
    lines.sort(key=lambda line: line.is_future(site.now))  # those are never the newest
    titles = dict.fromkeys(line.title for line in lines)
    newest = next((line for line in lines if not line.is_future(site.now)), None)
    return IndexView(
        runs=tuple(_run(line, site) for line in lines[:SHOWN_RUNS]),
        total=len(lines),
        titles=tuple(_title(rows, title, [line for line in lines if line.title == title], site) for title in titles),
        newest=_run(newest, site) if newest else None,
    )


class Site:
    """The runs' folder as pages: tags, time, runs with a report."""

    def __init__(self, reports: Path, tags: dict[str, str]) -> None:
        self.reports, self.tags, self.now = reports, tags, now()
        self._has_report: dict[str, bool] = {}

    def href(self, run: str, cell: str = "") -> str:
        """Return a run's or cell's address; empty for a run without a report."""
        if run not in self._has_report:
            self._has_report[run] = (self.reports / run / REPORT_FILE).is_file()
        anchor = f"#{quote(cell)}" if cell else ""
        return f"{quote(run)}/{REPORT_FILE}{anchor}" if self._has_report[run] else ""


def _title(rows: Rows, title: str, lines: list[RunLine], site: Site) -> TitleView:
    past = [line for line in lines if not line.is_future(site.now)] or lines
    newest = next((line for line in past if line.ended_at), past[0])
    results = rows.results(newest.name)
    histories = histories_of(rows, results.cells, newest) if results else {}
    cells = sorted((history for history in histories.values() if history.past), key=_urgency)
    accepted = {cell.key: cell.accepted for cell in results.cells} if results else {}
    return TitleView(
        title=one_line(title) or "(no title)",
        trend=tuple(_run(line, site) for line in reversed(past[:TREND_RUNS])),
        cells=tuple(_cell(history, accepted.get(history.key, ""), rows, site) for history in cells[:SHOWN_CELLS]),
        more=max(0, len(cells) - SHOWN_CELLS),
        newest=_run(newest, site),
        weeks=view_weeks(rows.weeks(title, WEEKS, site.now)),
        warning="" if newest is past[0] else f"The newest run, {one_line(past[0].name)}, is {_state(past[0])}.",
    )


def _state(line: RunLine) -> str:
    return "of another version's format" if line.state is RunState.OTHER_FORMAT else str(line.state)


def _urgency(history: CellHistory) -> tuple[object, ...]:
    """Sort key: failing cells first, then flaky ones."""
    standing = history.past[-1].standing if history.past else Standing.SKIP
    order = (Standing.BAD, Standing.FAULT, Standing.FORESEEN, Standing.GOOD, Standing.SKIP)
    return order.index(standing), not history.is_flaky, natural(history.id)


def _run(line: RunLine, site: Site) -> RunView:
    return RunView(
        name=one_line(line.name),
        href=site.href(line.name),
        title=one_line(line.title),
        date=_moment(line.started_at),
        time=duration(line.wall_s) if line.ended_at else "",
        state=run_state(line),
        tone=_tone(line, site.now),
        parts=tuple(_parts(line)),
        tags=tuple(tag for tag, name in site.tags.items() if name == line.name),
        counts=", ".join(f"{line.counts[verdict]} {one_line(verdict)}" for verdict in _verdicts(line)),
    )


def _tone(line: RunLine, moment: str) -> str:
    if line.is_future(moment):
        return ""
    return "good" if line.is_green else "" if line.is_good else "bad"


def _verdicts(line: RunLine) -> list[str]:
    return sorted(line.counts, key=lambda verdict: ORDER.index(verdict) if verdict in ORDER else len(ORDER))


def _parts(line: RunLine) -> Iterator[PageSection]:
    total, start = sum(line.counts.values()) or 1, 0.0
    for verdict in _verdicts(line):
        size = 100 * line.counts[verdict] / total
        yield PageSection(one_line(verdict), round(start, 2), round(size, 2))
        start += size


def _cell(history: CellHistory, accepted: str, rows: Rows, site: Site) -> CellLine:
    last, green = history.past[-1], history.last_green
    return CellLine(
        id=history.id,
        mode=history.key.mode,
        verdict=last.verdict,
        standing=last.standing.value,
        marks=tuple(_marks(history.id, history.past, site)),
        words=", ".join(filter(None, (_failing(history, rows), one_line(accepted)))),
        flaky=history.is_flaky,
        usual=duration(history.usual.median_s) if history.usual else "",
        last_green=_moment(green.started_at) if green else "none",
        last_green_href=site.href(green.run, history.id) if green else "",
    )


def _failing(history: CellHistory, rows: Rows) -> str:
    """Return since when a cell fails, and the inputs that changed with its verdict."""
    since = history.failing_since
    if since is None:
        return ""
    words = f"fails since {_moment(since.started_at)}"
    green = history.last_green
    if green is None or green.inputs == since.inputs:
        return f"{words}, with unchanged inputs" if green else words
    changes = [one_line(str(change)) for change in input_changes(rows.inputs(green), rows.inputs(since))]
    more = f" and {len(changes) - SHOWN_INPUTS} more" if len(changes) > SHOWN_INPUTS else ""
    return f"{words}, with {'; '.join(changes[:SHOWN_INPUTS])}{more}" if changes else words


def _moment(text: str) -> str:
    return one_line(moment(text))


def _marks(cell: str, past: Iterable[PastVerdict], site: Site) -> Iterator[RunMark]:
    for entry in past:
        words = f"{_moment(entry.started_at)}: {entry.verdict}"
        yield RunMark(one_line(entry.verdict), entry.standing.value, site.href(entry.run, cell), words)
