"""JUnit XML as CI systems read it: Jenkins' rules, its schema, and other readers."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from junitparser.xunit2 import JUnitXml, TestCase

from bootmatrix.cli.main import main
from bootmatrix.history.values import CellChange, ChangeKind, Comparison, Past
from bootmatrix.model import AttemptRecord, Judgement, Plan, Record, Run, RunRequest, SubResult, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import render
from bootmatrix.report.junit import MAX_CASES
from samples import STARTED, make_cell, make_record, mixed_records, write_dated

NO_PAST = Past()


@cache
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))


def junit(records: list[Record], past: Past = NO_PAST, lacking: int = 0, console: bytes = b"line\n") -> bytes:
    cells = [make_cell("riscv64", f"6.{number}") for number in range(lacking)]
    order = RunRequest(plan=Plan(cells=(*(record.cell for record in records), *cells)))
    times = {"started_at": STARTED, "ended_at": STARTED, "wall_s": 60.0}
    run = Run(name="r", title="t", tool_version="1", records=tuple(records), order=order, **times)  # type: ignore[arg-type]
    text = render("junit", ReportContext(run, lambda _: console, past))
    schema().validate(text.decode())
    return text


def classes(text: bytes) -> dict[tuple[str, str, str], str]:
    """Tests as Jenkins' plug-in files them: package and class, parted at the last dot, and name; with their state."""
    found = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        package, _, name = case.get("classname", "").rpartition(".")
        states = [tag for tag in ("skipped", "error", "failure") if case.find(tag) is not None]
        key = (package, name, case.get("name", ""))
        assert key not in found, "Jenkins would show one of them only"
        found[key] = "skipped" if "skipped" in states else "failed" if states else "passed"
    return found


def test_jenkins_files_tests_by_spec_and_machine_and_not_by_the_kernels_dot() -> None:
    found = classes(junit(mixed_records()))
    assert {package for package, _, _ in found} == {"influxdb", "check"}
    assert {name for _, name, _ in found} == {"x86_64", "aarch64", "armv7", "armv7/raspi2b", "ppc64le"}
    dotted = make_record(make_cell("x86_64", spec="redis-7.2"))
    assert ("redis-7_2", "x86_64", "redis-7.2/x86_64/6.1") in classes(junit([dotted]))


def test_a_failure_is_counted_once() -> None:
    records = mixed_records()
    failed = Counter(classes(junit(records)).values())["failed"]
    assert failed == sum(not record.expected for record in records) == 7


def test_a_failed_part_is_named_where_its_failure_is_counted() -> None:
    root = ElementTree.fromstring(junit(mixed_records()))
    failure = root.find(".//testcase[@name='influxdb/x86_64/7.2']/failure")
    assert failure is not None and "fail: check: read them back" in (failure.text or "")
    part = root.find(".//testcase[@name='7.2: check: read them back']/skipped")
    assert part is not None
    assert part.get("message") == "fail, counted as influxdb/x86_64/7.2: 998 of 1000\n# missing: 17, 401"


def test_cells_without_a_verdict_are_errors_beside_the_others() -> None:
    found = classes(junit(mixed_records(), lacking=2))
    assert found["influxdb", "riscv64", "influxdb/riscv64/6.0"] == "failed"
    assert found["influxdb", "riscv64", "influxdb/riscv64/6.1"] == "failed"
    assert classes(junit([], lacking=1)) == {("influxdb", "riscv64", "influxdb/riscv64/6.0"): "failed"}


def flaky_record() -> Record:
    def attempt(verdict: Verdict, reason: str) -> AttemptRecord:
        return AttemptRecord(judgement=Judgement(verdict=verdict, reason=reason), started_at=STARTED)

    tries = (attempt(Verdict.FAIL, "one"), attempt(Verdict.PANIC, "two"), attempt(Verdict.PASS, "three"))
    record = make_record(make_cell("x86_64"), Verdict.FLAKY, "2 of 3 boots failed", expected=False)
    return record.model_copy(update={"attempts": 3, "attempt_records": tries})


