"""Every form of the report, read back by what is meant to read it."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import kcidb_io
import pytest
from junitparser import JUnitXml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tap.parser import Parser

from bootmatrix.cli.main import main
from bootmatrix.cli.parsers.files import SCHEMA_KINDS
from bootmatrix.history.extract import results_of
from bootmatrix.history.index import ask
from bootmatrix.history.past import past_of
from bootmatrix.history.values import NO_PAST, Past
from bootmatrix.load import schema as load_schema
from bootmatrix.model import Evidence, Plan, Record, Run, RunRequest, SubResult, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import form_names, render
from bootmatrix.report.forms.md import code
from bootmatrix.report.summary import append_summary
from bootmatrix.runs.run_json import run_schema
from bootmatrix.runs.run_store import load_run
from samples import STARTED, green_records, make_cell, make_record, mixed_records, write_dated, write_run

HOSTILE = (
    "=cmd|' /C x'!A0 \x1b[31m`````@everyone | #1 </td><script>alert(1)</script> ]]> \\ \"\n# TODO\nok 1 \ud800\x00"
)


def given(records: list[Record], interrupted: bool = False, past: Past = NO_PAST) -> ReportContext:
    run = Run(
        name="2026-11-24T01-40-05Z-influxdb",
        title="influxdb",
        tool_version="0.1.0",
        started_at=STARTED,
        ended_at=STARTED,
        wall_s=60,
        interrupted=interrupted,
        records=tuple(records),
    )
    return ReportContext(run, lambda _: b"line\n", past)


def hostile() -> ReportContext:
    record = make_record(
        make_cell("x86_64", expect=HOSTILE),
        Verdict.FAIL,
        HOSTILE,
        evidence=[Evidence(source=HOSTILE, text=HOSTILE)],
        subresults=[SubResult(name=HOSTILE, verdict=Verdict.FAIL, detail=HOSTILE)],
        advice=HOSTILE,
    )
    assert record.kernel
    named = dict.fromkeys(("name", "version", "architecture", "suite"), HOSTILE)
    packages = tuple(package.model_copy(update=named) for package in record.kernel.packages)
    kernel = record.kernel.model_copy(update={"packages": packages})
    record = record.model_copy(update={"kernel": kernel, "qemu_version": HOSTILE, "cold_reason": HOSTILE})
    one = given([record, make_record(make_cell("armv7"), Verdict.SKIP, HOSTILE)])
    text = HOSTILE.replace("\ud800", "")  # which JSON cannot have
    of_the_run = dict.fromkeys(("title", "name", "tool_version", "branch", "baseline"), text)
    return ReportContext(one.run.model_copy(update=of_the_run), lambda _: HOSTILE.encode("utf-8", "replace"))


def test_forms_are_found_by_name() -> None:
    assert form_names() == (
        *("badge", "csv", "github", "html", "json", "junit", "kcidb", "md", "openmetrics", "tap", "tiers"),
    )


@pytest.mark.parametrize("name", form_names())
def test_each_form_is_printed_and_nothing_written(
    name: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    _, folder = write_run(tmp_path, mixed_records())
    before = sorted(folder.rglob("*"))
    assert main(["report", str(folder), "--format", name, "--reports", str(tmp_path)]) == 0
    out = capfdbinary.readouterr().out
    assert b"7.2" in out or (name == "badge" and b"of 13 as expected" in out)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", form_names())
def test_hostile_texts_do_no_harm(name: str) -> None:
    text = render(name, hostile()).decode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f]", text) or name == "json"
    if name in {"html", "junit"}:
        assert "<script>alert" not in text


def test_tap_is_read_by_a_consumer() -> None:
    lines = list(Parser().parse_text(render("tap", given(mixed_records())).decode()))
    tests = [line for line in lines if line.category == "test"]
    assert len(tests) == 14
    found = {test.description.removeprefix("- "): test for test in tests}
    assert not found["influxdb/aarch64/7.2"].ok
    assert found["influxdb/aarch64/6.12"].todo
    assert found["influxdb/armv7/5.10"].skip
    assert not found["influxdb/x86_64/6.12"].ok  # a pass that nobody expected
    assert sum(not test.ok and not test.todo for test in tests) == 7
    assert render("tap", given([], interrupted=True)).endswith(b"Bail out! The run was interrupted\n")


def test_tap_of_a_hostile_guest_has_no_points_of_its_making() -> None:
    text = render("tap", hostile()).decode()
    assert len(re.findall(r"^(?:not )?ok", text, re.M)) == 2
    assert len(re.findall(r"^ +(?:not )?ok", text, re.M)) == 1
    assert "\\# TODO" in text


def test_csv_has_a_line_for_each_cell_and_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(render("csv", given(mixed_records())).decode())))
    assert len(rows) == 14
    panic = next(row for row in rows if row["verdict"] == "panic")
    assert (panic["cell"], panic["expected"], panic["mode"]) == ("influxdb/aarch64/7.2", "no", "cold")
    assert (panic["kernel_release"], panic["seconds"], panic["qemu_version"]) == ("7.2.4-1", "6.300", "7.2.22")
    for row in csv.DictReader(io.StringIO(render("csv", hostile()).decode())):
        assert not any(value.startswith(("=", "+", "-", "@")) for value in row.values())


def test_openmetrics_is_read_back() -> None:
    text = render("openmetrics", given(mixed_records())).decode()
    assert text.endswith("# EOF\n")
    families = {one.name: one for one in text_string_to_metric_families(text)}
    verdicts = {(one.labels["arch"], one.labels["kernel"]): one for one in families["bootmatrix_cell_verdict"].samples}
    assert verdicts["aarch64", "7.2"].labels["verdict"] == "panic"
    assert families["bootmatrix_run_unexpected_cells"].samples[0].value == 7
    counts = {one.labels["verdict"]: one.value for one in families["bootmatrix_run_cells"].samples}
    assert counts["pass"] == 6
    list(text_string_to_metric_families(render("openmetrics", hostile()).decode()))


def test_markdown_tells_the_answer_first() -> None:
    lines = render("md", given(mixed_records())).decode().splitlines()
    assert lines[0].startswith("## ❌ `influxdb`: ")
    assert "- **panic** `influxdb/aarch64/7.2`  " in lines
    assert any(re.match(r"\| `influxdb` \| `armv7/raspi2b` \| · .*◷ timeout 9 min 00 s \|", line) for line in lines)
    assert render("md", given(green_records())).decode().startswith("## ✅ `influxdb`: ")


def test_markdown_of_many_cells_is_short() -> None:
    many = [make_record(make_cell("x86_64", f"6.{number}"), Verdict.FAIL, "x" * 5000) for number in range(500)]
    text = render("md", given(many))
    assert len(text) < 200_000
    assert b"- and 450 more" in text


@pytest.mark.parametrize("text", ["a", "`", "``a`", "a`b", "x|y", HOSTILE, ""])
def test_a_code_span_ends_where_it_should(text: str) -> None:
    span = code(text)
    fence = re.match("`+", span)
    assert fence
    inner = span[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall("`+", inner)
    assert "\n" not in span


def test_run_json_follows_its_schema() -> None:
    described = run_schema()
    jsonschema.Draft202012Validator.check_schema(described)
    for one in (given(mixed_records()), given([], interrupted=True)):
        jsonschema.validate(json.loads(render("json", one)), described)
    wrong = json.loads(render("json", given(mixed_records())))
    wrong["records"][0]["judgement"]["verdict"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError, match="perhaps"):
        jsonschema.validate(wrong, described)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**wrong, "format": 99}, described)


def test_kcidb_is_valid_for_kernelci() -> None:
    """By the library that the database itself uses: schema, and references between the objects."""
    schema = kcidb_io.schema.V5_3
    for one in (given(mixed_records()), given([], interrupted=True), hostile()):
        document = json.loads(render("kcidb", one))
        assert schema.is_valid_exactly(document)
        kept = {name: {entry["id"] for entry in document.get(name, ())} for name in ("checkouts", "builds", "tests")}
        assert {entry["checkout_id"] for entry in document.get("builds", ())} == kept["checkouts"]
        assert {entry["build_id"] for entry in document.get("tests", ())} == kept["builds"]
        assert len(kept["tests"]) == len(document.get("tests", ()))
    tests = {entry["comment"]: entry for entry in json.loads(render("kcidb", given(mixed_records())))["tests"]}
    found = {name: tests[f"influxdb/{name}"]["status"] for name in ("aarch64/7.2", "aarch64/6.12", "armv7/5.10")}
    assert found == {"aarch64/7.2": "FAIL", "aarch64/6.12": "FAIL", "armv7/5.10": "SKIP"}
    assert tests["influxdb/aarch64/7.2"]["misc"]["verdict"] == "panic"
    assert tests["influxdb/aarch64/7.2"]["log_excerpt"] == "line\n"
    assert not schema.is_valid({"version": {"major": 5, "minor": 3}, "tests": [{"id": "none"}]})


def test_kcidb_has_the_cells_without_a_verdict(tmp_path: Path) -> None:
    cells = [make_cell("x86_64"), make_cell("armv7")]
    run = given([make_record(cells[0], Verdict.INFRA_ERROR)], interrupted=True).run
    lacking = run.model_copy(update={"order": RunRequest(plan=Plan(cells=tuple(cells), skips=()))})
    tests = json.loads(render("kcidb", ReportContext(lacking, lambda _: b"")))["tests"]
    assert [(entry["comment"], entry["status"]) for entry in tests] == [(cell.id, "MISS") for cell in cells]


def test_every_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert ("run", *load_schema.KINDS) == SCHEMA_KINDS
    for kind in SCHEMA_KINDS:
        assert main(["schema", kind]) == 0
        found = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator.check_schema(found)
        assert found["title"].startswith("run.json of bootmatrix, format 2") is (kind == "run")


def test_junit_is_read_by_a_library_and_names_cells() -> None:
    suites = JUnitXml.fromstring(render("junit", given(mixed_records())))
    names = {case.name for suite in suites for case in suite}
    assert {record.cell.id for record in mixed_records()} <= names
    assert (suites.failures, suites.errors) == (5, 2)


def test_junit_tells_what_is_flaky(tmp_path: Path) -> None:
    """A pass that flips by itself is marked in the form that reporters know from reruns."""
    records = green_records()[:1]
    for day, verdict in enumerate((Verdict.PASS, Verdict.FAIL), 1):
        write_dated(tmp_path, day, [make_record(records[0].cell, verdict)])
    name = write_dated(tmp_path, 3, records)
    run = load_run(tmp_path / name)
    past = ask(tmp_path, lambda rows: past_of(rows, results_of(run, name)))
    root = ElementTree.fromstring(render("junit", ReportContext(run, lambda _: b"", past)))
    (flaky,) = root.iter("flakyFailure")
    assert "changed 2 times, 2 of them with the same inputs" in (flaky.get("message") or "")
    assert not list(root.iter("failure"))
    assert not list(ElementTree.fromstring(render("junit", ReportContext(run, lambda _: b""))).iter("flakyFailure"))


def test_a_summary_is_added_where_a_ci_system_wants_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    append_summary(given(green_records()))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    append_summary(given(green_records()))
    assert file.read_text().startswith("before\n## ✅")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    append_summary(given(green_records()))


def test_a_signed_run_is_not_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = write_run(tmp_path, green_records())
    assert main(["signoff", str(folder), "--release", "v1", "--no-pdf", "--reports", str(tmp_path)]) == 0
    assert main(["report", str(folder), "--reports", str(tmp_path)]) == 2
    assert "is signed off for v1: a new report would invalidate that" in capsys.readouterr().err
    assert main(["report", str(folder), "--format", "md", "--reports", str(tmp_path)]) == 0
    assert main(["signoff", "verify", str(folder), "--reports", str(tmp_path)]) == 0


def test_a_spec_made_to_be_slow_to_search_is_not(tmp_path: Path) -> None:
    """A pull request brings it, and the job that announces a result reads it."""
    spec = tmp_path / "spec.yml"
    spec.write_text(f"x: |\n  -{' ' * 200_000}x\nservices:\n  - {{ name: ping }}\n")
    cell = make_cell("x86_64").model_copy(update={"spec": str(spec)})
    failed = [SubResult(name="check ping", verdict=Verdict.FAIL)]
    begun = time.process_time()
    text = render("github", given([make_record(cell, Verdict.FAIL, "no", subresults=failed)]))
    assert b"line=4,title=" in text
    assert time.process_time() - begun < 10
