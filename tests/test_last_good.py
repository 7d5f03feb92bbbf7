"""Red stays red: the last good run as the baseline, and failures that a person accepts for some time."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bootmatrix.errors import InputError
from bootmatrix.history.acceptance import AcceptedFailure, acceptance_of, of_title, read_accepted, today
from bootmatrix.model import AcceptanceRecord, Record, Verdict
from bootmatrix.runs.run_store import RUN_FILE, load_run, write_model
from command_line import ReportsTool
from samples import green_records, make_record, write_dated

GREEN = green_records()
CELL = GREEN[0].cell.id
RED = [make_record(GREEN[0].cell, Verdict.FAIL, "the server does not answer"), *GREEN[1:]]


class Tool(ReportsTool):
    """The command line over a folder of nightly runs."""

    def night(self, day: int, records: list[Record], accepted: str = "", branch: str = "") -> str:
        """A run of one night, as it would have been written with this acceptance."""
        name = write_dated(self.reports, day, records)
        entry = AcceptanceRecord(cell=accepted, reason="fixed soon", by="Ann", at="", until="2026-11-09")
        run = load_run(self.reports / name).model_copy(
            update={"accepted": (entry,) if accepted else (), "branch": branch}
        )
        write_model(self.reports / name / RUN_FILE, run)
        return name


@pytest.fixture
def tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(tmp_path, capsys)


def test_a_regression_stays_one_until_the_cell_passes(tool: Tool) -> None:
    good = tool.night(1, GREEN)
    for day in (2, 3, 4):
        tool.night(day, RED)
        said = tool("compare", "latest", "--fail-on", "regression", status=1)
        assert f"1 regression since {good}" in said
        assert (f"regressed {day - 2} run" in said) is (day > 2)
    tool.night(5, GREEN)
    assert f"no regressions since {good}" in tool("compare", "latest", "--fail-on", "regression")


def test_the_newest_run_would_hide_it(tool: Tool) -> None:
    """The baseline `latest` is there for those who ask for it."""
    for day, records in enumerate((GREEN, RED, RED), 1):
        tool.night(day, records)
    tool("compare", "latest", "latest", "--fail-on", "regression")


def test_an_accepted_failure_is_no_regression(tool: Tool) -> None:
    tool.night(1, GREEN)
    tool.night(2, RED)
    said = tool("accept", CELL, "--reason", "fixed in 1.8", "--by", "Ann", "--until", "2099-01-01")
    assert said == f"{CELL}: accepted by Ann until 2099-01-01: fixed in 1.8\n"
    said = tool("compare", "latest", "--fail-on", "regression")
    assert "accepted failure" in said
    assert "accepted by Ann until 1 January 2099: fixed in 1.8" in said
    assert CELL in tool("accept")
    tool("accept", CELL, "--remove")
    tool("compare", "latest", "--fail-on", "regression", status=1)
    assert tool("accept") == "no failure is accepted\n"


def test_a_run_whose_failures_are_all_accepted_is_good_until_that_ends(tool: Tool) -> None:
    tool.night(1, GREEN)
    good = tool.night(2, RED, accepted=CELL)
    tool.night(3, RED)
    said = tool("compare", "latest", "--fail-on", "regression", status=1)
    assert f"1 regression since {good}" in said
    assert "was accepted by Ann until 9 November 2026: fixed soon" in said
    assert re.search(rf"{good} .* 1 of 8 not as expected, 1 accepted", tool("runs"))


def at_night(records: list[Record], day: int) -> list[Record]:
    """The records with a spec of their own, so that no change of a verdict is flapping."""
    return [record.model_copy(update={"spec_sha256": f"{day:064}"}) for record in records]


def test_an_acceptance_ends_when_the_cell_passes(tool: Tool) -> None:
    """An acceptance ends when its cell passes, before its last day."""
    tool.night(1, at_night(GREEN, 1))
    tool.night(2, at_night(RED, 2))
    tool("accept", "influxdb/*", "--reason", "fixed in 1.8", "--by", "Ann", "--until", "2099-01-01")
    file = tool.reports / "accepted.json"
    (entry,) = json.loads(file.read_text())["accepted"]
    file.write_text(json.dumps({"format": 1, "accepted": [{**entry, "at": "2026-11-02T08:00:00+00:00"}]}))
    tool.night(3, at_night(RED, 3))
    assert "1 accepted failure" in tool("compare", "latest", "--fail-on", "regression")
    good = tool.night(4, at_night(GREEN, 4))
    tool.night(5, at_night(RED, 5))
    said = tool("compare", "latest", "--fail-on", "regression", status=1)
    assert f"1 regression since {good}" in said
    assert "was accepted by Ann until 1 January 2099: fixed in 1.8; it has passed since" in said
    tool("accept", CELL, "--reason", "again", "--by", "Ann")
    assert "accepted by Ann" in tool("compare", "latest", "--fail-on", "regression")


def test_a_pass_of_a_flapping_cell_ends_no_acceptance(tool: Tool) -> None:
    for day, records in enumerate((GREEN, RED, GREEN, RED), 1):
        tool.night(day, records)
    tool("accept", CELL, "--reason", "a race", "--by", "Ann")
    (tool.reports / "accepted.json").write_text(
        (tool.reports / "accepted.json").read_text().replace(f'"at": "{today().isoformat()}', '"at": "2026-11-02')
    )
    assert "accepted failure" in tool("compare", "latest", "--fail-on", "regression")


def test_an_acceptance_covers_other_cells_of_its_pattern_only(tool: Tool) -> None:
    tool.night(1, GREEN)
    tool.night(2, [RED[0], make_record(GREEN[3].cell, Verdict.PANIC, "panic"), *GREEN[1:3], *GREEN[4:]])
    tool("accept", f"*/{GREEN[0].cell.arch}/*", "--reason", "x", "--by", "Ann")
    said = tool("compare", "latest", "--fail-on", "regression", status=1)
    assert "1 regression since" in said
    assert "1 accepted failure" in said


def test_acceptances_end_and_belong_to_a_title() -> None:
    until = today().isoformat()
    entries = (
        AcceptedFailure("a/*", "x", "Ann", "", until),
        AcceptedFailure("b", "x", "Ann", "", (today() - timedelta(days=1)).isoformat()),
        AcceptedFailure("c", "x", "Ann", "", until, title="other"),
    )
    assert [(entry.cell, entry.is_over) for entry in of_title(entries, "mine")] == [("a/*", False), ("b", True)]
    assert [entry.cell for entry in of_title(entries, "other")] == ["a/*", "b", "c"]
    assert acceptance_of("a/b", entries)
    assert acceptance_of("b", of_title(entries, "mine")) is None
    assert acceptance_of("d", entries) is None


@pytest.mark.parametrize("recorded", [True, False])
def test_an_acceptance_whose_day_is_over_is_told(tool: Tool, recorded: bool) -> None:
    """Also where no run knows of it: else its cell reads as one that failed last night."""
    tool.night(1, GREEN)
    tool.night(2, RED, accepted=CELL if recorded else "")
    entry = {"cell": CELL, "reason": "fixed soon", "by": "Ann", "at": "", "until": "2026-11-09", "title": ""}
    other = {**entry, "title": "other", "by": "Eve"}
    (tool.reports / "accepted.json").write_text(json.dumps({"format": 1, "accepted": [entry, other]}))
    tool.night(3, RED)
    said = tool("compare", "latest", "--fail-on", "regression", status=1)
    assert said.count("Ann") == 1
    assert "acceptance by Ann ended 9 November 2026: fixed soon" in said
    assert "Eve" not in said
    tool("accept", CELL, "--reason", "again", "--by", "Bob")
    assert "Ann" not in tool("compare", "latest", "--fail-on", "regression")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((CELL,), "needs a reason"),
        ((CELL, "--reason", " "), "needs a reason"),
        (("none", "--reason", "x"), "no run has a cell 'none'"),
        ((CELL, "--reason", "x", "--until", "soon"), "expected a day"),
        ((CELL, "--reason", "x", "--until", "2020-01-01"), "that day is over"),
        ((CELL, "--remove"), "no acceptance of"),
        (("--remove",), "name a cell"),
    ],
)
def test_what_is_no_acceptance_is_refused(tool: Tool, words: tuple[str, ...], message: str) -> None:
    tool.night(1, GREEN)
    assert message in tool("accept", *words, status=2)
    assert not (tool.reports / "accepted.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "accepted": [{"cell": "a"}]}', "[" * 9000])
def test_a_damaged_list_is_told(tool: Tool, text: str) -> None:
    tool.night(1, GREEN)
    (tool.reports / "accepted.json").write_text(text)
    assert "accepted.json: damaged" in tool("compare", "latest", "--fail-on", "regression", status=2)


@pytest.mark.parametrize("until", ["20201231", "2020-W01-1"])
def test_a_day_in_another_form_never_ends_late(tool: Tool, until: str) -> None:
    """As texts, both are behind each day of 2020."""
    entry = {"cell": "*", "reason": "x", "by": "x", "at": "", "until": until, "title": ""}
    tool.reports.mkdir(exist_ok=True)
    (tool.reports / "accepted.json").write_text(json.dumps({"format": 1, "accepted": [entry]}))
    with pytest.raises(InputError, match="must be a day such as 2026-12-31"):
        read_accepted(tool.reports)


def test_accepted_failures_that_never_end_are_not_read(tool: Tool) -> None:
    """The folder of the runs may be somebody else's."""
    tool.reports.mkdir(exist_ok=True)
    os.mkfifo(tool.reports / "accepted.json")
    with pytest.raises(InputError, match=r"accepted\.json: cannot be read: not a regular file"):
        read_accepted(tool.reports)


