"""Badges that turn grey with age, and support tiers from evidence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bootmatrix.history.extract import results_of
from bootmatrix.history.index import ask
from bootmatrix.history.past import past_of
from bootmatrix.model import Record, Run, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import render
from bootmatrix.report.forms.badge import GREEN, GREY, RED
from bootmatrix.runs.run_store import load_run
from samples import make_cell, make_record, write_dated


def badge(age_days: float, verdict: Verdict = Verdict.PASS, title: str = "influxdb", interrupted: bool = False) -> str:
    began = (datetime.now(UTC) - timedelta(days=age_days)).isoformat(timespec="seconds")
    records = (make_record(make_cell("x86_64"), verdict), make_record(make_cell("armv7")))
    run = Run(
        name="r",
        title=title,
        tool_version="1",
        started_at=began,
        ended_at=began,
        records=records,
        interrupted=interrupted,
    )
    text = render("badge", ReportContext(run, lambda _: b"")).decode()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    return text


@pytest.mark.parametrize(
    ("text", "colour", "words"),
    [
        (badge(1), GREEN, "2 of 2 as expected"),
        (badge(1, Verdict.FAIL), RED, "1 of 2 as expected"),
        (badge(8), GREY, "2 of 2 as expected, "),
        (badge(8, Verdict.FAIL), GREY, "1 of 2 as expected, "),
        (badge(1, interrupted=True), GREY, "2 of 2 as expected, interrupted"),
        (badge(1, title='<script>"&'), GREEN, "&lt;script&gt;&quot;&amp;: 2 of 2"),
    ],
    ids=["good", "bad", "old", "old and bad", "interrupted", "hostile title"],
)
def test_badges(text: str, colour: str, words: str) -> None:
    assert colour in text and words in text
    assert [other for other in (GREEN, RED, GREY) if other in text] == [colour]


def test_tiers_rest_on_the_last_runs(tmp_path: Path) -> None:
    def records(day: int) -> list[Record]:
        once = Verdict.FAIL if day == 3 else Verdict.PASS
        return [
            make_record(make_cell("x86_64")),
            make_record(make_cell("aarch64"), once),
            make_record(make_cell("armv7", expect="known"), Verdict.PANIC, expected=True),
            make_record(make_cell("ppc64le"), Verdict.HANG),
            make_record(make_cell("s390x"), Verdict.SKIP, "too | slow"),
            *([make_record(make_cell("riscv64"))] if day == 5 else []),
        ]

    names = [write_dated(tmp_path, day, records(day)) for day in range(1, 6)]
    run = load_run(tmp_path / names[-1])
    past = ask(tmp_path, lambda rows: past_of(rows, results_of(run, names[-1])))
    lines = render("tiers", ReportContext(run, lambda _: b"", past)).decode().splitlines()
    rows = {
        cells[3].strip(" `"): (cells[1].strip(), cells[5].strip())
        for cells in (line.split("|") for line in lines[4:10])
    }
    assert rows["x86_64"] == ("1", "5 of the last 5 passed")
    assert rows["aarch64"] == ("2", "4 of the last 5 passed")
    assert rows["riscv64"] == ("2", "1 of the last 1 passed")
    assert rows["armv7"] == ("3", "panic; 0 of the last 5 passed")
    assert rows["ppc64le"] == ("none", "hang; 0 of the last 5 passed")
    assert rows["s390x"][0] == "none" and [line.split("|")[1].strip() for line in lines[4:6]] == ["1", "2"]
