"""Files that containers leave: they come whole or the cell fails, and what tests wrote in them counts."""

from __future__ import annotations

import base64
import gzip
import time

import pytest

import guests
from bootmatrix.judge import judge
from bootmatrix.judge.foreign_reports import count_failures, foreign_root, load_reports
from bootmatrix.judge.junit import UnreadableReport, read_report
from bootmatrix.judge.result_files import UnreadableFile, read_files, unpack
from bootmatrix.model import Bootable, GuestMessage, Outcome, Verdict
from bootmatrix.model.artefact import ExpectedFiles
from fake_qemu import TEXTS
from guests import make_messages
from samples import make_bootable, make_cell, make_outcome

GOOD = b'<testsuites><testsuite name="a"><testcase classname="x" name="y"/></testsuite></testsuites>'
BAD = b'<testsuite name="a"><testcase name="adds"><failure message="want 3, got 4"/></testcase></testsuite>'
ERROR = b'<testsuite name="a"><testcase name="starts"><error message="boom"/></testcase></testsuite>'
SKIPPED = b'<testsuite name="a"><testcase name="usb"><skipped message="no bus"/></testcase></testsuite>'
NESTED = (
    b'<testsuites><testsuite name="a"><testsuite name="b"><testcase name="in"><failure/></testcase></testsuite>'
    b"</testsuite></testsuites>"
)
FAILED_BY_ATTRIBUTE = (
    *(b'status="UNRESOLVED"', b'status="segfault"', b'result="KPASS"', b'status="failing"', b'outcome="Failed"'),
    *(b'state="error"', b'success="False"', b'passed="false"', b'executed="True" success="False"'),
)
NOTED = GOOD.replace(b'"a"', b'"a" tests="3"')
BOMB = b'<!DOCTYPE lolz [<!ENTITY a "aaaa">]><testsuite name="a"><testcase name="&a;"/></testsuite>'


def word(data: bytes) -> str:
    return base64.b64encode(data).decode()


def file(path: str, data: bytes, size: int | None = None) -> GuestMessage:
    words = ("unit", word(path.encode()), str(len(data) if size is None else size), word(gzip.compress(data)))
    return GuestMessage(kind="file", words=words, at_s=1)


def read(*messages: GuestMessage, expected: tuple[str, ...] = ()) -> tuple[dict[str, Verdict], list[str]]:
    outcome: Outcome = make_outcome(1).model_copy(update={"messages": messages})
    wanted = (ExpectedFiles(container="unit", paths=expected),)
    bootable: Bootable = make_bootable(make_cell("x86_64")).model_copy(update={"results": wanted})
    found = list(read_files(outcome, bootable))
    results = {one.name: one.verdict for each in found for one in each.results}
    return results, [one.reason for each in found for one in each.findings]


def noted(data: bytes) -> list[str]:
    """The notes on a report in which nothing stands in the way of a pass."""
    (found,) = read_files(make_outcome(1).model_copy(update={"messages": (file("/r.xml", data),)}), Bootable())
    assert not found.findings
    assert all(one.verdict is not Verdict.FAIL for one in found.results)
    return list(found.notes)


def test_junit_becomes_sub_results() -> None:
    assert read(file("/r.xml", GOOD), expected=("/r.xml",)) == ({"unit: x.y": Verdict.PASS}, [])
    counted = GOOD.replace(b'"a"', b'"a" tests="1" failures="0" errors="" skipped="x"')
    assert read(file("/R.XML", counted)) == ({"unit: x.y": Verdict.PASS}, [])
    assert read(file("/r.xml", SKIPPED)) == ({"unit: usb": Verdict.SKIP}, [])


