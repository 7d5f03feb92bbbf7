"""Streaming parser of JUnit's XML: a hostile report costs no more than its length.

Libraries for JUnit's XML build a tree, recurse into nested suites, and ignore failures in other namespaces and totals
that no test explains.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import XMLParser

from bootmatrix.judge.tap import MAX_NAME
from bootmatrix.model import SubResult, Verdict

SUITES = ("testsuites", "testsuite")
BAD = ("failure", "error", "rerunFailure", "rerunError")
"""Elements of a failed test; the latter two (Maven Surefire) of one that failed in each rerun."""
FLAKY = ("flakyFailure", "flakyError")
"""Elements of a test that failed first and passed in a rerun."""
STATUSES = ("status", "result")
BAD_STATUSES = frozenset(
    {
        "failed",
        "failure",
        "fail",
        "error",
        "errored",
        "broken",
        "crashed",
        "aborted",
        "timeout",
        "timedout",
        "timed out",
    }
)
"""Values of these attributes of a test, which some writers set instead of an element."""
SKIP_STATUSES = frozenset({"notrun", "disabled", "skipped", "ignored", "pending", "suppressed"})
"""The same for skipped tests, by GoogleTest, CTest and others."""
MAX_FAULTS = 20
CHUNK_BYTES = 4096
"""Size of the parser's input chunks, so that it stops soon after the first fault."""


class UnreadableReport(ValueError):
    """Data that is not a JUnit report."""


@dataclass
class JUnitSuite:
    """Totals of a suite as announced and as counted, nested suites included."""

    announced: int
    failures: int
    cases: int = 0
    bad: int = 0
    flaky: int = 0

    def add(self, cases: int, bad: int, flaky: int) -> None:
        """Count results."""
        self.cases += cases
        self.bad += bad
        self.flaky += flaky


@dataclass
class JUnitCase:
    """A test, as far as it was parsed."""

    name: str
    verdict: Verdict = Verdict.PASS
    detail: str = ""
    flaky: int = 0
    """Failed runs before it passed."""


