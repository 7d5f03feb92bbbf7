"""Histories and comparisons as terminal lines. Pure and quick to import."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile

from bootmatrix.history.reference import now
from bootmatrix.history.values import (
    NO_RESULT,
    CellChange,
    CellHistory,
    ChangeKind,
    Comparison,
    PastVerdict,
    RunLine,
    RunState,
    Standing,
)
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration, moment

MARKS = {Standing.GOOD: "✓", Standing.BAD: "✗", Standing.FORESEEN: "x", Standing.FAULT: "?", Standing.SKIP: "–"}
FAULTS = ("build-error", "infra-error", "user-unsupported")
"""Verdicts on nothing that was tested, spelled out since the model is slow to import. A test compares them."""
SHOWN_SUBRESULTS = 5


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align rows as columns."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    for row in rows:
        yield "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def day(moment: str) -> str:
    """Format an RFC 3339 time in UTC as `2026-11-24 01:40`."""
    return one_line(moment[:16].replace("T", " "))


def runs_lines(lines: Iterable[RunLine]) -> Iterator[str]:
    """Format the table of runs."""
    rows = [("RUN", "BEGAN (UTC)", "TIME", "CELLS", "TAGS")]
    rows += [
        (one_line(line.name), day(line.started_at), _time(line), run_state(line), ", ".join(line.tags))
        for line in lines
    ]
    return columns(rows)


def _time(line: RunLine) -> str:
    return duration(line.wall_s) if line.ended_at else ""


def run_state(line: RunLine) -> str:
    """Summarise a run: `8 as expected`, `damaged: run.json: …`."""
    if line.state in NO_RESULT:
        fault = line.fault.rpartition(f"{line.name}/")[2].removeprefix("damaged: ").replace(": damaged:", ":")
        return one_line(f"{line.state}: {fault}", 120)
    tried = sum(number for verdict, number in line.counts.items() if verdict != "skip")
    ours = sum(line.counts.get(verdict, 0) for verdict in FAULTS)
    wrong, judged = line.unexpected - ours, tried - ours
    words = f"{wrong} of {judged} not as expected" if wrong else f"{judged} as expected"
    if line.accepted:
        words += f", {line.accepted} accepted"
    if ours:
        words = f"{words}, {ours} without a verdict" if judged else f"{ours} without a verdict"
    if line.missing and line.state is not RunState.UNDER_WAY:
        words += f", {line.missing} not tested"
    if line.state is not RunState.FINISHED:
        words += f", {line.state}"
    if line.state is RunState.INTERRUPTED and line.interruption:
        words += f": {one_line(line.interruption)}"
    return f"{words}, dated in the future" if line.is_future(now()) else words


def history_lines(history: CellHistory) -> Iterator[str]:
    """Format a cell's history."""
    yield f"{history.id} ({history.key.mode})"
    yield f"  {standing_words(history)}"
    yield f"  last {len(history.past)}: {''.join(MARKS[entry.standing] for entry in history.past)}"
    if history.flips:
        yield f"  {flips_words(history)}{': flapping' if history.is_flapping else ''}"
    if history.usual:
        usual = history.usual
        yield f"  usually {duration(usual.median_s)} ± {duration(usual.mad_s)} ({usual.runs} passes on the last host)"
    rows = [
        (f"  {_moment(entry)}", entry.verdict, _seconds(entry), one_line(entry.run)) for entry in history.past[::-1]
    ]
    yield from columns(rows)


def flips_words(history: CellHistory) -> str:
    """Describe a cell's changes between pass and failure."""
    if history.flips == 1:
        return f"changed once, with {'the same' if history.unprovoked_flips else 'other'} inputs"
    return f"changed {history.flips} times, {history.unprovoked_flips} of them with the same inputs"


def _seconds(entry: PastVerdict) -> str:
    return duration(entry.seconds) if entry.seconds else ""


