"""A cell's history: marks, a sparkline, changes. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from bootmatrix.history.values import CellChange, CellHistory, ChangeKind, PastVerdict
from bootmatrix.model import Record
from bootmatrix.report.headline import short_date
from bootmatrix.report.history_text import flips_words
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration

BAR_WIDTH, BAR_GAP, HALF_HEIGHT = 5, 2, 14
"""Sparkline geometry in pixels: passes rise above the line by their time, other verdicts hang below."""
LEAST_HEIGHT = 3.0
FEW_CHANGES = 12


@dataclass(frozen=True, slots=True)
class HistoryMark:
    """A mark beside a verdict: `kind` is its style, `words` explain."""

    kind: str
    short: str
    words: str


@dataclass(frozen=True, slots=True)
class HistoryView:
    """A sparkline, described by `words`.

    `paths` are pairs of a verdict and the SVG path of its bars, in pixels.
    """

    paths: tuple[tuple[str, str], ...]
    width: int
    height: int
    words: str


def marks(record: Record, change: CellChange | None, past: CellHistory | None) -> Iterable[HistoryMark]:
    """List the marks of a cell, the most important first."""
    if change:
        yield from _change_marks(change)
    if past and past.is_flapping and not (change and change.kind is ChangeKind.FLAPPING):
        yield HistoryMark("flaky", "flaps", f"flaps: {past.flips} changes in {len(past.past)} runs")
    if record.boot == "fork":
        yield HistoryMark("forked", "forked", "forked, verified cold" if record.verified else "forked")
    elif record.cold_reason:
        yield HistoryMark("note", "cold", "booted cold")
    if record.cell.tier != "system":
        yield HistoryMark("note", record.cell.tier, f"{record.cell.tier} tier: on a kernel that ran already")
    elif record.judgement.is_weak and record.judgement.privileged:
        yield HistoryMark("privileged", "privileged", "privileged containers took part: weaker evidence")
    elif record.judgement.is_weak:
        yield HistoryMark("weak", "by console", "judged by the console alone: weaker evidence")
    if record.outcome and any(diagnostic.file for diagnostic in record.outcome.diagnostics):
        yield HistoryMark("note", "diagnosed", "diagnostics saved")
    if record.attempts > 1:
        yield HistoryMark("note", f"{record.attempts} attempts", f"took {record.attempts} attempts")


def _change_marks(change: CellChange) -> Iterable[HistoryMark]:
    since = short_date(change.since)
    if change.is_regression:
        yield HistoryMark("regression", "regressed", f"regression{f' since {since}' if since else ''}")
    elif change.kind is ChangeKind.STILL_FAILING:
        yield HistoryMark(
            "still", f"since {since}" if since else "known", f"failing{f' since {since}' if since else ' before'}"
        )
    elif change.kind is not ChangeKind.UNCHANGED:
        short = {ChangeKind.FIXED: "fixed", ChangeKind.NEW_CELL: "new", ChangeKind.FLAPPING: "flaps"}.get(
            change.kind, "changed"
        )
        style = {ChangeKind.FIXED: "fixed", ChangeKind.FLAPPING: "flaky"}.get(change.kind, "changed")
        yield HistoryMark(style, short, str(change.kind))
    elif change.subresults:
        yield HistoryMark("changed", "changed", f"{len(change.subresults)} sub-results changed")
    if change.duration:
        slower = change.duration.ratio > 1
        factor = change.duration.ratio if slower else 1 / max(change.duration.ratio, 0.001)
        word = "slower" if slower else "faster"
        yield HistoryMark("changed", f"{factor:.1f}× {word}", f"{factor:.1f} times {word} than usual")


def change_lines(change: CellChange) -> Iterable[str]:
    """List the differences from the baseline."""
    if change.kind is not ChangeKind.UNCHANGED:
        verdicts = (
            f": {change.before} before, {change.now} now" if change.before and change.before != change.now else ""
        )
        yield f"{change.kind}{verdicts}"
    if change.note:
        yield one_line(change.note)
    for sub in change.subresults[:FEW_CHANGES]:
        yield f"sub-result {one_line(sub.name)}: {sub.before or 'none'} before, {sub.now or 'none'} now"
    if change.duration:
        took = change.duration
        yield f"time: {duration(took.now_s)}, usually {duration(took.usual_s)} ({took.runs} runs)"
    yield from map(one_line, map(str, change.inputs[:FEW_CHANGES]))


def view_history(past: CellHistory) -> HistoryView:
    """Make the sparkline of a cell's last runs, the newest on the right."""
    longest = max((entry.seconds for entry in past.past), default=0.0) or 1.0
    paths: dict[str, str] = {}
    for number, entry in enumerate(past.past):
        paths[entry.verdict] = paths.get(entry.verdict, "") + _bar(number, entry, longest)
    width = len(past.past) * (BAR_WIDTH + BAR_GAP)
    return HistoryView(tuple(paths.items()), width, 2 * HALF_HEIGHT + 1, _words(past))


def _bar(number: int, entry: PastVerdict, longest: float) -> str:
    height = max(LEAST_HEIGHT, HALF_HEIGHT * entry.seconds / longest)
    y = HALF_HEIGHT - height if entry.verdict == "pass" else HALF_HEIGHT + 1
    return f"M{number * (BAR_WIDTH + BAR_GAP)} {y:.1f}h{BAR_WIDTH}v{height:.1f}h-{BAR_WIDTH}z"


def _words(past: CellHistory) -> str:
    passes = sum(entry.verdict == "pass" for entry in past.past)
    parts = [f"{passes} of the last {len(past.past)} runs passed"]
    if past.failing_since:
        parts.append(f"fails since {short_date(past.failing_since.started_at)}")
    if past.failing_since and past.last_green:
        parts.append(f"last pass {short_date(past.last_green.started_at)}")
    if past.is_flapping:
        parts.append(flips_words(past))
    if past.usual:
        parts.append(f"usually takes {duration(past.usual.median_s)}")
    return "; ".join(parts) + "."
