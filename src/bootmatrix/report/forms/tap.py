"""TAP 14 report: a test point per cell, its sub-results as a subtest.

https://testanything.org/tap-version-14-specification.html
"""

import json
from collections.abc import Iterable, Iterator

from bootmatrix.model import Record, SubResult, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.shortfall import KIND, end_words, shortfalls

INDENT = "    "


def render(context: ReportContext) -> bytes:
    """Return the document in UTF-8."""
    missing = shortfalls(context.run)
    lines = ["TAP version 14", f"1..{len(context.records) + len(missing)}"]
    lines += [f"# {_plain(context.run.part_words)}"] if context.run.part_words else []
    for number, record in enumerate(context.records, 1):
        lines += _subtest(record)
        lines += _point(number, record)
    for number, shortfall in enumerate(missing, len(context.records) + 1):
        lines += [f"not ok {number} - {_plain(shortfall.name)}", *_block(KIND, shortfall.reason)]
    if context.run.interrupted:
        lines.append(f"Bail out! The {end_words(context.run)}")
    return ("\n".join(lines) + "\n").encode("utf-8")


def _point(number: int, record: Record) -> Iterator[str]:
    passed = record.verdict in {Verdict.PASS, Verdict.SKIP, Verdict.USER_PASS} and record.expected
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
        return f"passed, expected a failure: {record.cell.expect}"
    return record.judgement.reason


def _subtest(record: Record) -> Iterable[str]:
    results = record.judgement.subresults
    if not results:
        return []
    points = (_subpoint(number, result, record) for number, result in enumerate(results, 1))
    return [f"# Subtest: {_plain(record.cell.id)}", f"{INDENT}1..{len(results)}", *points]


def _subpoint(number: int, result: SubResult, record: Record) -> str:
    passed = result.verdict in {Verdict.PASS, Verdict.SKIP}
    directive = f" # SKIP {_plain(result.detail)}".rstrip() if result.verdict is Verdict.SKIP else ""
    if record.expected and not passed:  # some readers count failures at any depth
        directive = f" # TODO {_plain(record.cell.expect)}".rstrip()
    return f"{INDENT}{'ok' if passed else 'not ok'} {number} - {_plain(result.name)}{directive}"


def _plain(text: str) -> str:
    """Escape text so that it contains no directive."""
    return one_line(text).replace("\\", "\\\\").replace("#", "\\#")


def _quoted(text: str) -> str:
    """Quote text as a YAML scalar on one line, with JSON's syntax."""
    return json.dumps(one_line(text), ensure_ascii=False)