def standing_words(history: CellHistory) -> str:
    """Describe since when a cell fails, passes, or has no verdict."""
    since, last = history.failing_since, history.last_green
    if not history.past:
        return "no verdict yet"
    if since is None and last is None:
        return "no verdict on the guest yet"
    faults = list(takewhile(lambda entry: entry.standing is Standing.FAULT, reversed(history.past)))
    note = f"no verdict since {_moment(faults[-1])} ({one_line(faults[0].verdict)}); before: " if faults else ""
    if since is None:
        return f"{note}passes"
    green = f"; last pass {_moment(last)}" if last else "; no pass on record"
    return f"{note}fails since {_moment(since)} ({one_line(since.run)}){green}"


def _moment(entry: PastVerdict) -> str:
    return one_line(moment(entry.started_at))


def counted(kind: ChangeKind, count: int) -> str:
    """Count a kind of change: `1 new cell`, `30 gone cells`, `2 still failing`."""
    noun = kind.endswith(("cell", "failure"))
    return f"{count} {kind}{'s' if noun and count != 1 else ''}"


def summary(comparison: Comparison) -> str:
    """Summarise a comparison: `2 regressions since RUN: 2 new failures, 6 unchanged`."""
    words = f"{result_words(comparison)} {baseline_words(comparison)}"
    counts = ", ".join(counted(kind, count) for kind, count in comparison.counts().items())
    part = f"; {comparison.not_tested_words}" if comparison.not_tested else ""
    return f"{words}: {counts}{part}" if counts else words


def result_words(comparison: Comparison) -> str:
    """Count the regressions; without any, a run may have tested nothing."""
    number = len(comparison.regressions)
    if not number and not comparison.is_tested:
        return "nothing was tested yet" if comparison.interrupted else "nothing was tested"
    words = f"{number or 'no'} {'regression' if number == 1 else 'regressions'}"
    return f"{words} so far" if comparison.interrupted else words


def baseline_words(comparison: Comparison, quote: Callable[[str], str] = one_line) -> str:
    """Name the baseline, as it follows `result_words`."""
    if not comparison.baseline:
        return "(no earlier run to compare with)"
    word = "since" if comparison.is_tested or comparison.regressions else "to compare with"
    return f"{word} {quote(comparison.baseline)}"


def comparison_lines(comparison: Comparison, everything: bool = False) -> Iterator[str]:
    """Format the changes, regressions first; `everything` includes unchanged cells."""
    yield summary(comparison)
    for change in comparison.changes:
        is_new = change.kind is ChangeKind.NEW_CELL and not comparison.baseline
        if everything or (change.is_changed and not is_new) or change.inputs or change.kind is ChangeKind.STILL_FAILING:
            yield from change_lines(change)


def change_lines(change: CellChange) -> Iterator[str]:
    """Format a cell's change since the baseline."""
    is_same = change.before == change.now or not (change.before or change.note)  # or nothing to compare with
    verdicts = change.now if is_same else f"{change.before or '–'} → {change.now or '–'}"
    mode = "" if change.mode == "cold" else f" ({change.mode})"
    since = f"  since {one_line(moment(change.since))}" if change.since else ""
    yield f"{change.kind:16} {change.id}{mode}  {verdicts}{since}"
    if change.reason and change.kind not in {ChangeKind.UNCHANGED, ChangeKind.NEW_CELL, ChangeKind.FIXED}:
        yield f"    {one_line(change.reason)}"
    if change.note:
        yield f"    {one_line(change.note)}"
    for sub in change.subresults[:SHOWN_SUBRESULTS]:
        yield f"    {one_line(sub.name)}: {sub.before or '–'} → {sub.now or '–'}"
    if len(change.subresults) > SHOWN_SUBRESULTS:
        yield f"    and {len(change.subresults) - SHOWN_SUBRESULTS} more sub-results changed"
    if change.duration:
        timing = change.duration
        word = "slower" if timing.ratio > 1 else "faster"
        yield (
            f"    {word}: {duration(timing.now_s)}, usually {duration(timing.usual_s)} "
            f"(×{timing.ratio:.2f}, {timing.runs} runs)"
        )
    for one_input in change.inputs:
        yield f"    input changed: {one_line(str(one_input))}"
