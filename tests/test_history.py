"""The commands that look back: runs, history, compare, prune, and baselines."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.errors import InputError
from bootmatrix.history.discover import is_run
from bootmatrix.history.prune import SIGNED_FOLDER, remove_run
from bootmatrix.history.reference import RunLocation, add_tag
from bootmatrix.model import Verdict
from bootmatrix.runs.run_store import RunWriter, load_run, write_model
from command_line import ReportsTool as Tool
from samples import green_records, make_cell, make_record, mixed_records, write_dated

GREEN, MIXED = "2026-11-01T02-00-00Z-influxdb", "2026-11-02T02-00-00Z-influxdb"


@pytest.fixture
def tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    write_dated(tmp_path, 1, green_records())
    write_dated(tmp_path, 2, mixed_records())
    return Tool(tmp_path, capsys)


def test_runs_are_listed_newest_first(tool: Tool) -> None:
    lines = tool("runs").splitlines()
    assert re.fullmatch(rf"{MIXED} +2026-11-02 02:00 .* 5 of 11 not as expected, 2 without a verdict", lines[1])
    assert re.fullmatch(rf"{GREEN} +2026-11-01 02:00 .* 8 as expected", lines[2])
    assert len(lines) == 3
    assert len(tool("runs", "-n", "1").splitlines()) == 2
    assert tool("runs", "--title", "none") == f"{tool.reports} contains no run\n"
    assert [one["name"] for one in json.loads(tool("runs", "--json"))] == [MIXED, GREEN]


def test_a_run_that_cannot_be_read_is_listed_as_such(tool: Tool) -> None:
    (tool.reports / GREEN / "run.json").write_text("{}")
    assert "damaged" in tool("runs")
    assert "damaged" in tool("compare", MIXED, GREEN, status=2)


def test_a_tag_names_a_run_and_moves(tool: Tool) -> None:
    assert tool("runs", "tag", GREEN, "v1.8") == f"tag:v1.8 is {GREEN}\n"
    assert re.search(rf"{GREEN} .* v1\.8$", tool("runs"), re.M)
    assert MIXED not in tool("compare", "tag:v1.8", "tag:v1.8")
    tool("runs", "tag", MIXED, "v1.8")
    assert re.search(rf"{MIXED} .* v1\.8$", tool("runs"), re.M)
    tool("runs", "untag", "v1.8")
    assert "v1.8" not in tool("runs")
    assert "no tag 'v1.8'" in tool("runs", "untag", "v1.8", status=2)


@pytest.mark.parametrize("tag", ["../x", ".x", "", "a b", "latest", "x" * 65, "-x/../y"])
def test_what_cannot_be_a_tag_is_refused(tool: Tool, tag: str) -> None:
    with pytest.raises(InputError, match="is not a valid tag"):
        add_tag(RunLocation(tool.reports, GREEN), tag)
    assert not (tool.reports / "tags").exists()


def test_a_tag_is_not_written_through_a_link(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A run's name is what its author chose, such as a line of a table of cron's."""
    elsewhere = tmp_path_factory.mktemp("cron.d")
    (elsewhere / "v2").write_text("precious")
    (tool.reports / "tags").symlink_to(elsewhere)
    for words in (["tag", GREEN, "v1"], ["tag", GREEN, "v2"], ["untag", "v2"]):
        assert "tags: not a folder, or a link to one" in tool("runs", *words, status=3)
    assert [(file.name, file.read_text()) for file in elsewhere.iterdir()] == [("v2", "precious")]


@pytest.mark.parametrize("text", ["../../etc", ".hidden", "a/b", "\x00", "nothing"])
def test_a_tag_that_points_elsewhere_is_none(tool: Tool, text: str) -> None:
    tool("runs", "tag", GREEN, "good")
    (tool.reports / "tags" / "bad").write_text(text)
    assert "no run in" in tool("compare", "tag:bad", status=2)
    assert "Did you mean 'tag:good'?" in tool("compare", "tag:goood", status=2)


def test_the_history_of_a_cell(tool: Tool) -> None:
    text = tool("history", "influxdb/x86_64/7.2")
    assert f"fails since 2 Nov 2026, 02:00 ({MIXED}); last pass 1 Nov 2026, 02:00" in text
    assert "last 2: ✓✗" in text
    assert "changed once, with the same inputs" in text
    assert "usually 4.5 s ± 0 ms (1 passes on the last host)" in text
    assert re.findall(r"^  \d Nov 2026, 02:00  (\w+) ", text, re.M) == ["fail", "pass"]
    assert "passes" in tool("history", "influxdb/x86_64/6.1")


