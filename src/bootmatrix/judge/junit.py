"""JUnit's XML as tests write it, read in one go and without a tree: a hostile report costs no more than its length.

No library does this: those that read JUnit's XML build a tree first, follow suites in suites by recursion, and see
neither a failure in another namespace nor what a suite says of itself and does not show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import XMLParser

from bootmatrix.judge.tap import MAX_NAME
from bootmatrix.model import SubResult, Verdict

SUITES = ("testsuites", "testsuite")
BAD = ("failure", "error", "rerunFailure", "rerunError")
"""Of a test that failed; the latter two (Maven Surefire) of one that failed each time that it was tried."""
FLAKY = ("flakyFailure", "flakyError")
"""Of a test that failed at first, and passed when it was tried again."""
BAD_STATUSES = frozenset({"failed", "failure", "fail", "error", "errored"})
"""In a test's `status` or `result`, which some writers set instead of, or beside, an element."""
SKIP_STATUSES = frozenset({"notrun", "disabled", "skipped", "ignored", "pending", "suppressed"})
"""The same for a test that was not run: of GoogleTest, CTest and others."""
MAX_TROUBLES = 20
CHUNK_BYTES = 4096
"""Handed to the parser at a time, so that it reads little more of a file after the first fault."""


class UnreadableReport(ValueError):
    """What is no report."""


@dataclass
class Suite:
    """What a suite says of itself, and what came of it; those within it included."""

    announced: int
    failures: int
    cases: int = 0
    bad: int = 0
    flaky: int = 0

    def add(self, cases: int, bad: int, flaky: int) -> None:
        """Count what is in it."""
        self.cases += cases
        self.bad += bad
        self.flaky += flaky


@dataclass
class Case:
    """One test, as far as it was read."""

    name: str
    verdict: Verdict = Verdict.PASS
    detail: str = ""
    flaky: int = 0
    """How often it failed before it passed."""


class Report:
    """The results of a report, and what it tells of and does not show. A target of XMLParser, which calls it.

    The tests decide, not the totals: these count assertions (Catch2, doctest), subtests (pytest) or each try (Surefire)
    in some reports. Where no test says anything of what a total tells it is one of the `troubles`, else of the `notes`.
    """

    def __init__(self) -> None:
        self.results: list[SubResult] = []
        self.troubles: list[str] = []
        self.notes: list[str] = []
        self._open: list[Suite | Case | None] = []
        self._suites: list[Suite] = []
        self._cases: list[Case] = []

    def doctype(self, *_: str | None) -> None:
        """Refused in whatever encoding: entities could expand without end, and no report needs one."""
        raise UnreadableReport("it has a document type, which a report does not need")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        name = tag.rpartition("}")[2]
        if not self._open and name not in SUITES:
            raise UnreadableReport(f"it begins with <{name[:MAX_NAME]}>")
        self._open.append(self._begin(name, attributes))

    def end(self, _: str) -> None:
        """The innermost element ends."""
        ended = self._open.pop()
        if isinstance(ended, Case):
            self._cases.pop()
            self.results.append(SubResult(name=ended.name, verdict=ended.verdict, detail=ended.detail))
            if self._suites:
                self._suites[-1].add(1, ended.verdict is Verdict.FAIL, ended.flaky)
        elif ended:
            self._end_suite(self._suites.pop())

    def close(self) -> Report:
        """The whole has been read."""
        return self

    def _begin(self, name: str, attributes: dict[str, str]) -> Suite | Case | None:
        if name in SUITES:
            failures = _number(attributes, "failures") + _number(attributes, "errors")
            self._suites.append(Suite(_number(attributes, "tests"), failures))
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
        """The innermost test failed; outside of any, its suite did."""
        if self._cases:
            case = self._cases[-1]
            if case.verdict is not Verdict.FAIL:
                case.verdict, case.detail = Verdict.FAIL, _words(attributes)
        else:
            self._suites[-1].failures += 1

    def _end_suite(self, suite: Suite) -> None:
        if suite.cases < suite.announced:
            told = f"{suite.cases} tests came where {suite.announced} were announced"
            _keep(self.notes if suite.cases else self.troubles, told)
        if suite.failures and not suite.bad:
            told = f"it tells of {suite.failures} failures, and of no test that failed"
            _keep(self.notes if suite.failures <= suite.flaky else self.troubles, told)
        if self._suites:
            self._suites[-1].add(suite.cases, suite.bad, suite.flaky)


def _keep(kept: list[str], text: str) -> None:
    if len(kept) < MAX_TROUBLES:
        kept.append(text)


def read_report(data: bytes) -> Report:
    """Read a report.

    Raises:
        UnreadableReport: it is none.
    """
    report = Report()
    parser = XMLParser(target=report)  # noqa: S314  (no document type: nothing in it can expand)
    try:
        for start in range(0, len(data), CHUNK_BYTES):
            parser.feed(data[start : start + CHUNK_BYTES])
        parser.close()
    except UnreadableReport:
        raise
    except (SyntaxError, ValueError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise UnreadableReport(f"{error}") from error
    return report


def _case(attributes: dict[str, str]) -> Case:
    name = ".".join(part for part in (attributes.get("classname"), attributes.get("name")) if part)[:MAX_NAME]
    for key in ("status", "result"):
        status = attributes.get(key, "")
        verdict = _STATUSES.get(status.lower())
        if verdict:
            return Case(name, verdict, f"its {key} is {status[:MAX_NAME]}")
    return Case(name)


_STATUSES = dict.fromkeys(BAD_STATUSES, Verdict.FAIL) | dict.fromkeys(SKIP_STATUSES, Verdict.SKIP)


def _words(attributes: dict[str, str]) -> str:
    return " ".join(attributes.get("message", "").split())[:MAX_NAME]


def _number(attributes: dict[str, str], name: str) -> int:
    """A count that a suite gives of itself; 0 where it gives none, as not all writers do."""
    text = attributes.get(name, "").strip()
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0
