"""Cells that are tried more than once: when, what is kept of each attempt, and what all of them come to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.boot.start import Booted, Start
from bootmatrix.cell.rejudge import is_expected
from bootmatrix.cell.retry import Attempt, Prepared, keep_output, should_retry
from bootmatrix.cell.run import Backend, RunContext, run_cell
from bootmatrix.execute.budget import Budget
from bootmatrix.judge.attempts import final_judgement
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Bootable, Cell, Diagnostic, Judgement, Verdict
from bootmatrix.progress import NullObserver
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.snapshot.pool import SnapshotPool
from bootmatrix.source.archive import Archive
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store
from guests import make_bootable, make_outcome
from samples import make_cell
from stage import Stage, set_up

PASS, FAIL, PANIC, FLAKY = Verdict.PASS, Verdict.FAIL, Verdict.PANIC, Verdict.FLAKY
INFRA, BUILD = Verdict.INFRA_ERROR, Verdict.BUILD_ERROR


def judgements(verdicts: Sequence[Verdict]) -> list[Judgement]:
    return [Judgement(verdict=verdict, reason=f"number {index}") for index, verdict in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "told", "verdict"),
    [
        ([PASS], 0, PASS),
        ([FAIL], 0, FAIL),
        ([INFRA, INFRA], 1, INFRA),
        ([INFRA, PASS], 1, PASS),
        ([INFRA, FAIL], 1, FAIL),
        ([FAIL, FAIL, PANIC], 0, FAIL),
        ([PANIC, FAIL], 0, PANIC),
        ([FAIL, PASS], 0, FLAKY),
        ([INFRA, FAIL, INFRA, PASS], 1, FLAKY),
        ([PASS, FAIL], 1, FLAKY),
        ([FAIL, INFRA, INFRA], 0, FAIL),
        ([FAIL, BUILD], 0, FAIL),
        ([INFRA, BUILD], 1, BUILD),
    ],
)
def test_what_attempts_come_to(verdicts: list[Verdict], told: int, verdict: Verdict) -> None:
    index, judgement = final_judgement(judgements(verdicts))
    assert (index, judgement.verdict) == (told, verdict)
    assert f"number {told}" in judgement.reason


@pytest.mark.parametrize(
    ("verdicts", "retries", "flaky", "again"),
    [
        ([PASS], 3, 3, False),
        ([FAIL], 3, 0, False),
        ([FAIL], 0, 1, True),
        ([FAIL, FAIL], 0, 1, False),
        ([FAIL, FAIL], 0, 2, True),
        ([FAIL, PASS], 0, 9, False),
        ([INFRA], 1, 0, True),
        ([INFRA], 0, 9, False),
        ([INFRA, INFRA], 1, 0, False),
        ([FAIL, INFRA], 1, 1, True),
        ([FAIL, INFRA, FAIL], 1, 1, False),
        ([BUILD], 3, 3, False),
    ],
)
def test_when_a_cell_is_tried_again(verdicts: list[Verdict], retries: int, flaky: int, again: bool) -> None:
    cell = make_cell("x86_64").model_copy(update={"retries": retries, "flaky": flaky})
    attempts = [Attempt(datetime.now(UTC), one) for one in judgements(verdicts)]
    assert should_retry(cell, attempts) is again


def test_a_failure_that_was_foreseen_is_not_tried_again() -> None:
    cell = make_cell("x86_64", expect="known").model_copy(update={"flaky": 5})
    assert not should_retry(cell, [Attempt(datetime.now(UTC), judgements([FAIL])[0])])


@pytest.mark.parametrize("expect", ["", "known to fail"])
def test_what_is_flaky_is_never_as_expected(expect: str) -> None:
    assert not is_expected(make_cell("x86_64", expect=expect), FLAKY)


MACHINES = ("sound", "check_fails-then-sound", "check_fails", "fails_late")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A run with `--flaky 2`, of which one cell passes the second time."""
    stage = set_up(tmp_path_factory.mktemp("flaky"), MACHINES)
    done = stage.run("matrix", stage.matrix(*MACHINES), "--flaky", "2", "--jobs", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "≈ flaky" in done.stdout
    return stage


def test_a_cell_that_passes_the_second_time_is_flaky(stage: Stage) -> None:
    record = stage.record("check_fails-then-sound")
    assert record["judgement"]["verdict"] == "flaky"
    assert record["judgement"]["reason"].startswith("1 of 2 boots failed, the first one with fail: check ping exited")
    assert record["expected"] is False
    assert [one["judgement"]["verdict"] for one in record["attempt_records"]] == ["fail", "pass"]
    assert record["outcome"] == record["attempt_records"][0]["outcome"] != record["attempt_records"][1]["outcome"]


def test_each_attempts_console_is_kept(stage: Stage) -> None:
    cell = stage.latest / "cells/fake/fake/check_fails-then-sound/6.1"
    record = stage.record("check_fails-then-sound")
    first, second = (cell / one["console"] for one in record["attempt_records"])
    assert b"connection refused" in first.read_bytes()
    assert b"Linux version" in second.read_bytes()
    assert record["console"] == first.name


def test_only_what_failed_is_booted_again(stage: Stage) -> None:
    counts = {machine: stage.record(machine)["attempts"] for machine in MACHINES}
    assert counts == {"sound": 1, "check_fails-then-sound": 2, "check_fails": 3, "fails_late": 1}
    assert stage.verdict("check_fails")[0] == "fail"
    assert stage.verdict("fails_late")[0] == "infra-error"


def test_a_flaky_cell_is_a_failure_in_junit(stage: Stage) -> None:
    kinds = {one.get("type") for one in ElementTree.parse(stage.latest / "junit.xml").iter("failure")}
    assert "flaky" in kinds


def test_a_flaky_cell_is_judged_so_again(stage: Stage, tmp_path: Path) -> None:
    done = stage.run("judge", "reports/latest")
    assert done.returncode == 0, done.stdout
    assert "fake/fake/check_fails-then-sound/6.1  flaky" in done.stdout
    path = stage.latest / "run.json"
    text = path.read_text(encoding="utf-8")
    run = json.loads(text)
    for record in run["records"]:
        if record["judgement"]["verdict"] == "flaky":
            record["attempt_records"][1]["outcome"] = record["attempt_records"][0]["outcome"]
    path.write_text(json.dumps(run), encoding="utf-8")
    try:
        assert "fail  (recorded: flaky)" in stage.run("judge", "reports/latest").stdout
    finally:
        path.write_text(text, encoding="utf-8")


def test_a_number_of_times_that_is_none(stage: Stage) -> None:
    done = stage.run("matrix", "all.matrix.yml", "--flaky", "11")
    assert done.returncode == 2
    assert "--flaky: '11' must be a number from 0 to 10" in done.stderr


def test_what_a_stuck_guest_was_doing_outlives_the_next_attempt(tmp_path: Path) -> None:
    (tmp_path / "diagnosis").mkdir()
    (tmp_path / "diagnosis" / "registers.txt").write_text("PC=0")
    kept = (Diagnostic(kind="registers", file="diagnosis/registers.txt"), Diagnostic(kind="tasks", note="no answer"))
    outcome = keep_output(tmp_path, 1, make_outcome(diagnostics=kept))
    assert outcome
    assert [one.file for one in outcome.diagnostics] == ["diagnosis-1/registers.txt", ""]
    assert (tmp_path / outcome.diagnostics[0].file).read_text() == "PC=0"
    assert keep_output(tmp_path, 2, None) is None


@pytest.mark.anyio
async def test_a_fault_of_ours_in_a_copy_is_held_against_no_cold_boot_and_tried_again(tmp_path: Path) -> None:
    killed = make_outcome(ended_by="error", exit_status=-9, host_error="QEMU was killed by SIGKILL")
    ends = iter([killed, make_outcome()])
    bootable = make_bootable()

    async def prepare(_cell: Cell, _bench: RunContext) -> Prepared:
        return Prepared(None, bootable, (), "")

    async def start(started: Start, _bootable: Bootable, _forks: SnapshotPool | None) -> Booted:
        (started.folder / CONSOLE_FILE).write_bytes(b"hello\n")
        return Booted(next(ends), "fork")

    profiles = load_profiles(arch_folders())
    store, silent = Store(tmp_path / "cache"), NullObserver()
    builder = Builder(store, Archive(Settings(), store, None, silent))
    context = RunContext({}, profiles, builder, silent, Budget(1, 1024).hold, backend=Backend(prepare, start))
    cell = make_cell("x86_64").model_copy(update={"boot": "fork"})
    record = await run_cell(cell, context, tmp_path)
    assert (record.verdict, record.boot, record.attempts) == (PASS, "fork", 2), record.judgement
    assert "SIGKILL" in record.attempt_records[0].judgement.reason