def test_it_is_read_back_as_written(tool: Tool) -> None:
    tool.night(1, GREEN)
    tool("accept", CELL, "--reason", "ü <b>", "--by", "Änn")
    (entry,) = read_accepted(tool.reports)
    assert (entry.reason, entry.by) == ("ü <b>", "Änn")
    assert entry.until == (datetime.now(UTC).date() + timedelta(days=30)).isoformat()
    assert json.loads(tool("accept", "--json"))[0]["cell"] == CELL


def test_the_newest_run_of_one_matrix_is_named_by_its_title(tool: Tool) -> None:
    """Several matrices share a folder: another one's newer run must not stand for this one's."""
    mine = write_dated(tool.reports, 1, RED, title="mine")
    other = write_dated(tool.reports, 2, GREEN, title="other")
    assert other in tool("compare", "latest", "--json")
    assert mine in tool("compare", "latest:mine", "--json")
    assert "contains no run of 'none'" in tool("compare", "latest:none", status=2)
    assert "contains no run of ''" in tool("compare", "latest:", status=2)


def test_baselines_by_branch(tool: Tool) -> None:
    main_run = tool.night(1, GREEN, branch="main")
    tool.night(2, RED, branch="main")
    topic = tool.night(3, RED, accepted="*", branch="topic")
    tool.night(4, RED, branch="topic")
    assert f"since {main_run}" in tool("compare", "latest", "branch:main", "--fail-on", "regression", status=1)
    assert f"since {topic}" in tool("compare", "latest", "last-good")
    assert "no earlier run" in tool("compare", "latest", "branch:none")
