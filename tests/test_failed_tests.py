"""Failed tests are named in a verdict's reason, from the output of the runners that people use."""

from __future__ import annotations

import base64
import gzip
import time

import pytest

from bootmatrix.console.test_output import FailedTests, failed_results, find_failed_tests, is_telling
from bootmatrix.judge.foreign_reports import ForeignReport, foreign_root, load_reports
from bootmatrix.judge.result_files import read_files
from bootmatrix.judge.tap import ParsedResults
from bootmatrix.model import Bootable, GuestMessage, SubResult, Verdict
from samples import make_outcome

PYTEST = """
=================================== FAILURES ===================================
________________________________ test_roundtrip ________________________________
    def test_roundtrip():
>       assert 1 == 2
E       assert 1 == 2
test_it.py:4: AssertionError
=========================== short test summary info ============================
FAILED test_it.py::test_roundtrip - assert 1 == 2
FAILED test_it.py::test_big[a b] - ValueError: big
========================= 2 failed, 2 passed in 0.05s ==========================
"""
UNITTEST = """
======================================================================
FAIL: test_one (test_it.Case)
----------------------------------------------------------------------
Ran 3 tests in 0.001s

FAILED (failures=1)
"""
GO = """
--- PASS: TestSmall (0.00s)
--- FAIL: TestBig (0.00s)
    --- FAIL: TestBig/of_two (0.00s)
        big_test.go:9: got 1
FAIL
FAIL\texample.org/mine\t0.004s
"""
CARGO = """
test tests::small ... ok
test tests::big ... FAILED
thread 'tests::big' panicked at src/lib.rs:9:5:
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
"""
GTEST = """
[==========] Running 3 tests from 1 test suite.
big_test.cc:7: Failure
[  FAILED  ] Big.OfTwo (0 ms)
[==========] 3 tests from 1 test suite ran. (0 ms total)
[  FAILED  ] Big.OfTwo
"""


CTEST = """
1/4 Test #1: good .............................   Passed    0.01 sec
    Start 2: bad.one
2/4 Test #2: bad.one ..........................***Failed    0.01 sec
3/4 Test #3: missing ..........................***Not Run   0.00 sec

50% tests passed, 2 tests failed out of 4
"""
MESON = """
1/3 demo:good one   OK              0.01s
2/3 core - demo:bad one FAIL            0.01s   exit status 1
3/3 demo:slow       TIMEOUT         1.01s   killed by signal 15 SIGTERM

Ok:                1
Fail:              1
"""
AUTOMAKE = """
PASS: good.sh
FAIL: bad.sh
ERROR: hard.sh
============================================================================
# TOTAL: 3
# PASS:  1
"""
PROVE = """
t/bad.t ...
Failed 1/3 subtests
t/good.t .. ok
Test Summary Report
-------------------
t/bad.t (Wstat: 0 Tests: 3 Failed: 1)
  Failed test:  2
t/dies.t (Wstat: 768 (exited 3) Tests: 1 Failed: 0)
Files=3, Tests=5,  0 wallclock secs ( 0.02 usr +  0.01 sys =  0.03 CPU)
"""


def console(output: str, container: str = "tests") -> bytes:
    """The console of a guest whose container prints this."""
    lines = [f"{container}| {line}" for line in output.split("\n")]
    return "\n".join(["[    0.0] Linux version 6.1", "other| FAILED x::y", *lines, "[    9.9] reboot"]).encode()


@pytest.mark.parametrize(
    ("output", "words", "first"),
    [
        (PYTEST, "pytest: 2 of 4 failed: test_roundtrip, test_big[a", "E       assert 1 == 2"),
        (UNITTEST, "unittest: 1 of 3 failed: test_one", "FAIL: test_one"),
        (GO, "go test: 1 of 3 failed: TestBig/of_two", "--- FAIL: TestBig (0.00s)"),
        (CARGO, "cargo test: 1 of 2 failed: tests::big", "test tests::big ... FAILED"),
        (GTEST, "GoogleTest: 1 of 3 failed: Big.OfTwo", "big_test.cc:7: Failure"),
        (CTEST, "CTest: 2 of 4 failed: bad.one, missing", "2/4 Test #2"),
        (MESON, "Meson: 2 of 3 failed: core - demo:bad one, demo:slow", "2/3 core"),
        (AUTOMAKE, "Automake: 2 of 3 failed: bad.sh, hard.sh", "FAIL: bad.sh"),
        (PROVE, "prove: 2 of 3 failed: t/bad.t, t/dies.t", "Failed 1/3"),
    ],
)
def test_runners_are_understood(output: str, words: str, first: str) -> None:
    text = console(output)
    failed = find_failed_tests(text, "tests")
    assert failed
    assert str(failed).startswith(words)
    assert failed.line
    assert first in text.decode().split("\n")[failed.line - 1]


