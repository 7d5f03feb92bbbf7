"""The report as TAP version 14: a test point for each cell, its sub-results as a subtest before it.

https://testanything.org/tap-version-14-specification.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from bootmatrix.model import Record, SubResult, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.shortfall import KIND, shortfalls

INDENT = "    "


def render(given: ReportContext) -> bytes:
    """The document, in UTF-8."""
    lacking = shortfalls(given.run)
    lines = ["TAP version 14", f"1..{len(given.records) + len(lacking)}"]
    for number, record in enumerate(given.records, 1):
        lines += _subtest(record)
        lines += _point(number, record)
    for number, one in enumerate(lacking, len(given.records) + 1):
        lines += [f"not ok {number} - {_plain(one.name)}", *_block(KIND, one.reason)]
    if given.run.interrupted:
        lines.append("Bail out! The run was interrupted")
    return ("\n".join(lines) + "\n").encode("utf-8")


def _point(number: int, record: Record) -> Iterator[str]:
    passed = record.verdict in {Verdict.PASS, Verdict.SKIP} and record.expected
    directive = ""
    if record.verdict is Verdict.SKIP:
        directive = f" # SKIP {_plain(record.judgement.reason)}"
    elif record.expected and not passed:
        directive = f" # TODO {_plain(record.cell.expect)}"
    yield f"{'ok' if passed else 'not ok'} {number} - {_plain(record.cell.id)}{directive}"
    if not passed:
        yield from _block(record.verdict.value, _reason(record))


def _block(verdict: str, reason: str) -> Iterator[str]:
    yield from ("  ---", f"  verdict: {verdict}", f"  reason: {_quoted(reason)}", "  ...")


def _reason(record: Record) -> str:
    if record.verdict is Verdict.PASS:
        return f"it passed, and was expected not to: {record.cell.expect}"
    return record.judgement.reason


def _subtest(record: Record) -> Iterable[str]:
    found = record.judgement.subresults
    if not found:
        return []
    points = (_subpoint(number, one, record) for number, one in enumerate(found, 1))
    return [f"# Subtest: {_plain(record.cell.id)}", f"{INDENT}1..{len(found)}", *points]


def _subpoint(number: int, one: SubResult, record: Record) -> str:
    passed = one.verdict in {Verdict.PASS, Verdict.SKIP}
    directive = f" # SKIP {_plain(one.detail)}".rstrip() if one.verdict is Verdict.SKIP else ""
    if record.expected and not passed:  # readers that count a failure at any depth are not to see more than its cell's
        directive = f" # TODO {_plain(record.cell.expect)}".rstrip()
    return f"{INDENT}{'ok' if passed else 'not ok'} {number} - {_plain(one.name)}{directive}"


def _plain(text: str) -> str:
    """Text that cannot be taken for a directive: a hash sign begins one, a backslash quotes it."""
    return one_line(text).replace("\\", "\\\\").replace("#", "\\#")


def _quoted(text: str) -> str:
    """A YAML scalar on one line: JSON's strings are."""
    return json.dumps(one_line(text), ensure_ascii=False)
