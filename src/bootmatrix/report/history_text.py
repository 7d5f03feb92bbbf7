"""What is known of the past, as lines for a terminal. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bootmatrix.history.values import (
    CellChange,
    CellHistory,
    ChangeKind,
    Comparison,
    PastVerdict,
    RunLine,
    Standing,
)
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration

MARKS = {Standing.GOOD: "✓", Standing.BAD: "✗", Standing.FORESEEN: "x", Standing.FAULT: "?", Standing.SKIP: "–"}
SHOWN_SUBRESULTS = 5


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, each column as wide as its widest word."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    for row in rows:
        yield "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def day(moment: str) -> str:
    """`2026-11-24 01:40` of an RFC 3339 time, as it is in UTC."""
    return one_line(moment[:16].replace("T", " "))


def runs_lines(lines: Iterable[RunLine]) -> Iterator[str]:
    """A table of runs."""
    rows = [("RUN", "BEGAN (UTC)", "TIME", "CELLS", "TAGS")]
    rows += [
        (one_line(line.name), day(line.started_at), _time(line), run_state(line), ", ".join(line.tags))
        for line in lines
    ]
    return columns(rows)


def _time(line: RunLine) -> str:
    return duration(line.wall_s) if line.ended_at else ""


def run_state(line: RunLine) -> str:
    """`8 as expected`, `2 of 8 not as expected, interrupted`."""
    if line.fault:
        return one_line(line.fault.rpartition(f"{line.name}/")[2], 100)
    tried = sum(number for verdict, number in line.counts.items() if verdict != "skip")
    words = f"{line.unexpected} of {tried} not as expected" if line.unexpected else f"{tried} as expected"
    if line.interrupted and line.ended_at:
        return f"{words}, interrupted"
    return words if line.ended_at else f"{words}, not ended"


def history_lines(history: CellHistory) -> Iterator[str]:
    """All that is known of a cell."""
    yield f"{history.id} ({history.key.mode})"
    yield f"  {standing_words(history)}"
    yield f"  last {len(history.past)}: {''.join(MARKS[one.standing] for one in history.past)}"
    if history.flips:
        flaky = ": flaky" if history.is_flaky else ""
        yield f"  {flips_words(history)}{flaky}"
    if history.usual:
        usual = history.usual
        yield f"  usually {duration(usual.median_s)} ± {duration(usual.mad_s)} ({usual.runs} passes on the last host)"
    rows = [(f"  {day(one.started_at)}", one.verdict, _seconds(one), one_line(one.run)) for one in history.past[::-1]]
    yield from columns(rows)


def flips_words(history: CellHistory) -> str:
    """How often it went from pass to failure or back."""
    times = "once" if history.flips == 1 else f"{history.flips} times"
    return f"changed {times}, {history.unprovoked_flips} of them with the same inputs"


def _seconds(one: PastVerdict) -> str:
    return duration(one.seconds) if one.seconds else ""


def standing_words(history: CellHistory) -> str:
    """Since when it fails, or that it does not."""
    since, last = history.failing_since, history.last_green
    if not history.past:
        return "no verdict yet"
    if since is None:
        return "passes" if last else "no verdict on the guest yet"
    green = f"; last pass {day(last.started_at)}" if last else "; no pass among the last"
    return f"fails since {day(since.started_at)}, {one_line(since.run)}{green}"


def counted(kind: ChangeKind, count: int) -> str:
    """`1 new cell`, `30 gone cells`, `2 still failing`."""
    noun = kind.endswith(("cell", "failure"))
    return f"{count} {kind}{'s' if noun and count != 1 else ''}"


def summary(comparison: Comparison) -> str:
    """`2 regressions since RUN: 2 new failures, 6 unchanged`."""
    number = len(comparison.regressions)
    words = f"{number or 'no'} {'regression' if number == 1 else 'regressions'}"
    since = f"since {one_line(comparison.baseline)}" if comparison.baseline else "(no earlier run to compare with)"
    counts = ", ".join(counted(kind, count) for kind, count in comparison.counts().items())
    return f"{words} {since}: {counts}" if counts else f"{words} {since}"


def comparison_lines(comparison: Comparison, everything: bool = False) -> Iterator[str]:
    """The changes, regressions first; with `everything` also cells in which nothing did."""
    yield summary(comparison)
    for change in comparison.changes:
        if everything or change.is_changed or change.inputs or change.kind is ChangeKind.STILL_FAILING:
            yield from change_lines(change)


def change_lines(change: CellChange) -> Iterator[str]:
    """One cell beside its baseline."""
    verdicts = change.now if change.before == change.now else f"{change.before or '–'} → {change.now or '–'}"
    mode = "" if change.mode == "cold" else f" ({change.mode})"
    since = f"  since {day(change.since)}" if change.since else ""
    yield f"{change.kind:16} {change.id}{mode}  {verdicts}{since}"
    if change.reason and change.kind not in {ChangeKind.UNCHANGED, ChangeKind.NEW_CELL, ChangeKind.FIXED}:
        yield f"    {one_line(change.reason)}"
    if change.note:
        yield f"    {one_line(change.note)}"
    for one in change.subresults[:SHOWN_SUBRESULTS]:
        yield f"    {one_line(one.name)}: {one.before or '–'} → {one.now or '–'}"
    if len(change.subresults) > SHOWN_SUBRESULTS:
        yield f"    and {len(change.subresults) - SHOWN_SUBRESULTS} more sub-results changed"
    if change.duration:
        found = change.duration
        word = "slower" if found.ratio > 1 else "faster"
        yield (
            f"    {word}: {duration(found.now_s)}, usually {duration(found.usual_s)} "
            f"(×{found.ratio:.2f}, {found.runs} runs)"
        )
    for one_input in change.inputs:
        yield f"    input changed: {one_line(str(one_input))}"
