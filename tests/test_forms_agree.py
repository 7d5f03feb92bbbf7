"""Every form of the report says the same of a run as its exit status does, whatever mix of verdicts it has."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from rich.console import Console
from tap.parser import Parser

from bootmatrix.cli.exits import exit_status
from bootmatrix.judge.tap import parse
from bootmatrix.model import Plan, Record, Run, RunRequest, SubResult, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import form_names, render
from bootmatrix.report.text import summary
from samples import STARTED, make_cell, make_record

ARCHES = ("x86_64", "aarch64", "armv7", "ppc64le")
NAME = st.sampled_from(["check a", "a: b # TODO c", "not ok", "a: x", "1..3", "a | b", "  ---"])


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    """Records as a run makes them: an error of ours is never expected, a pass has no part that failed."""
    made = []
    for arch in draw(st.lists(st.sampled_from(ARCHES), unique=True)):
        verdict = draw(st.sampled_from(Verdict))
        known = draw(st.sampled_from(["", "bug # 5"]))
        passed = verdict is Verdict.PASS
        as_known = verdict.is_guests and passed is not bool(known)
        expected = verdict in {Verdict.SKIP, Verdict.USER_PASS} or as_known
        worst = [Verdict.PASS, Verdict.SKIP] if passed else list(Verdict)
        parts = draw(st.lists(st.builds(SubResult, name=NAME, verdict=st.sampled_from(worst)), max_size=3))
        cell = make_cell(arch, expect=known)
        made.append(make_record(cell, verdict, "why | not # SKIP", subresults=parts, expected=expected))
    return made


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Runs that came to their end, or did not; with cells that have no record, or none at all."""
    done = draw(records())
    lacking = [make_cell("riscv64", f"6.{number}") for number in range(draw(st.integers(0, 2)))]
    order = RunRequest(
        plan=Plan(cells=(*(one.cell for one in done if one.verdict is not Verdict.SKIP), *lacking)),
        allow_empty=draw(st.booleans()),
    )
    return Run(
        name="run",
        title="t",
        tool_version="1",
        started_at=STARTED,
        ended_at=STARTED,
        interrupted=draw(st.booleans()),
        records=tuple(done),
        order=order,
    )


def junit_is_good(text: bytes) -> bool:
    root = ElementTree.fromstring(text)
    bad = sum(len(list(root.iter(tag))) for tag in ("failure", "error"))
    assert int(root.get("failures", "")) + int(root.get("errors", "")) == bad
    assert int(root.get("tests", "")) == len(list(root.iter("testcase")))
    return not bad


def tap_is_good(text: bytes) -> bool:
    lines = [line for line in text.decode().splitlines() if not line.startswith((" ", "#"))]
    found = [Parser().parse_line(line) for line in lines]
    points = [one for one in found if one.category == "test"]
    plan = next(one for one in found if one.category == "plan")
    assert plan.expected_tests == len(points)
    good = all(one.ok or one.todo for one in points) and not any(one.category == "bail" for one in found)
    # A reader that looks at every depth, as bootmatrix's own does, comes to the same.
    assert good is (not parse(text.decode(), "report").faults)
    return good


def csv_is_good(text: bytes) -> bool:
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    return all(row["expected"] == "yes" for row in rows)


def openmetrics_is_good(text: bytes) -> bool:
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
        if "arch" not in sample.labels
    }
    good = bool(values["bootmatrix_run_good"])
    if values["bootmatrix_run_unexpected_cells"] or values["bootmatrix_run_missing_cells"]:
        assert not good
    return good


def json_is_good(text: bytes) -> bool:
    return Run.model_validate_json(text).is_good


READERS: dict[str, Callable[[bytes], bool]] = {
    "csv": csv_is_good,
    "github": lambda text: b"::error" not in text,
    "html": lambda text: b'<header class="top good">' in text,
    "json": json_is_good,
    "junit": junit_is_good,
    "md": lambda text: "✅" in text.decode().splitlines()[0],
    "openmetrics": openmetrics_is_good,
    "tap": tap_is_good,
}


@given(runs())
@settings(max_examples=60, deadline=None)
def test_all_forms_agree_with_the_exit_status(run: Run) -> None:
    # badges and tiers look at other runs too; KernelCI knows no expected failures
    assert {*READERS, "badge", "tiers", "kcidb"} == set(form_names())
    good = exit_status(run) == 0
    told = {name: READERS[name](render(name, ReportContext(run, lambda _: b"line\n"))) for name in READERS}
    assert told == dict.fromkeys(READERS, good)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, color_system="standard", width=200)
    console.print(summary(run))
    last = shown.getvalue().rstrip().splitlines()[-1]
    assert last.startswith("\x1b[1;32m" if good else "\x1b[1;31m")