CHECK_XML = (
    b'<testsuites xmlns="http://check.sourceforge.net/ns"><suite><title>S</title><test result="%s"><id>a</id></test>'
    b"</suite></testsuites>"
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BAD, "unit: adds: want 3, got 4"),
        (ERROR, "unit: starts: boom"),
        (NESTED, "unit: in: "),
        (b"<testsuite/>", "unit: /r.xml has no tests"),
        (GOOD.replace(b"<testsuites>", b'<testsuites><testsuite tests="9"/>'), "expected 9 tests, got 0"),
        (GOOD.replace(b'name="y"/>', b'name="y"><rerunFailure message="again"/></testcase>'), "unit: x.y: again"),
        (BAD.replace(b"name=", b'status="notrun" name='), "unit: adds: want 3, got 4"),
        (GOOD.replace(b'name="y"', b'name="y" result="failed"'), "unit: x.y: its result is failed"),
        (GOOD.replace(b'name="y"', b'name="y" status="notrun" result="Failed "'), "unit: x.y: its result is Failed"),
        *(
            (
                b'<testsuite tests="1" failures="0" skipped="1"><testcase name="b" classname="b" status="notrun">'
                b'<skipped message="%s"/></testcase></testsuite>' % words,
                f"unit: b.b: {words.decode()}",
            )
            for words in (b"Unable to find executable", b"Fixture dependency failed", b"Required Files Missing")
        ),
        (CHECK_XML % b"failure", "unit: test 1: its result is failure"),
        (GOOD.replace(b'name="y"', b'name="y" status="timeout"'), "unit: x.y: its status is timeout"),
        (GOOD.replace(b'"a"', b'"a" failures="1.0"'), "it counts 1 failures, but no test failed"),
        (GOOD.replace(b'"a"', b'"a" failures="1"'), "it counts 1 failures, but no test failed"),
        (GOOD.replace(b'"a"', b'"a" tests="1" errors="2"'), "it counts 2 failures"),
        (GOOD.replace(b"</testsuite>", b"<error>boom</error></testsuite>"), "it failed outside of its tests"),
        (
            b'<testsuite><testcase name="y"><flakyFailure/></testcase><error message="in teardown"/></testsuite>',
            "it failed outside of its tests",
        ),
        (GOOD.replace(b'"a"', b'"a" result="FAILED"'), "it failed outside of its tests"),
        (GOOD.replace(b'"a"', b'"a" tests="1" failed="1"'), "it counts 1 failures, but no test failed"),
        (GOOD.replace(b'"a"', b'"a" failures="1,000"'), "it counts 1000 failures, but no test failed"),
        (GOOD.replace(b'name="y"', b'name="y" status="not_ok"'), "unit: x.y: its status is not_ok"),
        (GOOD.replace(b'name="y"', b'name="y" result="TIMED_OUT"'), "unit: x.y: its result is TIMED_OUT"),
        (BAD.replace(b"<failure", b"<Failure").replace(b"</failure", b"</Failure"), "unit: adds: want 3, got 4"),
        (GOOD.replace(b"</testsuites>", b'<testcase name="z"><failure/></testcase></testsuites>'), "unit: z: "),
        (BAD.replace(b"<testsuite ", b'<testsuite xmlns="urn:tests" '), "unit: adds: want 3, got 4"),
        (BAD.replace(b"<failure", b'<x:failure xmlns:x="urn:tests"'), "unit: adds: want 3, got 4"),
        (GOOD.replace(b'name="y"', b'name="y" status="failed"'), "unit: x.y: its status is failed"),
        (GOOD.replace(b'name="y"', b'name="y" Status="Failed"'), "unit: x.y: its status is Failed"),
        (GOOD.replace(b'name="y"', b'name="y" status="dmesg-fail"'), "unit: x.y: its status is dmesg-fail"),
        (GOOD.replace(b'name="y"', b'name="y" status="interrupted"'), "unit: x.y: its status is interrupted"),
        (GOOD.replace(b'name="y"', b'name="y" result="XPASS"'), "unit: x.y: its result is XPASS"),
        (GOOD.replace(b'"a"', b'"a" Failures="1"'), "it counts 1 failures, but no test failed"),
        (BAD.replace(b"failure", b"failed"), "unit: adds: want 3, got 4"),
        *((GOOD.replace(b'name="y"', b'name="y" ' + said), "unit: x.y: its ") for said in FAILED_BY_ATTRIBUTE),
        (GOOD.replace(b'name="y"/>', b'name="y"><failure/></testcase>'), "unit: x.y: failed"),
        (b"<testsuite", "is not JUnit's XML"),
        (BOMB, "is not JUnit's XML: it has a document type"),
        (BOMB.decode().encode("utf-16"), "is not JUnit's XML: it has a document type"),
        (b'<?xml version="1.0" encoding="klingon"?>' + GOOD, "is not JUnit's XML: unknown encoding: klingon"),
        (b'<?xml version="1.0" encoding="rot13"?>' + GOOD, "is not JUnit's XML: 'rot13' is not a text encoding"),
        (b"\xff\xfe\x00", "is not JUnit's XML"),
        (
            b'<testsuite tests="1" failures="5"><testcase name="y"><flakyFailure/></testcase></testsuite>',
            "it counts 5 failures, but no test failed",
        ),
    ],
)
def test_junit_that_stands_in_the_way(data: bytes, reason: str) -> None:
    _, reasons = read(file("/r.xml", data))
    assert [one for one in reasons if reason in one], reasons


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (GOOD.replace(b'"a"', b'"a" failures="none"'), "its failures are not a number: none"),
        (GOOD.replace(b'"a"', b'"a" tests="3"'), "expected 3 tests, got 1"),
        (GOOD.replace(b'name="y"', b'name="y" status="so-so"'), "x.y: its status is so-so, which is not known"),
        (GOOD.replace(b"<testsuites>", b'<testsuites tests="1000000000000">'), "expected 1000000000000 tests, got 1"),
        (
            b'<testsuite tests="1" failures="1"><testcase name="y"><flakyFailure message="first try"/></testcase>'
            b"</testsuite>",
            "y failed at first: first try",
        ),
        (
            b'<testsuites errors="1"><testsuite errors="1"><testcase name="y"><flakyError message="no"/></testcase>'
            b"</testsuite></testsuites>",
            "it counts 1 failures, but no test failed",
        ),
    ],
)
def test_totals_that_count_other_things_are_noted(data: bytes, note: str) -> None:
    assert any(note in one for one in noted(data)), noted(data)


