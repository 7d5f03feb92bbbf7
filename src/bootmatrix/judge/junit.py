"""Streaming parser of JUnit's XML: its cost is that of the length.

Libraries for JUnit's XML build a tree, recurse into nested suites, and ignore failures in other namespaces and totals
that no test explains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import XMLParser

from bootmatrix.judge.tap import MAX_NAME, MAX_TESTS
from bootmatrix.model import SubResult, Verdict

SUITES = ("testsuites", "testsuite")
BAD = ("failure", "error", "fail", "failed", "rerunfailure", "rerunerror")
"""Elements of a failed test; the last two (Maven Surefire) of one that failed in each rerun."""
FLAKY = ("flakyfailure", "flakyerror")
"""Elements of a test that failed first and passed in a rerun."""
STATUSES = ("status", "result", "outcome", "state", "success", "passed")
GOOD_STATUS = re.compile("run|executed|completed?|done|finished|ok(ay)?|pass(ed|ing)?|succe(ss|eded|ssful)|true|fixed")
"""Values of these attributes, without punctuation. Others are noted."""
BAD_STATUS = re.compile(
    "fail(ed|ure|ing)?|error(ed)?|broken|crash(ed)?|segfault(ed)?|coredump(ed)?|abort(ed)?|interrupted|incomplete"
    "|cancell?ed|time(d)?out|h[au]ng|killed|panic(ked)?|exception|unsuccessful|unresolved|n(ot)?ok|ko|[kx]pass|dmesgfail"
    "|unexpected(pass|success)?|regression|false"
)
"""The same for failed tests, which some writers set instead of an element."""
SKIP_STATUS = re.compile(
    "notrun|didnotrun|notexecuted|disabled|skip(ped)?|ignored|pending|suppressed|inconclusive|untested|unsupported|blocked"
    "|deselected|excluded|filtered|na|[kx]fail(ed)?|(expected|known|assumption)fail(ed|ure)"
)
"""The same for skipped tests, by GoogleTest, CTest, DejaGnu and others."""
UNRUN = {"Unable to find executable", "Missing Configuration", "Required Files Missing", "Fixture dependency failed"}
"""Messages of CTest's tests that were not run and count as failed (Source/CTest/cmCTestRunTest.cxx)."""
TODO = "todo"
"""Type of a skip by which node's runner marks a test that may fail."""
CHECK = "check.sourceforge.net"
"""Namespace of libcheck, whose elements `test` are tests."""
FAILURES = ("failures", "errors", "failed")
"""Totals of a suite's failed tests."""
TOTAL = re.compile(r"\+?([0-9]{1,18}|[0-9]{1,3}(?:[,' \u00a0\u202f][0-9]{3}){1,5})(?:\.0*)?", re.ASCII)
"""Some writers have totals as `2.0` or `1,000`."""
MAX_FAULTS = 20
MAX_DEPTH = 100_000
"""Elements within each other, which are held in memory."""
MAX_NAMES = 10_000
"""Different names of elements and attributes, all of which expat keeps."""
PIECE_BYTES = 4096
"""First piece of the parser's input."""


class UnreadableReport(ValueError):
    """Data that is not a JUnit report."""


