"""The sentence with which a report opens. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from bootmatrix.history.values import Comparison, Past
from bootmatrix.model import Record, Run, Verdict
from bootmatrix.report.units import natural

FEW_PLACES = 2
"""Places of regressions that the sentence names one by one."""


def clauses(run: Run, past: Past) -> tuple[str, ...]:
    """The sentence's parts: `37 of 40 cells as expected`, `2 regressions on ARCH/7.2 since 12 Nov`, `1 not run`."""
    tried = [record for record in run.records if record.verdict is not Verdict.SKIP]
    wrong = [record for record in tried if not record.expected]
    regressed = _regressions(wrong, past.comparison)
    rest = [record for record in wrong if record.cell.id not in {one.cell.id for one in regressed}]
    parts = [_share(len(tried) - len(wrong), len(tried) + len(run.missing)), _regression_words(regressed, past)]
    parts += _kinds(rest)
    parts += [_not_run(len(run.records) - len(tried), len(run.missing))]
    if run.interrupted:
        parts.append("interrupted")
    return tuple(part for part in parts if part)


def short_date(text: str, now: datetime | None = None) -> str:
    """`12 Nov` of an RFC 3339 time, with its year if that is not the one of `now`; empty for what is no time."""
    try:
        when = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return ""
    return f"{when:%-d %b}" if now is None or now.year == when.year else f"{when:%-d %b %Y}"


def places(records: Collection[Record], few: int = 1) -> str:
    """Where they are, as far as they have it in common: ` on ARCH/7.2`, ` on ARCH`, ` on 7.2`; else empty.

    Up to `few` places are named one by one.
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
        return "No cell was run"
    if good == tried:
        return "The one cell is as expected" if tried == 1 else f"All {tried} cells as expected"
    return f"{good} of {tried} cell{'' if tried == 1 else 's'} as expected"


def _regressions(wrong: Iterable[Record], comparison: Comparison | None) -> list[Record]:
    if comparison is None:
        return []
    changes = comparison.by_id()
    return [one for one in wrong if one.cell.id in changes and changes[one.cell.id].is_regression]


def _regression_words(records: Sequence[Record], past: Past) -> str:
    if not records or past.comparison is None:
        return ""
    changes = past.comparison.by_id()
    since = {changes[record.cell.id].since for record in records} - {""}
    date = short_date(min(since)) if len(since) == 1 else ""
    count = f"{len(records)} regression{'' if len(records) == 1 else 's'}"
    return f"{count}{places(records, FEW_PLACES)}{f' since {date}' if date else ''}"


def _kinds(records: Sequence[Record]) -> Iterable[str]:
    """What is wrong beside regressions, each kind with its place."""
    surprises = [one for one in records if one.verdict is Verdict.PASS]
    flaky = [one for one in records if one.verdict == "flaky"]
    failed = [one for one in records if one.verdict.is_guests and one.verdict not in {Verdict.PASS, "flaky"}]
    ours = [one for one in records if not one.verdict.is_guests]
    if failed:
        yield f"{len(failed)} fail{'s' if len(failed) == 1 else ''}{places(failed)}"
    if flaky:
        yield f"{len(flaky)} flaky{places(flaky)}"
    if surprises:
        yield f"{len(surprises)} passed unexpectedly{places(surprises)}"
    if ours:
        yield f"{len(ours)} without a verdict{places(ours)}"


def _not_run(skipped: int, unfinished: int) -> str:
    parts = [f"{skipped} not run"] if skipped else []
    parts += [f"{unfinished} not finished"] if unfinished else []
    return ", ".join(parts)