@pytest.mark.parametrize(
    "case",
    [
        b'<testcase name="usb" status="notrun" result="suppressed"/>',
        b'<testcase name="usb" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>',
        b'<testcase name="usb"><skipped type="todo" message="true"/><failure type="testCodeFailure"/></testcase>',
        b'<testcase name="usb" status="notrun" time="0."/>',
        b'<testcase name="usb" status="disabled"><skipped message="Disabled"/></testcase>',
        b'<testcase name="usb" status="run" result="skipped"/>',
        b'<testcase name="usb" result="Inconclusive"/>',
        b'<testcase name="usb" status="XFAIL"/>',
        b'<testcase name="usb" status="expected failure"/>',
        b'<testcase name="usb" status="UNSUPPORTED"/>',
        b'<testcase name="usb" outcome="NotExecuted"/>',
    ],
)
def test_a_test_that_was_not_run_is_a_skip(case: bytes) -> None:
    assert read(file("/r.xml", b'<testsuite tests="1" disabled="1">' + case + b"</testsuite>")) == (
        {"unit: usb": Verdict.SKIP},
        [],
    )


def test_notes_are_told_beside_the_verdict() -> None:
    messages = make_messages((*TEXTS[:-2], "file unit " + " ".join(file("/r.xml", NOTED).words[1:]), *TEXTS[-2:]))
    judgement = judge(guests.make_outcome(messages=messages), guests.make_machine(), guests.make_bootable(), b"")
    assert judgement.verdict is Verdict.PASS
    assert "note: unit: /r.xml: expected 3 tests, got 1" in [one.text for one in judgement.evidence]