@dataclass
class JUnitSuite:
    """Totals of a suite as announced and as counted, nested suites included."""

    announced: int
    failures: int
    own: int = 0
    """Failures outside of its tests, as of its setup."""
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
    """Failed runs before it passed, or failures that it may have."""
    may_fail: bool = False


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
        self._names: set[str] = set()

    def doctype(self, *_: str | None) -> None:
        """Refuse a document type in any encoding: entities could expand without end."""
        raise UnreadableReport("it has a document type, which no report needs")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Start an element."""
        name = local_name(tag)
        if not self._open and name not in SUITES:
            raise UnreadableReport(f"it begins with <{name[:MAX_NAME]}>")
        if len(self._open) >= MAX_DEPTH:
            raise UnreadableReport(f"it has more than {MAX_DEPTH} elements within each other")
        self._names.update((tag, *attributes))
        if len(self._names) > MAX_NAMES:
            raise UnreadableReport(f"it has more than {MAX_NAMES} names of elements and attributes")
        name = "testcase" if name == "test" and CHECK in tag else name
        self._open.append(self._begin(name, {local_name(key): value for key, value in attributes.items()}))

    def end(self, _: str) -> None:
        """End the innermost element."""
        element = self._open.pop()
        if isinstance(element, JUnitCase):
            self._cases.pop()
            if len(self.results) >= MAX_TESTS:
                raise UnreadableReport(f"it has more than {MAX_TESTS} tests")
            name = element.name or f"test {len(self.results) + 1}"
            self.results.append(SubResult(name=name, verdict=element.verdict, detail=element.detail))
            if self._suites:
                self._suites[-1].add(1, element.verdict is Verdict.FAIL, element.flaky)
        elif element:
            self._end_suite(self._suites.pop())

    def close(self) -> JUnitReport:
        """Return the report."""
        return self

    def _begin(self, name: str, attributes: dict[str, str]) -> JUnitSuite | JUnitCase | None:
        if name in SUITES:
            return self._begin_suite(attributes)
        if name == "testcase":
            self._cases.append(self._begin_case(attributes))
            return self._cases[-1]
        if name in BAD:
            self._fail(attributes)
        elif name in FLAKY and self._cases:
            self._cases[-1].flaky += 1
            _keep(self.notes, f"{self._cases[-1].name} failed at first: {_words(attributes)}")
        elif name == "skipped" and self._cases:
            self._skip(self._cases[-1], attributes)
        return None

    def _skip(self, case: JUnitCase, attributes: dict[str, str]) -> None:
        words = _words(attributes)
        case.may_fail = case.may_fail or attributes.get("type") == TODO
        if words in UNRUN:
            case.verdict, case.detail = Verdict.FAIL, words
        elif case.verdict is Verdict.PASS:
            case.verdict, case.detail = Verdict.SKIP, words

    def _begin_suite(self, attributes: dict[str, str]) -> JUnitSuite:
        failures = sum(self._total(attributes, key) for key in FAILURES)
        failed = any(status_of(attributes.get(key, "")) is Verdict.FAIL for key in STATUSES)
        self._suites.append(JUnitSuite(self._total(attributes, "tests"), failures, int(failed)))
        return self._suites[-1]

    def _begin_case(self, attributes: dict[str, str]) -> JUnitCase:
        name = ".".join(part for part in (attributes.get("classname"), attributes.get("name")) if part)[:MAX_NAME]
        said = [(key, attributes[key]) for key in STATUSES if key in attributes]
        for verdict in (Verdict.FAIL, Verdict.SKIP):  # a writer may say both
            for key, status in said:
                if status_of(status) is verdict:
                    return JUnitCase(name, verdict, f"its {key} is {status[:MAX_NAME]}")
        for key, status in said:
            if status_of(status) is None:
                _keep(self.notes, f"{name}: its {key} is {status[:MAX_NAME]}, which is not known")
        return JUnitCase(name)

    def _total(self, attributes: dict[str, str], key: str) -> int:
        """Return an optional total of a suite; 0 if it is missing or no number."""
        text = attributes.get(key, "").strip()
        match = TOTAL.fullmatch(text)
        if text and not match:
            _keep(self.notes, f"its {key} are not a number: {text[:MAX_NAME]}")
        return int(re.sub(r"[^0-9]", "", match[1])) if match else 0

    def _fail(self, attributes: dict[str, str]) -> None:
        """Fail the innermost test; outside of a test, the suite."""
        if self._cases:
            case = self._cases[-1]
            if case.may_fail:
                case.flaky += 1
            elif case.verdict is not Verdict.FAIL:
                case.verdict, case.detail = Verdict.FAIL, _words(attributes)
        else:
            self._suites[-1].own += 1

    def _end_suite(self, suite: JUnitSuite) -> None:
        if suite.cases < suite.announced:
            text = f"expected {suite.announced} tests, got {suite.cases}"
            _keep(self.notes if suite.cases else self.faults, text)
        if suite.own and not suite.bad:
            _keep(self.faults, "it failed outside of its tests")
        elif suite.failures and not suite.bad:
            text = f"it counts {suite.failures} failures, but no test failed"
            _keep(self.notes if suite.failures <= suite.flaky else self.faults, text)
        if self._suites:
            self._suites[-1].add(suite.cases, suite.bad, suite.flaky)


def _keep(kept: list[str], text: str) -> None:
    if len(kept) < MAX_FAULTS:
        kept.append(text)


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield XML in pieces, so that a parser stops soon after the first fault.

    They grow: expat reads a tag again with each piece, and it may be as long as all of the data.
    """
    start = 0
    while start < len(data):
        end = max(PIECE_BYTES, 2 * start)
        yield data[start:end]
        start = end


def read_report(data: bytes) -> JUnitReport:
    """Parse a report. Raises UnreadableReport if it is not a JUnit report."""
    report = JUnitReport()
    parser = XMLParser(target=report)  # noqa: S314  (no document type: nothing in it can expand)
    try:
        for piece in pieces(data):
            parser.feed(piece)
        parser.close()
    except UnreadableReport:
        raise
    except (SyntaxError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        raise UnreadableReport(f"{error}") from error
    return report


def local_name(tag: str) -> str:
    """Return a name without its namespace, in lower case."""
    return tag.rpartition("}")[2].lower()


def status_of(value: str) -> Verdict | None:
    """Return what a status means; None if it is not known."""
    word = re.sub(r"[\W_]+", "", value.lower())
    patterns = {Verdict.PASS: GOOD_STATUS, Verdict.FAIL: BAD_STATUS, Verdict.SKIP: SKIP_STATUS}
    return next((verdict for verdict, pattern in patterns.items() if pattern.fullmatch(word)), None)


def _words(attributes: dict[str, str]) -> str:
    return " ".join(attributes.get("message", "").split())[:MAX_NAME]
