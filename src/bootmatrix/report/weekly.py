"""Trends by week and architecture, for the index page."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from bootmatrix.history.values import WeekCount
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import date_of, duration

WEEKS = 53
"""A year."""
FEW_WEEKS = 2
"""Weeks needed for a trend."""
ALL = "all"


@dataclass(frozen=True)
class WeekMark:
    """A row's week: `passed` in percent, `time` the longest mean time.

    `x` is the number of the week in the chart; a week without a verdict has no mark.
    """

    x: int
    passed: float
    time: float
    words: str


@dataclass(frozen=True)
class WeekRow:
    """An architecture, or all: its weeks in order, the newest in words."""

    name: str
    marks: tuple[WeekMark, ...]
    rate: str
    usual: str
    flaky: int


@dataclass(frozen=True)
class WeeklyTrend:
    """Rows over the same `count` weeks, from `since` on."""

    since: str
    count: int
    rows: tuple[WeekRow, ...]


def view_weeks(counts: Sequence[WeekCount]) -> WeeklyTrend | None:
    """Make the trend; None for too few weeks."""
    mondays = [date.fromisoformat(count.monday) for count in counts]
    if len(set(mondays)) < FEW_WEEKS:
        return None
    first = min(mondays)
    by_arch: dict[str, list[WeekCount]] = defaultdict(list)
    for count in counts:
        by_arch[count.arch].append(count)
    rows = [_row(ALL, list(_together(counts)), first)] if len(by_arch) > 1 else []
    rows += [_row(arch, members, first) for arch, members in sorted(by_arch.items())]
    return WeeklyTrend(date_of(first), (max(mondays) - first).days // 7 + 1, tuple(rows))


def _together(counts: Iterable[WeekCount]) -> Iterator[WeekCount]:
    """Join the architectures of each week."""
    by_week: dict[str, list[WeekCount]] = defaultdict(list)
    for count in counts:
        by_week[count.monday].append(count)
    for monday, members in by_week.items():
        passed = sum(cell.passed for cell in members)
        total_s = sum(cell.pass_s * cell.passed for cell in members)
        judged, flaky = sum(cell.judged for cell in members), sum(cell.flaky for cell in members)
        yield WeekCount(monday, ALL, judged, passed, flaky, total_s / passed if passed else 0.0)


def _row(name: str, counts: list[WeekCount], first: date) -> WeekRow:
    longest_s = max(count.pass_s for count in counts) or 1.0
    newest = counts[-1]
    return WeekRow(
        name=one_line(name),
        marks=tuple(_mark(count, first, longest_s) for count in counts),
        rate=f"{_rate(newest):.0f} %",
        usual=duration(newest.pass_s) if newest.passed else "",
        flaky=sum(count.flaky for count in counts),
    )


def _mark(count: WeekCount, first: date, longest_s: float) -> WeekMark:
    monday = date.fromisoformat(count.monday)
    sunday = monday + timedelta(days=6)
    words = f"{monday.day} {monday:%b} to {sunday.day} {sunday:%b %Y}: {count.passed} of {count.judged} passed"
    words += f", {duration(count.pass_s)} on average" if count.passed else ""
    words += f", {count.flaky} flaky" if count.flaky else ""
    x = (monday - first).days // 7
    return WeekMark(x, round(_rate(count), 1), round(100 * count.pass_s / longest_s, 1), words)


def _rate(count: WeekCount) -> float:
    return 100 * count.passed / count.judged