def test_containers_of_one_name_leave_each_its_own() -> None:
    """Also where one is an onboot container and the other a check: a file of one is not the other's."""
    missing = GuestMessage(kind="file", words=("unit", word(b"/r.tap"), "missing"), at_s=1)
    sent = file("/r.tap", b"1..1\nok 1\n")
    wanted = tuple(ExpectedFiles(container="unit", paths=(path,)) for path in ("/r.tap", "/x", "/r.tap"))
    bootable = make_bootable(make_cell("x86_64")).model_copy(update={"results": wanted})

    def reasons(*messages: GuestMessage) -> list[str]:
        found = read_files(make_outcome(1).model_copy(update={"messages": messages}), bootable)
        return [one.reason for each in found for one in each.findings]

    assert reasons(sent, missing, file("/x", b"x")) == ["expected a file /r.tap from 2 containers unit, got 1"]
    assert reasons(sent, sent) == ["unit left no file /x, which the spec names as a result"]
    assert reasons(sent, sent, file("/x", b"x")) == []
    assert reasons(sent, sent, missing, file("/x", b"x")), "what is missing is not made up for by another's"


def test_records_of_earlier_versions_are_read() -> None:
    old = Bootable.model_validate_json(b'{"results": {"unit": ["/a", "/b"]}}')
    assert old.results == (ExpectedFiles(container="unit", paths=("/a", "/b")),)
    assert Bootable.model_validate_json(old.model_dump_json()) == old


def test_suites_in_suites_are_read_once_however_deep() -> None:
    """Their tests are no other suite's as well, and reading takes no recursion and no square of the length."""
    depth = 15_000
    whole = b'<testsuite tests="1">' * depth + b'<testcase name="y"/>' + b"</testsuite>" * depth
    assert read(file("/r.xml", whole)) == ({"unit: y": Verdict.PASS}, [])
    assert noted(whole.replace(b'"1"', b'"2"', 1)) == ["unit: /r.xml: expected 2 tests, got 1"]


@pytest.mark.parametrize(
    ("many", "reason"),
    [
        (b"<testsuite>" + b"<testcase/>" * 500_001 + b"</testsuite>", "it has more than 500000 tests"),
        (b"<testsuite>" + b"<a>" * 100_000, "it has more than 100000 elements within each other"),
        (b"<testsuite>" + b"".join(b"<a%d/>" % number for number in range(10_000)), "it has more than 10000 names"),
        (
            b"<testsuite>" + b"".join(b"<a b%d='' />" % number for number in range(10_000)),
            "it has more than 10000 names",
        ),
    ],
)
def test_xml_that_would_fill_the_memory_is_no_pass(many: bytes, reason: str) -> None:
    with pytest.raises(UnreadableReport, match=reason):
        read_report(many)


@pytest.mark.parametrize(
    ("reason", "count"), [("Unable to find executable", 1), ("Disabled", 0), ("SKIP_RETURN_CODE=77", 0)]
)
def test_a_test_that_ctest_could_not_start_is_no_pass(reason: str, count: int) -> None:
    value = f"<NamedMeasurement name='Completion Status'><Value>{reason}</Value></NamedMeasurement>"
    report = f"<Site><Testing><Test Status='notrun'><Results>{value}</Results></Test></Testing></Site>".encode()
    (ctest,) = (each for each in load_reports() if each.name == "CTest")
    assert count_failures(report, ctest) == count


def test_another_report_of_elements_without_end_is_no_pass() -> None:
    report = load_reports()[0]
    with pytest.raises(UnreadableReport, match="more than 100000 elements within each other"):
        count_failures(b"<%s>" % report.root.encode() + b"<a>" * 100_000, report)


def test_another_report_of_names_without_end_is_no_pass() -> None:
    report = load_reports()[0]
    many = b"".join(b"<a%d/>" % number for number in range(10_001))
    with pytest.raises(UnreadableReport, match="more than 10000 names"):
        count_failures(b"<%s>" % report.root.encode() + many, report)