def test_a_flaky_cell_is_a_failure_with_reruns() -> None:
    text = junit([flaky_record()])
    (case,) = [case for suite in JUnitXml.fromstring(text) for case in suite]
    assert [one.message for one in case.result] == ["2 of 3 boots failed"]
    assert isinstance(case, TestCase)
    assert [(one.type, one.message, one.stack_trace) for one in case.rerun_failures()] == [("panic", "two", "two")]


@pytest.mark.parametrize("only", [True, False])
def test_earlier_failures_agree_with_fail_on_regression(only: bool) -> None:
    cells = [make_cell("x86_64"), make_cell("aarch64"), make_cell("armv7")]
    verdicts = (Verdict.FAIL, Verdict.FAIL, Verdict.INFRA_ERROR)
    records = [make_record(cell, verdict) for cell, verdict in zip(cells, verdicts, strict=True)]
    kinds = (ChangeKind.STILL_FAILING, ChangeKind.NEW_FAILURE, ChangeKind.NO_VERDICT)
    changes = tuple(
        CellChange(cell.id, "cold", kind, "fail", "fail", is_regression=kind is ChangeKind.NEW_FAILURE)
        for cell, kind in zip(cells, kinds, strict=True)
    )
    past = Past(Comparison("r", "b", STARTED, changes), regressions_only=only)
    states = [
        state for _, state in sorted((name, state) for (_, _, name), state in classes(junit(records, past)).items())
    ]
    assert states == ["failed", "failed", "skipped" if only else "failed"]


def test_earlier_failures_of_the_user_tier_agree_too() -> None:
    cell = make_cell("x86_64").model_copy(update={"tier": "user"})
    change = CellChange(cell.id, "cold", ChangeKind.STILL_FAILING, "user-fail", "user-fail", is_regression=False)
    past = Past(Comparison("r", "b", STARTED, (change,)), regressions_only=True)
    assert set(classes(junit([make_record(cell, Verdict.USER_FAIL)], past)).values()) == {"skipped"}


def test_the_file_of_a_run_agrees_with_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day in (1, 2):
        name = write_dated(
            tmp_path, day, [make_record(make_cell("x86_64"), Verdict.FAIL), make_record(make_cell("armv7"))]
        )
    for options, status, failures in ((("--baseline", "latest", "--fail-on", "regression"), 0, 0), ((), 0, 1)):
        assert main(["report", name, "--reports", str(tmp_path), *options]) == status
        root = ElementTree.parse(tmp_path / name / "junit.xml").getroot()
        assert int(root.get("failures", "")) == failures, options


def test_a_failure_that_its_guest_skips_later_stays_red_until_it_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, other = make_cell("x86_64"), make_record(make_cell("armv7"))
    skip = make_record(cell, Verdict.SKIP, "exit status 4", seconds=9.0)
    for day, record in enumerate((make_record(cell), make_record(cell, Verdict.FAIL), skip, skip), 1):
        name = write_dated(tmp_path, day, [record, other])
    reports = ("--reports", str(tmp_path))
    compared = ("report", name, *reports, "--baseline", "last-good", "--fail-on", "regression")
    for status in (1, 0):
        assert main(list(compared)) == status
        root = ElementTree.parse(tmp_path / name / "junit.xml").getroot()
        assert int(root.get("failures", "")) == status
        assert ("1 regression on x86_64" in (tmp_path / name / "report.html").read_text()) == bool(status)
        main(["accept", cell.id, *reports, "--reason", "the test waits for a fix"])


def test_the_size_is_bounded() -> None:
    parts = [SubResult(name=f"test {number}", verdict=Verdict.PASS) for number in range(MAX_CASES)]
    parts.append(SubResult(name="the last", verdict=Verdict.FAIL))
    text = junit([make_record(make_cell("x86_64"), Verdict.FAIL, subresults=parts)], console=b"x" * 9_000_000)
    assert len(text) < 100_000
    found = classes(text)
    assert ("influxdb", "x86_64", "6.1: the last") in found and len(found) == 2
    assert b'name="passed sub-results left out" value="20000"' in text


def test_another_reader_makes_a_page_of_it(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_bytes(junit([*mixed_records(), flaky_record()][:-1], lacking=1))
    command = [sys.executable, "-m", "junit2htmlreport", "junit.xml", "out.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out.html").read_text()
    assert "influxdb/riscv64/6.0" in page and "kernel panic: VFS" in page
