"""Chart geometry for the templates: cell times and verdicts over runs. Pure."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bootmatrix.history.values import LAST, Past
from bootmatrix.model import Verdict
from bootmatrix.report.cell_view import CellView
from bootmatrix.report.headline import short_date
from bootmatrix.report.units import duration

SLOWEST = 10
FEW_RUNS = 3
"""Runs needed for a trend."""
MAX_DOTS = 400
"""Dots per row; of more cells only the longest times and an even sample are drawn."""
TICKS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 10800.0, 36000.0, 108000.0)


@dataclass(frozen=True, slots=True)
class Dot:
    """A cell's time; `x` is percent of the axis."""

    x: float
    verdict: str
    words: str


@dataclass(frozen=True, slots=True)
class Strip:
    """Times of one target; `median` is percent of the axis, None without a pass."""

    target: str
    dots: tuple[Dot, ...]
    median: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Tick:
    """An axis mark, in percent."""

    x: float
    words: str


@dataclass(frozen=True, slots=True)
class Slow:
    """One of the slowest cells; `width` is percent of the slowest."""

    cell: CellView
    width: float


@dataclass(frozen=True, slots=True)
class Piece:
    """Cells of one run with one verdict; `y` and `height` are percent of the chart."""

    verdict: str
    count: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """Verdicts of one run."""

    run: str
    date: str
    pieces: tuple[Piece, ...]
    words: str


@dataclass(frozen=True, slots=True)
class Charts:
    """All charts; empty ones are left out."""

    strips: tuple[Strip, ...]
    ticks: tuple[Tick, ...]
    slowest: tuple[Slow, ...]
    columns: tuple[Column, ...]


def view_charts(cells: Sequence[CellView], past: Past) -> Charts:
    """Make the charts of a run."""
    timed = [cell for cell in cells if cell.record.outcome]
    slowest = sorted(timed, key=lambda cell: -cell.wall_s)[:SLOWEST]
    longest_s = slowest[0].wall_s if slowest else 0.0
    axis = Axis.around([cell.wall_s for cell in timed])
    return Charts(
        strips=tuple(_strips(timed, axis)),
        ticks=axis.ticks() if timed else (),
        slowest=tuple(Slow(cell, round(100 * cell.wall_s / (longest_s or 1), 2)) for cell in slowest),
        columns=tuple(_columns(past)),
    )


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis of seconds: a timeout does not squeeze the rest."""

    marks_s: tuple[float, ...]

    @classmethod
    def around(cls, times_s: Sequence[float]) -> Axis:
        """Make the shortest axis that covers all times."""
        least, most = min(times_s, default=1.0), max(times_s, default=1.0)
        first = max((index for index, mark in enumerate(TICKS_S) if mark <= least), default=0)
        last = min((index for index, mark in enumerate(TICKS_S) if mark >= most), default=len(TICKS_S) - 1)
        last = max(last, 1)
        return cls(TICKS_S[min(first, last - 1) : last + 1])

    def place(self, seconds: float) -> float:
        """Return a time's position in percent."""
        start, end = math.log(self.marks_s[0]), math.log(self.marks_s[-1])
        share = (math.log(max(seconds, TICKS_S[0])) - start) / (end - start)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> tuple[Tick, ...]:
        """Return the axis marks."""
        return tuple(Tick(self.place(mark), _round_duration(mark)) for mark in self.marks_s)


def _round_duration(seconds: float) -> str:
    """Format an axis mark: `0.3 s`, `10 s`, `3 min`, `1 h`."""
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"


def _strips(cells: Iterable[CellView], axis: Axis) -> Iterable[Strip]:
    by_target: dict[str, list[CellView]] = defaultdict(list)
    for cell in cells:
        by_target[cell.target].append(cell)
    for target, members in sorted(by_target.items()):
        members.sort(key=lambda cell: -cell.wall_s)
        drawn = members if len(members) <= MAX_DOTS else members[:: len(members) // MAX_DOTS]
        passed = [cell.wall_s for cell in members if cell.record.verdict is Verdict.PASS]
        median = statistics.median(passed) if passed else None
        words = f"{duration(median)}, {len(passed)} pass" if median is not None else "no pass"
        dots = tuple(Dot(axis.place(cell.wall_s), cell.verdict, f"{cell.id}: {cell.time}") for cell in drawn)
        yield Strip(target, dots, None if median is None else axis.place(median), words)


def _columns(past: Past) -> Iterable[Column]:
    """Make a column per run with these cells; none below FEW_RUNS."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for history in past.histories.values():
        for entry in history.past:
            counts[entry.started_at, entry.run][entry.verdict] += 1
    runs = sorted(counts)[-LAST:]
    most = max((counts[run].total() for run in runs), default=0)
    for started_at, run in runs if len(runs) >= FEW_RUNS else ():
        tally = counts[started_at, run]
        words = ", ".join(f"{tally[verdict]} {verdict}" for verdict in Verdict if tally[verdict])
        yield Column(run, short_date(started_at), tuple(_pieces(tally, most)), words)


def _pieces(counts: Counter[str], most: int) -> Iterable[Piece]:
    """Stack the verdicts, passes at the bottom."""
    y = 100.0
    for verdict in Verdict:
        if counts[verdict]:
            height = 100 * counts[verdict] / most
            y -= height
            yield Piece(verdict.value, counts[verdict], round(y, 2), round(height, 2))