def test_the_history_of_several_cells(tool: Tool) -> None:
    text = tool("history", "influxdb/*/6.1")
    assert re.findall(r"^influxdb/(\w+)/6.1 \(cold\)$", text, re.M) == ["aarch64", "armv7", "ppc64le", "x86_64"]
    assert len(json.loads(tool("history", "influxdb/*/6.1", "--json"))) == 4


def test_an_unknown_cell_is_told(tool: Tool) -> None:
    text = tool("history", "influxdb/x86_64/7.3", status=2)
    assert "no run has a cell 'influxdb/x86_64/7.3'\n  Did you mean 'influxdb/x86_64/7.2'?" in text


def test_compare_tells_regressions_first(tool: Tool) -> None:
    lines = tool("compare", MIXED, GREEN).splitlines()
    assert lines[0].startswith(f"4 regressions since {GREEN}: ")
    kinds = [line[:16].strip() for line in lines[1:] if not line.startswith(" ")]
    assert kinds[:4] == ["new failure"] * 4
    assert any(re.match(r"\w.* influxdb/aarch64/7.2  pass → panic  since 2 Nov 2026, 02:00", line) for line in lines)
    assert "    kernel panic: VFS: Unable to mount root fs on unknown-block(0,0)" in lines
    assert "    check: read them back: pass → fail" in lines
    assert tool("compare", MIXED) == tool("compare", "latest", "--baseline", "latest") == "\n".join(lines) + "\n"


def test_compare_as_json(tool: Tool) -> None:
    found = json.loads(tool("compare", MIXED, "--json"))
    assert found["baseline"] == GREEN
    assert sum(one["is_regression"] for one in found["changes"]) == 4


def test_the_exit_status_follows_regressions_when_asked(tool: Tool) -> None:
    tool("compare", MIXED, GREEN, "--fail-on", "regression", status=1)
    tool("compare", MIXED, MIXED, "--fail-on", "regression", status=3)  # two cells have no verdict
    tool("compare", GREEN, MIXED, "--fail-on", "regression")
    tool("compare", GREEN, "--fail-on", "regression")  # nothing was before it
    tool("compare", MIXED, GREEN)


