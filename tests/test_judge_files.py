"""Files that containers leave: they come whole or the cell fails, and what tests wrote in them counts."""

from __future__ import annotations

import base64
import gzip

import pytest

from bootmatrix.judge.result_files import UnreadableFile, read_files, unpack
from bootmatrix.model import Bootable, GuestMessage, Outcome, Verdict
from samples import make_bootable, make_cell, make_outcome

GOOD = b'<testsuites><testsuite name="a"><testcase classname="x" name="y"/></testsuite></testsuites>'
BAD = b'<testsuite name="a"><testcase name="adds"><failure message="want 3, got 4"/></testcase></testsuite>'
ERROR = b'<testsuite name="a"><testcase name="starts"><error message="boom"/></testcase></testsuite>'
SKIPPED = b'<testsuite name="a"><testcase name="usb"><skipped message="no bus"/></testcase></testsuite>'
NESTED = (
    b'<testsuites><testsuite name="a"><testsuite name="b"><testcase name="in"><failure/></testcase></testsuite>'
    b"</testsuite></testsuites>"
)
BOMB = b'<!DOCTYPE lolz [<!ENTITY a "aaaa">]><testsuite name="a"><testcase name="&a;"/></testsuite>'


def word(data: bytes) -> str:
    return base64.b64encode(data).decode()


def file(path: str, data: bytes, size: int | None = None) -> GuestMessage:
    words = ("unit", word(path.encode()), str(len(data) if size is None else size), word(gzip.compress(data)))
    return GuestMessage(kind="file", words=words, at_s=1)


def read(*messages: GuestMessage, expected: tuple[str, ...] = ()) -> tuple[dict[str, Verdict], list[str]]:
    outcome: Outcome = make_outcome(1).model_copy(update={"messages": messages})
    bootable: Bootable = make_bootable(make_cell("x86_64")).model_copy(update={"results": {"unit": expected}})
    found = list(read_files(outcome, bootable))
    results = {one.name: one.verdict for results, _ in found for one in results}
    return results, [one.reason for _, complaints in found for one in complaints]


def test_junit_becomes_sub_results() -> None:
    assert read(file("/r.xml", GOOD), expected=("/r.xml",)) == ({"unit: x.y": Verdict.PASS}, [])
    counted = GOOD.replace(b'"a"', b'"a" tests="1" failures="0" errors="" skipped="x"')
    assert read(file("/R.XML", counted)) == ({"unit: x.y": Verdict.PASS}, [])
    assert read(file("/r.xml", SKIPPED)) == ({"unit: usb": Verdict.SKIP}, [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BAD, "unit: adds: want 3, got 4"),
        (ERROR, "unit: starts: boom"),
        (NESTED, "unit: in: "),
        (b"<testsuite/>", "unit: /r.xml has no test in it"),
        (GOOD.replace(b'"a"', b'"a" tests="2"'), "unit: /r.xml: 1 tests came where 2 were announced"),
        (GOOD.replace(b"<testsuites>", b'<testsuites tests="9">'), "1 tests came where 9 were announced"),
        (GOOD.replace(b'"a"', b'"a" failures="1"'), "it tells of 1 failures, and of no test that failed"),
        (GOOD.replace(b'"a"', b'"a" tests="1" errors="2"'), "it tells of 2 failures"),
        (GOOD.replace(b"</testsuite>", b"<error>boom</error></testsuite>"), "it tells of 1 failures"),
        (GOOD.replace(b"</testsuites>", b'<testcase name="z"><failure/></testcase></testsuites>'), "unit: z: "),
        (BAD.replace(b"<testsuite ", b'<testsuite xmlns="urn:tests" '), "unit: adds: want 3, got 4"),
        (BAD.replace(b"<failure", b'<x:failure xmlns:x="urn:tests"'), "unit: adds: want 3, got 4"),
        (GOOD.replace(b'name="y"', b'name="y" status="failed"'), "unit: x.y: its status is failed"),
        (GOOD.replace(b'"a"', b'"a" tests="1000000000000"'), "1 tests came where 1000000000000 were announced"),
        (b"<testsuite", "is not JUnit's XML"),
        (b"<html/>", "is not JUnit's XML"),
        (BOMB, "is not JUnit's XML: it has a document type"),
        (BOMB.decode().encode("utf-16"), "is not JUnit's XML: it has a document type"),
        (b'<?xml version="1.0" encoding="klingon"?>' + GOOD, "is not JUnit's XML: unknown encoding: klingon"),
        (b'<?xml version="1.0" encoding="rot13"?>' + GOOD, "is not JUnit's XML: 'rot13' is not a text encoding"),
        (b"\xff\xfe\x00", "is not JUnit's XML"),
    ],
)
def test_junit_that_stands_in_the_way(data: bytes, reason: str) -> None:
    _, reasons = read(file("/r.xml", data))
    assert [one for one in reasons if reason in one], reasons


def test_suites_in_suites_are_read_once_however_deep() -> None:
    """Their tests are no other suite's as well, and reading takes no recursion and no square of the length."""
    depth = 15_000
    whole = b'<testsuite tests="1">' * depth + b'<testcase name="y"/>' + b"</testsuite>" * depth
    assert read(file("/r.xml", whole)) == ({"unit: y": Verdict.PASS}, [])
    assert "1 tests came where 2 were announced" in read(file("/r.xml", whole.replace(b'"1"', b'"2"', 1)))[1][0]


def test_a_file_that_is_named_has_to_come() -> None:
    missing = GuestMessage(kind="file", words=("unit", word(b"/r.xml"), "missing"), at_s=1)
    assert read(missing, expected=("/r.xml",))[1] == [
        "unit left no file /r.xml, which the spec names as a result",
    ]
    assert read(expected=("/r.xml",))[1]


def test_tap_needs_its_plan() -> None:
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
