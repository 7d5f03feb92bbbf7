"""Headline of a report. Pure."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from bootmatrix.history.values import Comparison, Past
from bootmatrix.model import Record, Run, Verdict
from bootmatrix.report.product import mixed_products
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import natural

FEW_PLACES = 2
"""Places of regressions that the headline names."""


def clauses(run: Run, past: Past) -> tuple[str, ...]:
    """Return the clauses of the headline.

    `37 of 40 cells as expected`, `2 regressions on ARCH/7.2 since 12 Nov`, `1 not run`.
    """
    tried = [record for record in run.records if record.verdict is not Verdict.SKIP]
    wrong = [record for record in tried if not record.expected]
    regressed = _regressions(run.records, past.comparison)
    rest = [record for record in wrong if record.cell.id not in {record.cell.id for record in regressed}]
    parts = [
        _share(len(tried) - len(wrong), len(tried) and len(tried) + len(run.missing)),
        _regression_words(regressed, past),
    ]
    parts += [*_kinds(rest), _mixed(run.records)]
    parts += [_not_run(len(run.records) - len(tried), len(run.missing))]
    parts += free_words(run)
    return tuple(part for part in parts if part)


def free_words(run: Run) -> tuple[str, str]:
    """Return clauses that a run's file has as text: its end, and its part."""
    return one_line(run.incomplete_words), one_line(run.part_words)


def short_date(text: str, now: datetime | None = None) -> str:
    """Format an RFC 3339 time as `12 Nov`; empty for an invalid time.

    With `now`, another year than that of `now` is included.
    """
    try:
        when = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return ""
    return f"{when:%-d %b}" if now is None or now.year == when.year else f"{when:%-d %b %Y}"


def long_date(text: str) -> str:
    """Format a time as `12 November 2026, 01:40 UTC`. Raises ValueError."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%-d %B %Y, %H:%M UTC")


def date_words(text: str) -> str:
    """Format a time as long_date does; an invalid one stays, on a line."""
    try:
        return long_date(text)
    except ValueError:
        return one_line(text)


def places(records: Collection[Record], few: int = 1) -> str:
    """Return records' common place: ` on ARCH/7.2`, ` on 7.2`; or empty.

    Up to `few` places are named individually.
    """
    targets = {record.cell.target for record in records}
    kernels = {record.cell.kernel for record in records}
    where = sorted({f"{record.cell.target}/{record.cell.kernel}" for record in records}, key=natural)
    if len(where) <= few:
        return f" on {' and '.join(where)}" if where else ""
    if len(targets) == 1:
        return f" on {targets.pop()}"
    if len(kernels) == 1:
        return f" on {kernels.pop()}"
    return ""


def _share(good: int, tried: int) -> str:
    if not tried:
        return "No cell was tested"
    if good == tried:
        return "1 cell as expected" if tried == 1 else f"All {tried} cells as expected"
    return f"{good} of {tried} cell{'' if tried == 1 else 's'} as expected"


def _regressions(records: Iterable[Record], comparison: Comparison | None) -> list[Record]:
    if comparison is None:
        return []
    changes = comparison.by_id()
    return [record for record in records if record.cell.id in changes and changes[record.cell.id].is_regression]


def _regression_words(records: Sequence[Record], past: Past) -> str:
    if not records or past.comparison is None:
        return ""
    changes = past.comparison.by_id()
    since = {changes[record.cell.id].since for record in records} - {""}
    date = short_date(min(since)) if len(since) == 1 else ""
    count = f"{len(records)} regression{'' if len(records) == 1 else 's'}"
    return f"{count}{places(records, FEW_PLACES)}{f' since {date}' if date else ''}"


def _kinds(records: Sequence[Record]) -> Iterable[str]:
    """Describe the unexpected cells other than regressions, by kind."""
    surprises = [record for record in records if record.verdict is Verdict.PASS]
    flaky = [record for record in records if record.verdict == "flaky"]
    failed = [
        record for record in records if record.verdict.is_tested and record.verdict not in {Verdict.PASS, "flaky"}
    ]
    ours = [record for record in records if not record.verdict.is_tested]
    if failed:
        yield f"{len(failed)} fail{'s' if len(failed) == 1 else ''}{places(failed)}"
    if flaky:
        yield f"{len(flaky)} flaky{places(flaky)}"
    if surprises:
        yield f"{len(surprises)} passed unexpectedly{places(surprises)}"
    if ours:
        yield f"{len(ours)} without a verdict{places(ours)}"


def _mixed(records: Iterable[Record]) -> str:
    """Describe different products of one spec, as two releases that were merged."""
    return "cells of one spec tested different products" if next(mixed_products(records), "") else ""


def _not_run(skipped: int, unfinished: int) -> str:
    parts = [f"{skipped} not run"] if skipped else []
    parts += [f"{unfinished} not finished"] if unfinished else []
    return ", ".join(parts)
