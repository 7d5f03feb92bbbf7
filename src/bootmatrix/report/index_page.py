"""Index of all runs, `reports/index.html`, rewritten by each run."""

import errno
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bootmatrix.fsio import open_plain, write_atomic
from bootmatrix.history.compare import input_changes
from bootmatrix.history.index import ask
from bootmatrix.history.past import histories_of
from bootmatrix.history.queries import Rows
from bootmatrix.history.reference import now, tags_of, with_life
from bootmatrix.history.values import CellHistory, RunLine, RunState, Standing
from bootmatrix.report import REPORT_FILE
from bootmatrix.report.html import render_page
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import moment, natural
from bootmatrix.report.weekly import WEEKS, WeeklyTrend, view_weeks

INDEX_PAGE = "index.html"
OWN_TITLE, HEAD_BYTES = b"bootmatrix</title>", 4096
"""End of the title of each page, which begins it."""
SHOWN_RUNS = 200
SHOWN_CELLS = 500
"""Cells of a title: the failing ones first."""
TREND_RUNS = 60
SHOWN_INPUTS = 2
UNTESTED = "not tested"
ORDER = ("pass", "fail", "panic", "hang", "timeout", "flaky", "build-error", "infra-error", "skip")


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

    def tags_of(self, line: RunLine) -> list[str]:
        """Return the tags of a run."""
        return [tag for tag, name in self.tags.items() if name == line.name]

    def tone(self, line: RunLine) -> str:
        """Return `good`, `bad`, or empty if the run is accepted or of the future."""
        return "" if line.is_future(self.now) else "good" if line.is_green else "" if line.is_good else "bad"

    def shares(self, line: RunLine) -> Iterator[tuple[str, float, float]]:
        """Yield verdicts of a run, or `none`, with their start and size in percent."""
        counts, start = _counts(line) or [(UNTESTED, 1)], 0.0
        total = sum(count for _, count in counts)
        for verdict, count in counts:
            size = 100 * count / total
            yield "none" if verdict == UNTESTED else verdict, round(start, 2), round(size, 2)
            start += size

    def counts(self, line: RunLine) -> str:
        """Return a run's verdicts with their numbers."""
        return ", ".join(f"{count} {verdict}" for verdict, count in _counts(line)) or "no result"


@dataclass(frozen=True)
class TitleView:
    """Runs of a matrix: trend, and cells of the newest finished run, in words.

    `warning` is set if there is a newer run, without a result; `more` is the number of cells that are not shown.
    """

    title: str
    trend: tuple[RunLine, ...]
    cells: tuple[tuple[CellHistory, str], ...]
    newest: RunLine
    warning: str
    weeks: WeeklyTrend | None
    more: int


@dataclass(frozen=True)
class IndexView:
    """Values of the page."""

    runs: list[RunLine]
    total: int
    titles: tuple[TitleView, ...]
    newest: RunLine | None
    site: Site


def write_index(reports: Path) -> Path:
    """Write the page; return its path. Raises OSError if it cannot be written."""
    path = reports / INDEX_PAGE
    _check_own(path)
    tags = tags_of(reports)
    view = ask(reports, lambda rows: view_index(rows, reports, tags))
    write_atomic(path, render_page("index.html.j2", ("index.css",), view=view))
    return path


def _check_own(path: Path) -> None:
    """Raise FileExistsError if the page is not ours."""
    # `reports` may be a link of somebody else's checkout to any folder.
    with suppress(FileNotFoundError), open_plain(path) as file:
        if OWN_TITLE not in file.read(HEAD_BYTES):
            raise FileExistsError(errno.EEXIST, "a page that is not bootmatrix's is there", str(path))


def view_index(rows: Rows, reports: Path, tags: dict[str, str]) -> IndexView:
    """Make the view of the page."""
    site = Site(reports, tags)
    lines = [with_life(line, reports) for line in rows.runs()]
    lines.sort(key=lambda line: line.is_future(site.now))  # those are never the newest
    titles = dict.fromkeys(line.title for line in lines)
    newest = next((line for line in lines if not line.is_future(site.now)), None)
    return IndexView(
        runs=lines[:SHOWN_RUNS],
        total=len(lines),
        titles=tuple(_title(rows, title, [line for line in lines if line.title == title], site) for title in titles),
        newest=newest,
        site=site,
    )


def _title(rows: Rows, title: str, lines: list[RunLine], site: Site) -> TitleView:
    past = [line for line in lines if not line.is_future(site.now)] or lines
    newest = next((line for line in past if line.ended_at), past[0])
    results = rows.results(newest.name)
    histories = histories_of(rows, results.cells, newest) if results else {}
    cells = sorted((history for history in histories.values() if history.past), key=_urgency)
    accepted = {cell.key: cell.accepted for cell in results.cells} if results else {}
    return TitleView(
        title=one_line(title) or "(no title)",
        trend=tuple(reversed(past[:TREND_RUNS])),
        cells=tuple((history, _words(history, accepted.get(history.key, ""), rows)) for history in cells[:SHOWN_CELLS]),
        more=max(0, len(cells) - SHOWN_CELLS),
        newest=newest,
        weeks=view_weeks(rows.weeks(title, WEEKS, site.now)),
        warning="" if newest is past[0] else f"The newest run, {one_line(past[0].name)}, is {_state(past[0])}.",
    )


def _state(line: RunLine) -> str:
    return "of another version's format" if line.state is RunState.OTHER_FORMAT else str(line.state)


def _urgency(history: CellHistory) -> tuple[object, ...]:
    """Sort key: failing cells first, then flapping ones."""
    standing = history.past[-1].standing if history.past else Standing.SKIP
    order = (Standing.BAD, Standing.FAULT, Standing.FORESEEN, Standing.GOOD, Standing.SKIP)
    return order.index(standing), not history.is_flapping, natural(history.id)


def _words(history: CellHistory, accepted: str, rows: Rows) -> str:
    return ", ".join(filter(None, (_failing(history, rows), accepted, "flaps" if history.is_flapping else "")))


def _failing(history: CellHistory, rows: Rows) -> str:
    """Describe the start of a cell's failures, and the inputs that changed then."""
    since = history.failing_since
    if since is None:
        return ""
    words = f"fails since {moment(since.started_at)}"
    green = history.last_green
    if green is None or green.inputs == since.inputs:
        return f"{words}, with unchanged inputs" if green else words
    changes = [one_line(str(change)) for change in input_changes(rows.inputs(green), rows.inputs(since))]
    more = f" and {len(changes) - SHOWN_INPUTS} more" if len(changes) > SHOWN_INPUTS else ""
    return f"{words}, with {'; '.join(changes[:SHOWN_INPUTS])}{more}" if changes else words


def _counts(line: RunLine) -> list[tuple[str, int]]:
    """Count the cells by verdict, in order; last those without one."""
    verdicts = sorted(line.counts, key=lambda verdict: ORDER.index(verdict) if verdict in ORDER else len(ORDER))
    counts = [(verdict, line.counts[verdict]) for verdict in verdicts]
    return [*counts, (UNTESTED, line.missing)] if line.missing else counts