def test_without_an_earlier_run_each_failure_is_a_regression(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    write_dated(tool.reports, 3, mixed_records(), title="other")
    text = tool("compare", "latest", "--fail-on", "regression", status=1)
    assert text.startswith("4 regressions (no earlier run to compare with)")


def test_the_latest_baseline_is_one_that_came_to_its_end(tool: Tool) -> None:
    cut = write_dated(tool.reports, 3, green_records(), interrupted=True)
    last = write_dated(tool.reports, 4, green_records())
    assert f"since {MIXED}" in tool("compare", last)
    assert f"since {cut}" in tool("compare", last, cut)


def test_a_run_that_is_not_there(tool: Tool, tmp_path: Path) -> None:
    assert f"Did you mean '{GREEN}'?" in tool("compare", GREEN[:-1], status=2)
    (tmp_path / "other").mkdir()
    assert "not a run" in tool("compare", str(tmp_path / "other"), status=2)
    assert "contains no run" in Tool(tmp_path / "other", tool._capsys)("compare", "latest", status=2)


def test_runs_may_be_given_as_paths_and_lie_elsewhere(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tool.reports / GREEN).rename(tmp_path / "elsewhere" / GREEN)
    text = tool("compare", str(tool.reports / MIXED), str(tmp_path / "elsewhere" / GREEN))
    assert text.startswith(f"4 regressions since {GREEN}")


def test_the_report_is_written_beside_a_baseline(tool: Tool) -> None:
    out = tool("report", MIXED, "--baseline", GREEN, "--fail-on", "regression", status=1)
    assert out == f"{tool.reports / MIXED}/report.html\n"
    assert load_run(tool.reports / MIXED).baseline == GREEN
    tool("report", MIXED)
    assert load_run(tool.reports / MIXED).baseline == GREEN
    assert "no such run" in tool("report", MIXED, "--baseline", "nothing", status=2)


def many(reports: Path, count: int) -> list[str]:
    return [write_dated(reports, day, [make_record(make_cell("x86_64"))], title="t") for day in range(1, count + 1)]


def test_prune_keeps_what_matters_and_says_what_it_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool, names = Tool(tmp_path, capsys), many(tmp_path, 9)
    tool("runs", "tag", names[1], "v1")
    (tmp_path / names[2] / SIGNED_FOLDER).mkdir()
    tagged = load_run(tmp_path / names[1])
    write_model(tmp_path / names[1] / "run.json", tagged.model_copy(update={"baseline": names[0]}))
    going = RunWriter.create(tmp_path, "under way").path.name
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("not a run")
    outside = tmp_path / "precious"
    outside.mkdir()
    (tmp_path / names[5] / "link").symlink_to(outside)
    (outside / "file").write_text("x")

    said = tool("prune", "--keep", "2", "--dry-run")
    assert [line for line in said.splitlines() if line.startswith("would")] == [
        f"would remove {name}" for name in (names[6], names[5], names[4], names[3])
    ]
    assert sum(map(is_run, tmp_path.iterdir())) == 11  # the link `latest` counts too
    said = tool("prune", "--keep", "2")
    assert said.splitlines()[-1] == "4 removed, 6 kept"
    left = {path.name for path in tmp_path.iterdir() if is_run(path)}
    assert left == {*names[:3], *names[7:], going, "latest"}
    assert (outside / "file").read_text() == "x"
    assert (tmp_path / "notes" / "mine.txt").exists()
    assert tool("prune", "--keep", "2") == "0 removed, 6 kept\n"


def test_prune_leaves_alone_what_is_being_taken_up(tool: Tool) -> None:
    interrupted = write_dated(tool.reports, 5, green_records(), title="other", interrupted=True)
    write_dated(tool.reports, 6, green_records())
    long_ago = 1_000_000_000
    for file in (tool.reports / interrupted).rglob("*.json"):
        os.utime(file, (long_ago, long_ago))
    writer = RunWriter.resume(tool.reports / interrupted)
    said = tool("prune", "--keep", "0")
    assert f"removed {GREEN}" in said
    assert f"removed {interrupted}" not in said
    assert not remove_run(writer.path), "nor after it was chosen"
    assert is_run(writer.path)
    del writer
    assert f"removed {interrupted}" in tool("prune", "--keep", "0")
    assert not [path for path in tool.reports.iterdir() if path.name.endswith(".removing")]


def test_a_run_that_prune_holds_is_not_taken_up(tool: Tool) -> None:
    interrupted = write_dated(tool.reports, 5, green_records(), interrupted=True)
    with (tool.reports / interrupted / "started.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="still under way"):
            RunWriter.resume(tool.reports / interrupted)


def test_prune_keeps_the_newest_of_each_title(tool: Tool) -> None:
    write_dated(tool.reports, 3, green_records(), title="other")
    assert f"removed {GREEN}\n1 removed, 2 kept" in tool("prune", "--keep", "1")


def test_prune_leaves_a_damaged_run_to_its_owner_and_removes_its_own_leftovers(tool: Tool) -> None:
    (tool.reports / GREEN / "run.json").write_text("{}")
    rest = tool.reports / ".x.removing"
    rest.mkdir()
    (rest / "record.json").write_text("half")
    tool("prune", "--keep", "0")
    assert (tool.reports / GREEN).is_dir()
    assert not rest.exists()


@pytest.mark.parametrize(
    "command", [("runs",), ("history", "influxdb/*"), ("compare", "latest"), ("prune", "--dry-run")]
)
def test_commands_that_look_back_wait_for_no_model(tool: Tool, command: tuple[str, ...]) -> None:
    """Importing pydantic and the model takes longer than the answer may."""
    tool("runs")
    code = (
        "import sys; from bootmatrix.cli.main import main; status = main(sys.argv[1:]); "
        "print(*{name.split('.')[0] for name in sys.modules}, 'bootmatrix.model' in sys.modules); sys.exit(status)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *command, "--reports", str(tool.reports)],
        capture_output=True,
        text=True,
        check=True,
    )
    words = result.stdout.splitlines()[-1].split()
    assert words[-1] == "False"
    assert not set(words) & {"pydantic", "rich", "jinja2", "anyio"}


def test_history_is_told_of_hostile_names_without_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = Tool(tmp_path, capsys)
    write_dated(tmp_path, 1, [make_record(make_cell("x86_64"), Verdict.FAIL, "\x1b[2Jboo\x07")])
    for text in (tool("runs"), tool("history", "*"), tool("compare", "latest")):
        assert "\x1b" not in text
        assert "\x07" not in text
