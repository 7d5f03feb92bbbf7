"""JUnit XML report: a suite per spec, a case per cell and sub-result.

A guest's fault is a `failure`, ours an `error`, as is a cell without a verdict; skips, expected failures, and with
`--fail-on regression` earlier failures are `skipped`. A failure is counted once, by its cell: failed sub-results are
`skipped`, with their details. A case contains the end of its console; in a large run only if it is not a plain pass, as
CI systems limit the file's size (GitLab: 30 MB).

Readers split a class name at its dots (Jenkins: package and class), so that names have none but ours.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from bootmatrix.history.values import CellHistory
from bootmatrix.model import SubResult, Verdict
from bootmatrix.report.cell_view import CellView
from bootmatrix.report.history_text import flips_words
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.report.shortfall import KIND, Shortfall
from bootmatrix.report.view import ReportView

TOTALS = ("tests", "failures", "errors")
COUNTED = (*TOTALS, "skipped")
"""Counts of a suite. The schema of Jenkins' xUnit plug-in, which refuses others, knows no `skipped` of all suites."""
END = b"</testsuites>"
_BLANKS = "".join(chr(code) for code in range(0x9, 0x3001) if chr(code).isspace() and code != 0xA)
_COMMAND = re.compile(f"^([{_BLANKS}]*):(?=:)", re.MULTILINE)
"""GitHub's workflow commands, in case the document is printed; escaped as a character reference."""
TAIL_LINES = 100
"""Console lines of a case; some CI systems keep no more."""
MAX_TAIL = 20_000
"""Characters of a case's console."""
MAX_PARTS = 50
"""Failed sub-results that the text of a failure lists."""
MAX_CASES = 20_000
"""Cases of a document; beyond them passed sub-results are left out."""


@dataclass(frozen=True)
class CaseChoice:
    """Unexpected cells that do not fail the run, skips that do; are passes included?"""

    tolerated: Mapping[str, str]
    regressed_skips: Mapping[str, str]
    is_complete: bool


def render_junit(view: ReportView) -> bytes:
    """Return the document, without characters that XML 1.0 forbids."""
    root = Element("testsuites", name=view.title, time=f"{view.run.wall_s:.3f}")
    root.attrib |= dict.fromkeys(TOTALS, "0")
    suites = []
    # Each suite is serialised at once: elements of thousands of cases take ten times the memory.
    for suite in _suites(view):
        for name in TOTALS:
            root.set(name, str(int(root.get(name, "0")) + int(suite.get(name, "0"))))
        suites.append(_bytes(suite))
    shell: bytes = tostring(root, encoding="utf-8", xml_declaration=True, short_empty_elements=False)
    begin, end = shell[: -len(END)], shell[-len(END) :]
    return b"".join([begin, b"\n", *suites, end, b"\n"])


def _suites(view: ReportView) -> Iterator[Element]:
    lacking: dict[str, list[Shortfall]] = {}
    for shortfall in view.shortfalls:
        lacking.setdefault(shortfall.name.partition("/")[0], []).append(shortfall)
    parts = sum(len(cell.subresults) for cell in view.cells)
    choice = CaseChoice(dict(_tolerated(view)), dict(_regressed_skips(view)), len(view.cells) + parts <= MAX_CASES)
    for group in view.groups:
        cells = (cell for row in group.rows for cell in row.cells if cell)
        yield _suite(group.spec, cells, view, choice, lacking.pop(group.spec, ()))
    for spec, shortfalls in lacking.items():
        yield _suite(spec, (), view, choice, shortfalls)


def _bytes(suite: Element) -> bytes:
    indent(suite, " ", 1)
    text: str = tostring(suite, encoding="unicode")
    return b" " + _COMMAND.sub(r"\1&#58;", text).encode() + b"\n"


def _suite(
    spec: str, cells: Iterable[CellView], view: ReportView, choice: CaseChoice, shortfalls: Iterable[Shortfall] = ()
) -> Element:
    suite = Element("testsuite", name=spec, timestamp=view.run.started_at)
    properties = SubElement(suite, "properties")
    for name, value in view.facts:
        SubElement(properties, "property", name=name, value=value)
    total_s, left_out = 0.0, 0
    for cell in cells:
        total_s += cell.wall_s
        case = _case(cell, view.past.histories.get(cell.id), choice)
        if view.complete or len(case):
            _add_console(case, cell)
        suite.append(case)
        kept = [part for part in cell.subresults if choice.is_complete or part.verdict != Verdict.PASS]
        left_out += len(cell.subresults) - len(kept)
        suite.extend(_subcase(cell, result) for result in kept)
    suite.extend(map(_shortfall_case, shortfalls))
    if left_out:
        SubElement(properties, "property", name="passed sub-results left out", value=str(left_out))
    suite.set("time", f"{total_s:.3f}")
    _count(suite)
    return suite


def _shortfall_case(shortfall: Shortfall) -> Element:
    """Make a lacking verdict's error, under its own name for readers."""
    spec, _, rest = shortfall.name.partition("/")
    target = rest.rpartition("/")[0]
    class_name = _class_name(spec, target) if target else "bootmatrix"
    case = Element("testcase", classname=class_name, name=shortfall.name, time="0")
    _end(case, "error", KIND, shortfall.reason, shortfall.reason)
    return case


