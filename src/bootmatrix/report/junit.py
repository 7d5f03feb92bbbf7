"""JUnit XML report: a suite per spec, a case per cell and sub-result.

A guest's fault is a `failure`, ours an `error`; skips and expected failures are `skipped`. A case contains the end of
its console; in a large run only if it is not a plain pass, as CI systems limit the file's size (GitLab: 30 MB).
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
"""GitHub's workflow commands, in case the document is printed; escaped as a character reference."""
TAIL_LINES = 100
"""Console lines of a case; some CI systems keep no more."""


def render_junit(view: ReportView) -> bytes:
    """Return the document in UTF-8. The view's text contains no characters that XML 1.0 forbids."""
    root = Element("testsuites", name=view.title, time=f"{view.run.wall_s:.3f}")
    root.attrib |= dict.fromkeys(COUNTED, "0")
    suites = []
    # Each suite is serialised at once: elements of thousands of cases take ten times the memory.
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
    """Make an error for each cell without a verdict, so that a reader cannot miss it."""
    suite = Element("testsuite", name=f"bootmatrix {KIND}", timestamp=view.run.started_at, time="0")
    for shortfall in view.shortfalls:
        case = SubElement(suite, "testcase", classname="bootmatrix", name=shortfall.name, time="0")
        _end(case, "error", KIND, shortfall.reason, shortfall.reason)
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
        suite.extend(_subcase(cell, result) for result in cell.subresults)
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
        words = f"passed, expected a failure: {cell.expect}"
        _end(case, "failure", "unexpected-pass", words, _body(cell))
    elif cell.state == "expected":
        _end(case, "skipped", cell.verdict, f"expected: {cell.expect} ({cell.verdict}: {cell.reason})", "")
    elif cell.verdict == Verdict.SKIP:
        _end(case, "skipped", "skip", cell.reason, "")
    elif cell.verdict != Verdict.PASS:
        tag = "failure" if Verdict(cell.verdict).is_guests else "error"
        _end(case, tag, cell.verdict, cell.reason, _body(cell))
    elif history and history.is_flaky:
        # Surefire's element for a flaky test: reporters count it without failing.
        SubElement(case, "flakyFailure", message=f"flaky: {flips_words(history)}", type="flaky")
    return case


def _body(cell: CellView) -> str:
    """Return the text below a failure's message."""
    evidence = (f"{item.source}: {item.text}" for item in cell.evidence)
    return "\n".join([cell.reason, *evidence, cell.advice]).strip()


def _add_console(case: Element, cell: CellView) -> None:
    tail = cell.console_end(TAIL_LINES)
    if tail:
        SubElement(case, "system-out").text = tail


def _subcase(cell: CellView, result: SubResultView) -> Element:
    case = Element("testcase", classname=f"{cell.spec}.{cell.target}.{cell.kernel}", name=result.name, time="0")
    if result.verdict == Verdict.SKIP:
        _end(case, "skipped", "skip", result.detail, "")
    elif result.verdict != Verdict.PASS and cell.record.expected:
        _end(case, "skipped", result.verdict, f"expected: {cell.expect}", "")
    elif result.verdict != Verdict.PASS:
        tag = "failure" if Verdict(result.verdict).is_guests else "error"
        _end(case, tag, result.verdict, result.detail or result.verdict, result.detail)
    return case


def _end(case: Element, tag: str, kind: str, message: str, body: str) -> None:
    element = SubElement(case, tag, message=message)
    if tag != "skipped":  # the JUnit schema allows no type for `skipped`
        element.set("type", kind)
    element.text = body or None