def test_an_error_of_anybody_is_not_a_test_of_automake() -> None:
    assert find_failed_tests(console("ERROR: disk\nFAIL: all\n"), "tests") is None


@pytest.mark.parametrize("output", ["", "all 4 passed", "FAILED", "--- PASS: TestSmall (0.00s)", "FAIL: no"])
def test_other_output_names_no_test(output: str) -> None:
    assert find_failed_tests(console(output), "tests") is None


def test_many_names_are_cut() -> None:
    names = tuple(f"test_{number}" for number in range(9))
    assert str(FailedTests("pytest", names, 20)).endswith("9 of 20 failed: " + ", ".join(names[:5]) + " and 4 more")


def test_results_of_a_container_are_counted_without_skips() -> None:
    results = [
        SubResult(name=f"tests: {name}", verdict=verdict)
        for name, verdict in (("a", Verdict.PASS), ("b", Verdict.FAIL), ("c", Verdict.SKIP), ("d", Verdict.FAIL))
    ]
    assert str(failed_results("tests", results)) == "2 of 3 failed: b, d"
    assert failed_results("other", results) is None


@pytest.mark.parametrize("line", ["------", "=====", "", "+ make check", "$ ./test", "# make"])
def test_a_rule_or_an_echo_tells_nothing(line: str) -> None:
    assert not is_telling(line)
    assert is_telling(f"{line} error: no such file".removeprefix("+ ").removeprefix("$ ").removeprefix("# "))


@pytest.mark.parametrize(
    ("data", "is_junit"),
    [
        (b"<testsuites/>", True),
        (b'<?xml version="1.0"?>\n<testsuite name="x">', True),
        (b'<coverage version="1"/>', False),
        (b'<a:testsuite xmlns:a="x"/>', True),
        (b"<broken", True),
        (b"no xml", True),
    ],
)
def test_xml_is_junit_by_its_root(data: bytes, is_junit: bool) -> None:
    assert (foreign_root(data) == "") is is_junit


def test_a_coverage_report_is_no_failure() -> None:
    (coverage,) = _files("cov.xml", b"<coverage/>")
    assert not coverage.findings
    assert coverage.notes == ("tests: cov.xml is XML of <coverage>, not JUnit's: it decides nothing",)
    assert [finding for parsed in _files("cov.xml", b"<testsuite/>") for finding in parsed.findings]


@pytest.mark.parametrize("report", load_reports(), ids=lambda report: report.root)
def test_failures_in_reports_that_are_not_junits(report: ForeignReport) -> None:
    example = report.example.encode()
    (failed,) = _files("r.xml", example)
    assert [finding.verdict for finding in failed.findings] == [Verdict.FAIL]
    assert f"{report.name} reports 1 failure" in failed.findings[0].reason
    (cut,) = _files("r.xml", example + b"<")
    assert "damaged" in cut.findings[0].reason
    (passed,) = _files("r.xml", report.sound.encode())
    assert not passed.findings and "without failures" in passed.notes[0]


def _files(path: str, data: bytes) -> list[ParsedResults]:
    words = ("tests", base64.b64encode(path.encode()).decode(), str(len(data)))
    packed = base64.b64encode(gzip.compress(data)).decode()
    outcome = make_outcome(1).model_copy(
        update={"messages": (GuestMessage(kind="file", words=(*words, packed), at_s=1),)}
    )
    return list(read_files(outcome, Bootable()))


@pytest.mark.parametrize(
    "line",
    [
        "= " + "1 failed " * 1200 + " in 1s" * 1800 + " =" * 5400 + "x",
        "===== 1 failed, " + "1" * 32000 + " in 1s =====",
        "1/1 a" + " " * 32000,
        "[  FAILED  ] a.b" + ", (1" * 8000,
        "test result: a. " + "passed; " * 4000,
    ],
    ids=["pytest", "numbers", "Meson", "GoogleTest", "cargo"],
)
def test_a_line_made_to_be_slow_to_read_is_not(line: str) -> None:
    found = "FAILED a.py::b\ntest a ... FAILED\n"
    begun = time.process_time()
    find_failed_tests("".join(f"c| {text}\n" for text in (found + f"{line}\n" * 20).splitlines()).encode(), "c")
    assert time.process_time() - begun < 10