class JUnitReport:
    """The results of a report: a target of XMLParser.

    Tests decide, not totals: some reports' totals count assertions (Catch2, doctest), subtests (pytest) or reruns
    (Surefire). A total that differs is a note; if no test of the suite explains it at all, a fault.
    """

    def __init__(self) -> None:
        self.results: list[SubResult] = []
        self.faults: list[str] = []
        self.notes: list[str] = []
        self._open: list[JUnitSuite | JUnitCase | None] = []
        self._suites: list[JUnitSuite] = []
        self._cases: list[JUnitCase] = []

    def doctype(self, *_: str | None) -> None:
        """Refuse a document type in any encoding: entities could expand without end."""
        raise UnreadableReport("it has a document type, which no report needs")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Start an element."""
        name = tag.rpartition("}")[2]
        if not self._open and name not in SUITES:
            raise UnreadableReport(f"it begins with <{name[:MAX_NAME]}>")
        self._open.append(self._begin(name, attributes))

    def end(self, _: str) -> None:
        """End the innermost element."""
        element = self._open.pop()
        if isinstance(element, JUnitCase):
            self._cases.pop()
            self.results.append(SubResult(name=element.name, verdict=element.verdict, detail=element.detail))
            if self._suites:
                self._suites[-1].add(1, element.verdict is Verdict.FAIL, element.flaky)
        elif element:
            self._end_suite(self._suites.pop())

    def close(self) -> JUnitReport:
        """Return the report."""
        return self

    def _begin(self, name: str, attributes: dict[str, str]) -> JUnitSuite | JUnitCase | None:
        if name in SUITES:
            failures = _number(attributes, "failures") + _number(attributes, "errors")
            self._suites.append(JUnitSuite(_number(attributes, "tests"), failures))
            return self._suites[-1]
        if name == "testcase":
            self._cases.append(_case(attributes))
            return self._cases[-1]
        if name in BAD:
            self._fail(attributes)
        elif name in FLAKY and self._cases:
            self._cases[-1].flaky += 1
            _keep(self.notes, f"{self._cases[-1].name} failed at first: {_words(attributes)}")
        elif name == "skipped" and self._cases and self._cases[-1].verdict is Verdict.PASS:
            self._cases[-1].verdict, self._cases[-1].detail = Verdict.SKIP, _words(attributes)
        return None

    def _fail(self, attributes: dict[str, str]) -> None:
        """Fail the innermost test; outside of a test, the suite."""
        if self._cases:
            case = self._cases[-1]
            if case.verdict is not Verdict.FAIL:
                case.verdict, case.detail = Verdict.FAIL, _words(attributes)
        else:
            self._suites[-1].failures += 1

    def _end_suite(self, suite: JUnitSuite) -> None:
        if suite.cases < suite.announced:
            text = f"expected {suite.announced} tests, got {suite.cases}"
            _keep(self.notes if suite.cases else self.faults, text)
        if suite.failures and not suite.bad:
            text = f"it counts {suite.failures} failures, but no test failed"
            _keep(self.notes if suite.failures <= suite.flaky else self.faults, text)
        if self._suites:
            self._suites[-1].add(suite.cases, suite.bad, suite.flaky)


def _keep(kept: list[str], text: str) -> None:
    if len(kept) < MAX_FAULTS:
        kept.append(text)


def read_report(data: bytes) -> JUnitReport:
    """Parse a report.

    Raises:
        UnreadableReport: it is not a JUnit report.
    """
    report = JUnitReport()
    parser = XMLParser(target=report)  # noqa: S314  (no document type: nothing in it can expand)
    try:
        for start in range(0, len(data), CHUNK_BYTES):
            parser.feed(data[start : start + CHUNK_BYTES])
        parser.close()
    except UnreadableReport:
        raise
    except (SyntaxError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        raise UnreadableReport(f"{error}") from error
    return report


def is_report(data: bytes) -> bool:
    """Return whether the root of XML is JUnit's. Other XML, such as a coverage report, is a file like any other.

    Data that is not XML counts as a damaged report.
    """
    root = _Root()
    parser = XMLParser(target=root)  # noqa: S314  (no document type: nothing in it can expand)
    try:
        for start in range(0, len(data), CHUNK_BYTES):
            parser.feed(data[start : start + CHUNK_BYTES])
            if root.name:
                return root.name in SUITES
    except (SyntaxError, ValueError, LookupError):
        return root.name in {"", *SUITES}
    return True


class _Root:
    """Target of XMLParser that keeps the name of the root."""

    def __init__(self) -> None:
        self.name = ""

    def doctype(self, *_: str | None) -> None:
        """Refuse a document type."""
        raise UnreadableReport("it has a document type")

    def start(self, tag: str, _: dict[str, str]) -> None:
        """Keep the first element's name."""
        self.name = self.name or tag.rpartition("}")[2]

    def end(self, _: str) -> None:
        """Ignore."""

    def close(self) -> None:
        """Ignore."""


def _case(attributes: dict[str, str]) -> JUnitCase:
    name = ".".join(part for part in (attributes.get("classname"), attributes.get("name")) if part)[:MAX_NAME]
    said = [(key, attributes[key]) for key in STATUSES if key in attributes]
    for verdict in (Verdict.FAIL, Verdict.SKIP):  # a writer may say both
        for key, status in said:
            if _STATUSES.get(status.strip().lower()) is verdict:
                return JUnitCase(name, verdict, f"its {key} is {status[:MAX_NAME]}")
    return JUnitCase(name)


_STATUSES = dict.fromkeys(BAD_STATUSES, Verdict.FAIL) | dict.fromkeys(SKIP_STATUSES, Verdict.SKIP)


def _words(attributes: dict[str, str]) -> str:
    return " ".join(attributes.get("message", "").split())[:MAX_NAME]


def _number(attributes: dict[str, str], name: str) -> int:
    """Parse an optional total of a suite, which some writers have as `2.0`; 0 if it is missing."""
    match = re.fullmatch(r"\+?([0-9]{1,18})(?:\.0*)?", attributes.get(name, "").strip(), re.ASCII)
    return int(match[1]) if match else 0