def _class_name(spec: str, target: str) -> str:
    return f"{spec.replace('.', '_')}.{target.replace('.', '_')}"


def _count(suite: Element) -> None:
    cases = suite.findall("testcase")
    ends = [sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error", "skipped")]
    suite.attrib |= dict(zip(COUNTED, map(str, [len(cases), *ends]), strict=True))


def _case(cell: CellView, history: CellHistory | None, choice: CaseChoice) -> Element:
    class_name = _class_name(cell.spec, cell.target)
    case = Element("testcase", classname=class_name, name=cell.id, time=f"{cell.wall_s:.3f}")
    if cell.id in choice.tolerated:
        _end(case, "skipped", cell.verdict, choice.tolerated[cell.id], "")
    elif cell.id in choice.regressed_skips:
        _end(case, "failure", "skip", choice.regressed_skips[cell.id], _body(cell))
    elif cell.state == "unexpected" and cell.verdict in {Verdict.PASS, Verdict.USER_PASS}:
        words = f"passed, expected a failure: {cell.expect}"
        _end(case, "failure", "unexpected-pass", words, _body(cell))
    elif cell.state == "expected":
        _end(case, "skipped", cell.verdict, f"expected: {cell.expect} ({cell.verdict}: {cell.reason})", "")
    elif cell.verdict == Verdict.SKIP:
        _end(case, "skipped", "skip", cell.reason, "")
    elif cell.verdict == Verdict.USER_PASS:
        SubElement(case, "system-err").text = f"{cell.record.cell.tier} tier, no verdict on a kernel: {cell.reason}"
    elif cell.verdict != Verdict.PASS:
        tag = "failure" if Verdict(cell.verdict).is_tested else "error"
        _end(case, tag, cell.verdict, cell.reason, _body(cell))
        case.extend(_reruns(cell))
    elif history and history.is_flapping:
        # Surefire's element for a flaky test: reporters count it without failing.
        SubElement(case, "flakyFailure", message=f"flaps: {flips_words(history)}", type="flaky")
    return case


def _tolerated(view: ReportView) -> Iterator[tuple[str, str]]:
    """List unexpected cells other than regressions, with the reason."""
    past = view.past
    changes = past.comparison.by_id() if past.comparison and past.regressions_only else {}
    for cell in view.attention:
        change = changes.get(cell.id)
        if change and not change.is_regression and Verdict(cell.verdict).is_tested:
            yield cell.id, f"{change.kind}, not a regression: {cell.verdict}: {cell.reason}"


def _regressed_skips(view: ReportView) -> Iterator[tuple[str, str]]:
    """List skips that hide a failure, with the reason."""
    past = view.past
    regressions = past.comparison.regressions if past.comparison and past.regressions_only else ()
    for change in regressions:
        if change.now == Verdict.SKIP:
            yield change.id, f"{change.note}: {change.reason}"


def _reruns(cell: CellView) -> Iterator[Element]:
    """Make an element per further failed boot of a flaky cell."""
    failed = [
        each for each in cell.record.attempt_records if each.judgement.verdict not in {Verdict.PASS, Verdict.SKIP}
    ]
    for attempt in failed[1:]:
        judgement = attempt.judgement
        tag = "rerunFailure" if judgement.verdict.is_guests else "rerunError"
        element = Element(tag, message=one_line(judgement.reason), type=judgement.verdict.value)
        SubElement(element, "stackTrace").text = sanitize(judgement.reason)
        yield element


def _body(cell: CellView) -> str:
    """Return the text below a failure's message."""
    evidence = (f"{item.source}: {item.text}" for item in cell.record.judgement.evidence)
    parts = [
        f"{part.verdict}: {one_line(part.name)}" for part in cell.subresults if part.verdict not in {"pass", "skip"}
    ]
    return "\n".join([cell.reason, *evidence, cell.advice, *parts[:MAX_PARTS]]).strip()


def _add_console(case: Element, cell: CellView) -> None:
    tail = cell.console_end(TAIL_LINES)
    if tail:
        SubElement(case, "system-out").text = tail if len(tail) <= MAX_TAIL else f"…{tail[-MAX_TAIL:]}"


def _subcase(cell: CellView, result: SubResult) -> Element:
    name = f"{cell.kernel}: {one_line(result.name)}"
    case = Element("testcase", classname=_class_name(cell.spec, cell.target), name=name, time="0")
    if result.verdict == Verdict.SKIP:
        _end(case, "skipped", "skip", result.detail, "")
    elif result.verdict != Verdict.PASS and cell.record.expected:
        _end(case, "skipped", result.verdict, f"expected: {cell.expect}", "")
    elif result.verdict != Verdict.PASS:
        words = f"{result.verdict}, counted as {cell.id}: {result.detail or result.verdict}"
        _end(case, "skipped", result.verdict, words, "")
    return case


def _end(case: Element, tag: str, kind: str, message: str, body: str) -> None:
    element = SubElement(case, tag, message=sanitize(message))
    if tag != "skipped":  # the JUnit schema allows no type for `skipped`
        element.set("type", kind)
    element.text = sanitize(body) or None
