"""One truthful `latest`: five states of runs told apart, wherever runs are named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bootmatrix.history import discover
from bootmatrix.history.reference import newest_run
from bootmatrix.history.values import RunState
from bootmatrix.report.index_page import write_index
from bootmatrix.report.writer import write_reports
from bootmatrix.runs import hold, run_store
from bootmatrix.runs.run_store import RunWriter, load_run, write_model
from samples import green_records, mixed_records, write_dated
from test_last_good import Tool, tool

__all__ = ["tool"]

NIGHT = "2026-11-02T02-00-00Z-influxdb"


@pytest.fixture
def nights(tool: Tool) -> Tool:
    """A green night, and a newer one."""
    for day in (1, 2):
        name = write_dated(tool.reports, day, green_records())
        write_reports(load_run(tool.reports / name), tool.reports / name)
    newest_run(tool.reports)
    return tool


def test_a_run_with_fields_of_a_later_version_is_not_damaged(nights: Tool) -> None:
    file = nights.reports / NIGHT / "run.json"
    sound = file.read_text()
    for text in (
        sound.replace('"title": ', '"mood": 1, "title": ', 1),
        sound.replace('{"cell":', '{"mood":1,"cell":', 1),
    ):
        assert text != sound
        file.write_text(text)
        said = nights("report", "latest", status=2)
        assert f"{NIGHT}/run.json: has fields that bootmatrix" in said and "does not know: 'mood'" in said
        assert "other format: run.json: has fields" in nights("runs")
    file.write_text(sound.replace('"title": ', '"mood": 1, "titel": ', 1))
    assert "damaged: title: Field required" in nights("report", "latest", status=2)


def test_a_name_close_to_one_is_suggested(nights: Tool) -> None:
    assert "Did you mean 'latest'?" in nights("report", "latset", status=2)
    assert f"Did you mean '{NIGHT}'?" in nights("report", NIGHT[:-1], status=2)


def spoil(folder: Path, state: str) -> None:
    """Make a run unusable."""
    file = folder / "run.json"
    if state == "damaged":
        file.write_bytes(file.read_bytes()[:-200])
    elif state == "other format":
        file.write_text(file.read_text().replace('"format": 2', '"format": 99', 1))
    else:
        file.unlink()
        file.mkdir()


def test_the_names_are_those_of_the_writer() -> None:
    assert hold.STARTED_FILE == run_store.STARTED_FILE
    assert run_store.LATEST in discover.OWN_NAMES


@pytest.mark.parametrize("state", ["damaged", "other format", "not readable"])
def test_an_unusable_newest_run_is_an_error_and_never_the_night_before(nights: Tool, state: str) -> None:
    spoil(nights.reports / NIGHT, state)
    for command in (("report", "latest"), ("compare", "latest"), ("report", "latest", "--format", "junit")):
        assert NIGHT in nights(*command, status=2)
    first = nights("runs").splitlines()[1]
    assert re.match(rf"{NIGHT} +2026-11-02 02:00 .* {state}: ", first)
    page = write_index(nights.reports).read_text()
    assert f"2 Nov 2026, 02:00 UTC: {state}: " in page
    assert "The newest run, 2026-11-02" in page
    (line,) = (line for line in json.loads(nights("runs", "--json")) if line["name"] == NIGHT)
    assert (line["state"], line["title"]) == (state, "influxdb")
    said = nights("report", "latest", "--format", "openmetrics", status=2)
    assert f'bootmatrix_run_state{{state="{state}",title="influxdb"}} 1.0' in said


def test_a_run_is_under_way_as_long_as_its_writer_lives(tool: Tool) -> None:
    writer = RunWriter.create(tool.reports, "influxdb")
    writer.add(green_records()[0])
    assert "under way" in tool("runs")
    assert "under way" in tool("report", "latest", "--format", "md")
    assert "Bail out! The run is still under way" in tool("report", "latest", "--format", "tap")
    page = write_index(tool.reports).read_text()
    assert "under way" in page
    writer._hold.close()
    assert "interrupted" in tool("runs")
    assert "under way" not in tool("report", "latest", "--format", "md")
    assert "under_way" not in (writer.path / "started.json").read_text()


def test_a_run_of_the_future_is_neither_the_latest_nor_a_baseline(nights: Tool) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    name = f"{later:%Y-%m-%dT%H-%M-%SZ}-influxdb"
    shutil.copytree(nights.reports / NIGHT, nights.reports / name)
    run = load_run(nights.reports / name)
    dated = run.model_copy(update={"name": name, "started_at": later.isoformat(timespec="seconds")})
    write_model(nights.reports / name / "run.json", dated)
    latest = nights.reports / "latest"
    latest.unlink()
    latest.symlink_to(name)
    assert newest_run(nights.reports) == NIGHT
    assert str(latest.readlink()) == NIGHT, "the link and the word mean the same run"
    assert f"{NIGHT}/report.html" in nights("report", "latest")
    assert "dated in the future" in nights("runs")
    assert name not in nights("compare", "latest", "last-good")


def test_a_copy_of_the_link_is_no_second_run(nights: Tool) -> None:
    latest = nights.reports / "latest"
    target = latest.resolve()
    latest.unlink()
    shutil.copytree(target, latest)
    assert len(json.loads(nights("runs", "--json"))) == 2


def test_runs_are_resumed_by_any_name(tool: Tool, tmp_path: Path) -> None:
    name = write_dated(tool.reports, 1, green_records(), interrupted=True)
    tool("runs", "tag", name, "v1")
    for word in ("latest", "tag:v1", name):
        assert "it has no request" in tool("matrix", "--resume", word, status=2)
    assert "no such run" in tool("matrix", "--resume", "other", status=2)


@pytest.mark.skipif(os.geteuid() != 0, reason="a file that root cannot remove takes root")
def test_prune_goes_on_after_a_run_that_cannot_be_removed(tmp_path: Path, tool: Tool) -> None:
    names = [write_dated(tool.reports, day, green_records()) for day in (1, 2, 3)]
    for name in names:
        write_reports(load_run(tool.reports / name), tool.reports / name)
    write_index(tool.reports)
    stuck = tool.reports / names[0] / "cells"
    prune = f"{sys.executable} -m bootmatrix.cli.main prune --keep 1 --reports {tool.reports}"
    script = f"mount -t tmpfs none {stuck} && {prune}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"kept {names[0]}: it cannot be removed: {stuck}: another file system is mounted here" in done.stderr
    assert f"removed {names[1]}" in done.stdout
    assert (tool.reports / names[0] / "run.json").is_file(), "not half removed"
    assert not (tool.reports / names[1]).exists()
    assert names[1] not in (tool.reports / "index.html").read_text()


@pytest.mark.parametrize("state", ["damaged", "other format", "not readable"])
def test_prune_tells_of_unusable_runs_and_removes_them_when_asked(nights: Tool, state: str) -> None:
    write_dated(nights.reports, 3, mixed_records())
    spoil(nights.reports / NIGHT, state)
    said = nights("prune", "--keep", "0")
    assert f"kept {NIGHT}: {state}; --unreadable removes it" in said
    assert f"removed {NIGHT}" in nights("prune", "--unreadable")
    assert not (nights.reports / NIGHT).exists()


def test_no_link_of_the_index_is_dead(nights: Tool) -> None:
    (nights.reports / NIGHT / "report.html").unlink()
    page = write_index(nights.reports).read_text()
    links = {link.partition("#")[0] for link in re.findall(r'href="([^"]+report\.html[^"]*)"', page)}
    assert links
    assert all((nights.reports / link).is_file() for link in links)


def test_the_states_are_five_and_finished() -> None:
    assert len(RunState) == 6
