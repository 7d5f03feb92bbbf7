"""Support tiers as Markdown, from the verdicts of the last runs.

tier 1   passed in each of the last RUNS runs
tier 2   passes, but not in each of them, or in fewer runs
tier 3   does not pass, as the matrix expects
none     does not pass, or was not tried
"""

from collections.abc import Iterator

from bootmatrix.history.trend import is_pass
from bootmatrix.history.values import Standing
from bootmatrix.model import Record, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms.md import code

RUNS = 5
"""Last verdicts that tier 1 needs, all of them passes."""


def render(context: ReportContext) -> bytes:
    """Return the table in UTF-8, a row for each cell, best tier first."""
    part = f", {code(context.run.part_words)}" if context.run.part_words else ""
    rows = sorted((_tier(record, context), record.cell.id, record) for record in context.records)
    lines = [
        f"Tier 1: passed in each of the last {RUNS} runs. Tier 2: passes now. Tier 3: a known failure. None: neither.",
        "",
        "| tier | spec | architecture | kernel | evidence |",
        "|---|---|---|---|---|",
        *(_row(tier, record, context) for tier, _, record in rows),
        *(f"| none | {code(name)} | | | no verdict |" for name in context.run.missing),
        "",
        f"From the run {code(context.run.name)}{part}.",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _tier(record: Record, context: ReportContext) -> int:
    if record.verdict is Verdict.PASS and record.expected:
        last = list(_last(record, context))
        return 1 if len(last) >= RUNS and all(last) else 2
    return 3 if record.expected and record.verdict.is_guests else 4


def _last(record: Record, context: ReportContext) -> Iterator[bool]:
    """Yield whether each of the last judged verdicts is a pass."""
    history = context.past.histories.get(record.cell.id)
    judged = [entry for entry in history.past if entry.standing is not Standing.FAULT] if history else []
    yield from map(is_pass, judged[-RUNS:])


def _row(tier: int, record: Record, context: ReportContext) -> str:
    cell = record.cell
    last = list(_last(record, context))
    words = f"{sum(last)} of the last {len(last)} passed" if last else "no earlier run"
    if record.verdict is Verdict.SKIP:
        reason = code(record.judgement.reason).replace("|", "\\|")
        words = f"not tried: {reason}"
    elif record.verdict is not Verdict.PASS:
        words = f"{record.verdict}; {words}"
    elif not record.expected:
        words = f"passes, and is expected to fail; {words}"
    name = str(tier) if tier < 4 else "none"
    return f"| {name} | {code(cell.spec_name)} | {code(cell.target)} | {code(cell.kernel)} | {words} |".replace(
        "\n", " "
    )
