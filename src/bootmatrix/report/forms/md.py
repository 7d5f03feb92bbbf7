"""Markdown report (GitHub's), for a pull request or a CI summary."""

import re
from collections.abc import Iterable, Iterator

from bootmatrix.history.values import Comparison
from bootmatrix.model import Verdict
from bootmatrix.report.cell_view import CellView
from bootmatrix.report.context import ReportContext
from bootmatrix.report.headline import free_words
from bootmatrix.report.history_text import baseline_words, counted, result_words
from bootmatrix.report.order import SYMBOLS
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.view import ReportView

_PLAIN = re.compile(r"[A-Za-z0-9 ,:()-]*(?:shard [0-9]+/[0-9]+)?")
"""Text without markup, links and names of people."""
MAX_ROWS = 300
MAX_CELLS = 50
"""Limits that keep the file below GitHub's 1 MiB for a summary."""


def render(context: ReportContext) -> bytes:
    """Return the document; guests' text is in code spans."""
    view = context.view
    lines = [f"## {'✅' if view.good else '❌'} {code(view.title)}: {headline_words(view)}", ""]
    if context.past.comparison:
        lines += [*_comparison(context.past.comparison), ""]
    lines += [f"- {code(line)}" for line in view.tiers] + ([""] if view.tiers else [])
    lines += [
        *_shortfalls(view),
        *_cells("Not as expected", view.attention),
        *_grid(context),
        *_traits(view),
        *_cells("Expected failures", view.expected_failures),
    ]
    facts = ", ".join(f"{name} {code(value)}" for name, value in view.facts[:2])
    lines += [f"{view.date}, {view.duration}; {facts}"]
    return ("\n".join(lines) + "\n").encode("utf-8")


def code(text: str) -> str:
    """Quote text as a code span."""
    plain = one_line(text) or " "
    fence = "`" * (max(map(len, re.findall("`+", plain)), default=0) + 1)
    pad = " " if "`" in (plain[0], plain[-1]) else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def words(text: str) -> str:
    """Return text of a run's file as it is, or as code if it might be markup."""
    return text if _PLAIN.fullmatch(text) else code(text)


def headline_words(view: ReportView) -> str:
    """Return the headline; clauses that a run's file has as text are quoted."""
    free = free_words(view.run)
    return "; ".join(words(clause) if clause in free else clause for clause in view.clauses)


def _comparison(comparison: Comparison) -> Iterator[str]:
    words = result_words(comparison)
    counts = ", ".join(counted(kind, count) for kind, count in comparison.counts().items())
    yield f"**{words[0].upper()}{words[1:]}** {baseline_words(comparison, code)}: {counts}"
    for change in comparison.regressions[:MAX_CELLS]:
        yield f"- **{change.kind}** {code(change.id)}: {change.before or 'none'} → {change.now}"


def _shortfalls(view: ReportView) -> Iterator[str]:
    if not view.shortfalls:
        return
    yield from ("### Without a verdict", "")
    yield from (f"- {code(shortfall.name)}: {words(shortfall.reason)}" for shortfall in view.shortfalls[:MAX_CELLS])
    if len(view.shortfalls) > MAX_CELLS:
        yield f"- and {len(view.shortfalls) - MAX_CELLS} more"
    yield ""


def _cells(title: str, cells: Iterable[CellView]) -> Iterator[str]:
    listed = list(cells)
    if not listed:
        return
    yield from (f"### {title}", "")
    for cell in listed[:MAX_CELLS]:
        expect = f"  \n  expected: {code(cell.expect)}" if cell.expect else ""
        pattern = f"  \n  {code(cell.pattern)}" if cell.pattern else ""
        yield f"- **{cell.verdict}** {code(cell.id)}  \n  {code(cell.reason)}{expect}{pattern}"
    if len(listed) > MAX_CELLS:
        yield f"- and {len(listed) - MAX_CELLS} more"
    yield ""


def _grid(context: ReportContext) -> Iterator[str]:
    view = context.view
    rows = [(group.spec, row) for group in view.groups for row in group.rows]
    if not rows:
        return
    yield "| spec | architecture |" + "".join(f" {kernel} |" for kernel in view.kernels)
    yield "|---|---|" + "---|" * len(view.kernels)
    for spec, row in rows[:MAX_ROWS]:
        places = "".join(f" {_place(cell)} |" for cell in row.cells)
        yield f"| {code(spec)} | {code(row.target)} |{places}"
    if len(rows) > MAX_ROWS:
        yield f"\nand {len(rows) - MAX_ROWS} more rows"
    yield ""


def _traits(view: ReportView) -> Iterator[str]:
    if not view.traits:
        return
    yield from ("| trait | cells as expected | |", "|---|---|---|")
    for row in view.traits[:MAX_CELLS]:
        total, sentence = row.total, code(row.sentence) if row.sentence else ""
        yield f"| {code(row.name)} | {SYMBOLS[Verdict(total.verdict)]} {total.text} | {sentence} |"
    yield ""


def _place(cell: CellView | None) -> str:
    if cell is None:
        return "·"
    aside = f" ({cell.remark})" if cell.remark else ""
    return f"{SYMBOLS[Verdict(cell.verdict)]} {cell.verdict}{aside} {cell.time}".replace("|", "\\|").rstrip()
