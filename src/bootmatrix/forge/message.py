"""Words about a run for a forge: one line, a comment, an issue for a cell."""

import re
from collections.abc import Iterator

from bootmatrix.history.values import CellChange, ChangeKind
from bootmatrix.model import Record
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms.md import code, headline_words, words
from bootmatrix.report.headline import free_words
from bootmatrix.report.sanitize import one_line

MAX_ROWS = 40
MAX_STATUS = 140
"""Characters of a commit status's description on GitHub."""
MAX_TITLE = 250
"""Characters of an issue's title, below what GitHub and GitLab take."""
MAX_TEXT = 60_000
"""Characters of a comment, which GitHub refuses beyond 65,536."""
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 ,:/()-]")
"""Left out of a run's own words, as chats interpret some, such as @everyone."""
MARK = "<!-- bootmatrix: {name} -->"
"""Marks the comment or issue to update; a forge does not show it."""


def mark(name: str) -> str:
    """Return the mark of a comment or issue; `name` cannot end it."""
    return MARK.format(name=one_line(name).replace("--", "- -").replace(">", ""))


def headline(context: ReportContext) -> str:
    """Return the result in a line."""
    free = free_words(context.view.run)
    clauses = (_NOT_PLAIN.sub("", clause) if clause in free else clause for clause in context.view.clauses)
    return one_line("; ".join(clauses), MAX_STATUS)


def comment(context: ReportContext, link: str) -> str:
    """Return a pull request's comment: regressions, fixes, the report."""
    view = context.view
    lines = [mark(view.title), f"### {'✅' if view.good else '❌'} {code(view.title)}: {headline_words(view)}", ""]
    comparison = context.past.comparison
    changes = comparison.changes if comparison else ()
    lines += _changes("Regressed", [change for change in changes if change.is_regression])
    lines += _changes("Fixed", [change for change in changes if change.kind is ChangeKind.FIXED])
    if not comparison:
        lines += _records(context)
    lines += [f"- {code(short.name)}: {words(short.reason)}" for short in view.shortfalls[:MAX_ROWS]]
    return "\n".join([*_bounded(lines), *([f"\n[Report]({link})"] if link else [])]) + "\n"


def _bounded(lines: list[str]) -> Iterator[str]:
    """Yield the lines that a forge takes, and how many are left out."""
    size = 0
    for number, line in enumerate(lines):
        size += len(line) + 1
        if size > MAX_TEXT:
            yield f"- and {len(lines) - number} more lines"
            return
        yield line


def _changes(title: str, changes: list[CellChange]) -> Iterator[str]:
    if changes:
        yield f"**{title}**"
        yield ""
        for change in changes[:MAX_ROWS]:
            reason = f": {code(change.reason)}" if change.reason and change.is_regression else ""
            yield f"- {code(change.id)} {change.before or 'none'} → {change.now}{reason}"
        if len(changes) > MAX_ROWS:
            yield f"- and {len(changes) - MAX_ROWS} more"
        yield ""


def _records(context: ReportContext) -> Iterator[str]:
    wrong = context.view.attention
    for cell in wrong[:MAX_ROWS]:
        yield f"- **{cell.verdict}** {code(cell.id)}: {code(cell.reason)}"
    if len(wrong) > MAX_ROWS:
        yield f"- and {len(wrong) - MAX_ROWS} more"


def issue(record: Record, link: str) -> tuple[str, str]:
    """Return title and text of the issue of a cell that fails."""
    cell = record.cell.id
    text = [mark(cell), f"{code(cell)} has the verdict **{record.verdict}**:", "", code(record.judgement.reason)]
    return one_line(f"{cell}: {record.verdict}", MAX_TITLE), "\n".join(
        [*text, *([f"\n[Report]({link})"] if link else [])]
    ) + "\n"
