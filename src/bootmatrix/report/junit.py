"""The report as JUnit's XML, which CI systems read: a suite for each spec, a case for each cell and each sub-result.

What guests did wrong is a `failure`, what we did is an `error`; skips, and failures that were foreseen, are `skipped`.
A case carries the end of its console; in a large run only one that did not simply pass, as CI systems refuse files of
tens of megabytes (GitLab: 30 MB).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from bootmatrix.history.values import CellHistory
from bootmatrix.model import Verdict
from bootmatrix.report.cell_parts import SubResultView
from bootmatrix.report.cell_view import CellView
from bootmatrix.report.history_text import flips_words
from bootmatrix.report.shortfall import KIND
from bootmatrix.report.view import ReportView

COUNTED = ("tests", "failures", "errors", "skipped")
END = b"</testsuites>"
_COMMAND = re.compile(rb"^([ \t]*):(?=:)", re.MULTILINE)
"""What GitHub would take for a command, were the document printed; XML has another spelling for the same text."""
TAIL_LINES = 100
"""Lines of a console that a case carries; some CI systems keep no more than that."""


def render_junit(view: ReportView) -> bytes:
    """The document, in UTF-8. All text of the view is free of what XML 1.0 does not allow."""
    root = Element("testsuites", name=view.title, time=f"{view.run.wall_s:.3f}")
    root.attrib |= dict.fromkeys(COUNTED, "0")
    suites = []
    # Each suite becomes text at once, as elements of thousands of cases take ten times as much memory.
    for suite in _suites(view):
        for name in COUNTED:
            root.set(name, str(int(root.get(name, "0")) + int(suite.get(name, "0"))))
        suites.append(_bytes(suite))
    shell: bytes = tostring(root, encoding="utf-8", xml_declaration=True, short_empty_elements=False)
    begin, end = shell[: -len(END)], shell[-len(END) :]
    return b"".join([begin, b"\n", *suites, end, b"\n"])


def _suites(view: ReportView) -> Iterator[Element]:
    for group in view.groups:
        yield _suite(group.spec, (cell for row in group.rows for cell in row.cells if cell), view)
    if view.shortfalls:
        yield _shortfall_suite(view)


def _bytes(suite: Element) -> bytes:
    indent(suite, " ", 1)
    text: bytes = tostring(suite, encoding="utf-8")
    return b" " + _COMMAND.sub(rb"\1&#58;", text) + b"\n"


def _shortfall_suite(view: ReportView) -> Element:
    """An error for each cell without a verdict: a reader that counts failures must not take the rest for all."""
    suite = Element("testsuite", name=f"bootmatrix {KIND}", timestamp=view.run.started_at, time="0")
    for one in view.shortfalls:
        case = SubElement(suite, "testcase", classname="bootmatrix", name=one.name, time="0")
        _end(case, "error", KIND, one.reason, one.reason)
    _count(suite)
    return suite


def _suite(spec: str, cells: Iterable[CellView], view: ReportView) -> Element:
    suite = Element("testsuite", name=spec, timestamp=view.run.started_at)
    properties = SubElement(suite, "properties")
    for name, value in view.facts:
        SubElement(properties, "property", name=name, value=value)
    total_s = 0.0
    for cell in cells:
        total_s += cell.wall_s
        case = _case(cell, view.past.histories.get(cell.id))
        if view.complete or len(case):
            _add_console(case, cell)
        suite.append(case)
        suite.extend(_subcase(cell, one) for one in cell.subresults)
    suite.set("time", f"{total_s:.3f}")
    _count(suite)
    return suite


def _count(suite: Element) -> None:
    cases = suite.findall("testcase")
    ends = [sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error", "skipped")]
    suite.attrib |= dict(zip(COUNTED, map(str, [len(cases), *ends]), strict=True))


def _case(cell: CellView, history: CellHistory | None) -> Element:
    case = Element("testcase", classname=f"{cell.spec}.{cell.target}", name=cell.id, time=f"{cell.wall_s:.3f}")
    if cell.state == "unexpected" and cell.verdict == Verdict.PASS:
        words = f"passed, although this was expected to fail: {cell.expect}"
        _end(case, "failure", "unexpected-pass", words, _body(cell))
    elif cell.state == "expected":
        _end(case, "skipped", cell.verdict, f"expected: {cell.expect} ({cell.verdict}: {cell.reason})", "")
    elif cell.verdict == Verdict.SKIP:
        _end(case, "skipped", "skip", cell.reason, "")
    elif cell.verdict != Verdict.PASS:
        tag = "failure" if Verdict(cell.verdict).is_guests else "error"
        _end(case, tag, cell.verdict, cell.reason, _body(cell))
    elif history and history.is_flaky:
        # Surefire's form for what failed before and passes now: reporters count it, and do not fail for it.
        SubElement(case, "flakyFailure", message=f"flaky: {flips_words(history)}", type="flaky")
    return case


def _body(cell: CellView) -> str:
    """What a reporter shows below a failure's message."""
    evidence = (f"{one.source}: {one.text}" for one in cell.evidence)
    return "\n".join([cell.reason, *evidence, cell.advice]).strip()


def _add_console(case: Element, cell: CellView) -> None:
    tail = cell.console_end(TAIL_LINES)
    if tail:
        SubElement(case, "system-out").text = tail


def _subcase(cell: CellView, one: SubResultView) -> Element:
    case = Element("testcase", classname=f"{cell.spec}.{cell.target}.{cell.kernel}", name=one.name, time="0")
    if one.verdict == Verdict.SKIP:
        _end(case, "skipped", "skip", one.detail, "")
    elif one.verdict != Verdict.PASS and cell.record.expected:
        _end(case, "skipped", one.verdict, f"expected: {cell.expect}", "")
    elif one.verdict != Verdict.PASS:
        tag = "failure" if Verdict(one.verdict).is_guests else "error"
        _end(case, tag, one.verdict, one.detail or one.verdict, one.detail)
    return case


def _end(case: Element, tag: str, kind: str, message: str, body: str) -> None:
    element = SubElement(case, tag, message=message)
    if tag != "skipped":  # the schema that CI systems check against gives `skipped` no type
        element.set("type", kind)
    element.text = body or None