def test_tests_beyond_any_number_are_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.judge.result_files.MAX_ALL_TESTS", 5)
    report = b"1..4\nok\nok\nok\nok\n"
    results, reasons = read(file("/a.tap", report), file("/b.tap", report), file("/c.tap", b"1..1\nnot ok\n"))
    assert len(results) == 4
    assert reasons == ["the reports have more than 5 tests: not all of them were read"]


def test_the_cost_of_xml_is_that_of_its_length() -> None:
    long = b"n" * (12 << 20)
    begun = time.process_time()
    assert len(read_report(b'<testsuite><testcase name="%s"/></testsuite>' % long).results) == 1
    assert len(read_report(b"<testsuite><!--%s--><testcase name='a'/></testsuite>" % long).results) == 1
    assert foreign_root(b"<!--%s--><coverage/>" % long) == "coverage"
    report = load_reports()[0]
    assert count_failures(b"<%s><!--%s--></%s>" % (report.root.encode(), long, report.root.encode()), report) == 0
    assert time.process_time() - begun < 10


def test_a_file_that_is_named_has_to_come() -> None:
    missing = GuestMessage(kind="file", words=("unit", word(b"/r.xml"), "missing"), at_s=1)
    assert read(missing, expected=("/r.xml",))[1] == [
        "unit left no file /r.xml, which the spec names as a result",
    ]
    assert read(expected=("/r.xml",))[1]


DOCTYPE = b"<!DOCTYPE %s PUBLIC '-//X//DTD 1.1//EN' 'report.dtd'>"


def test_other_xml_is_no_report_of_tests_with_a_document_type_either() -> None:
    assert read(file("/cov.xml", DOCTYPE % b"coverage" + b"<coverage/>")) == ({}, [])
    assert read(file("/cov.xml", b"<?xml version='1.0'?>\n" + DOCTYPE % b"report" + b"<report/>")) == ({}, [])
    assert "has a document type" in read(file("/r.xml", DOCTYPE % b"coverage" + BAD))[1][0]


def test_tap_needs_its_plan() -> None:
    assert read(file("/t.tap", b"\xef\xbb\xbfnot ok 1 - marked\n1..1\n"))[1] == ["unit: not ok: marked"]
    assert read(file("/t.tap", b"1..1\nok 1 - fine\n")) == ({"unit: fine": Verdict.PASS}, [])
    assert read(file("/t.tap", b"ok 1 - fine\n"))[1]
    assert read(file("/t.tap", b"1..2\nok 1 - fine\n"))[1]


def test_a_report_that_was_cut_is_no_report() -> None:
    assert "too large" in read(file("/r.xml", GOOD, size=10**6))[1][0]
    assert read(file("/var/log/x", b"beginning", size=10**6)) == ({}, [])


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("unit",),
        ("unit", "?", "3", "x"),
        ("unit", word(b"/x"), "3", "not base64"),
        ("unit", word(b"/x"), "3", word(b"not gzip")),
        ("unit", word(b"/x"), "three", word(gzip.compress(b"x"))),
        ("unit", word(b"/x"), "3", word(gzip.compress(b"x" * 100)[:-9])),
        ("unit", word(b"/x"), "3", word(gzip.compress(bytes(64 << 20)))),
    ],
)
def test_damage_is_told(words: tuple[str, ...]) -> None:
    message = GuestMessage(kind="file", words=words, at_s=1)
    with pytest.raises(UnreadableFile):
        unpack(message)
    assert read(message)[1]


def test_a_report_of_libcheck_has_tests() -> None:
    report = read_report(CHECK_XML % b"success")
    assert [(test.name, test.verdict) for test in report.results] == [("test 1", Verdict.PASS)]
    assert not report.faults


def test_a_failure_that_a_test_may_have_explains_its_suites_total() -> None:
    todo = b'<testcase name="a"><skipped type="todo"/><failure/></testcase>'
    report = read_report(b'<testsuite tests="1" failures="1">%s</testsuite>' % todo)
    assert [test.verdict for test in report.results] == [Verdict.SKIP] and not report.faults
