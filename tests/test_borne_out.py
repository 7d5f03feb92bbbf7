"""Verdicts that were edited or damaged in a saved run are found by their evidence before anything is built on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cell.borne_out import check_verdicts
from bootmatrix.errors import InputError
from bootmatrix.model import Plan, RunRequest
from bootmatrix.runs.run_store import RUN_FILE, STARTED_FILE, load_run, write_model
from bootmatrix.workspace.merge import merge_runs
from bootmatrix.workspace.planned_run import load_resumable
from command_line import Tool, tool
from fake_qemu import packed
from samples import make_cell, mixed_records, write_run

__all__ = ["tool"]
Json = dict[str, Any]
FAILED = "cells/influxdb/x86_64/pc/7.2"
PASSED = "cells/influxdb/aarch64/virt/6.1"
SKIPPED = "cells/influxdb/armv7/virt/5.10"
UNBUILT = "cells/influxdb/ppc64le/pseries/6.12"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its last record, with its request."""
    reports = tmp_path_factory.mktemp("saved")
    run, folder = write_run(reports, mixed_records())
    skipped = [record.cell for record in run.records if record.verdict == "skip"]
    plan = Plan(cells=tuple(record.cell for record in run.records if record.cell not in skipped), skips=())
    started = {"records": (), "ended_at": "", "wall_s": 0.0, "order": RunRequest(plan=plan)}
    write_model(folder / STARTED_FILE, run.model_copy(update=started))
    (folder / RUN_FILE).unlink()
    return folder


@pytest.fixture
def run_folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / saved.name)


def edit(folder: Path, cell: str, change: Callable[[Json], object]) -> None:
    file = folder / cell / "record.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def say(verdict: str, expected: bool = True) -> Callable[[Json], object]:
    def change(record: Json) -> None:
        record["judgement"]["verdict"], record["expected"] = verdict, expected

    return change


def without(*names: str) -> Callable[[Json], object]:
    return lambda record: [record.pop(name) for name in names]


def all_of(*changes: Callable[[Json], object]) -> Callable[[Json], object]:
    return lambda record: [change(record) for change in changes]


def known(record: Json) -> None:
    record["cell"]["expect"], record["expected"] = "issue 7", True


def skip_tests(record: Json) -> None:
    """Make a boot in which the check's tests found what they need missing."""
    messages = record["outcome"]["messages"]
    number = next(place for place, one in enumerate(messages) if one["words"][1:] == ["exit", "1"])
    messages[number]["words"][2] = "4"
    messages.insert(number, {**messages[number], "kind": "tap", "words": ["check", packed(b"1..0 # SKIP no device")]})
    for place, message in enumerate(messages, 1):
        message["sequence"] = place
    say("skip")(record)


def tried_twice(record: Json) -> None:
    boots = [{"judgement": record["judgement"], "started_at": record["started_at"]}]
    record["attempt_records"] = [{**boots[0], "judgement": {"verdict": "pass", "reason": ""}}] * 2
    say("pass")(record)


def test_verdicts_that_their_evidence_bears_out_are_accepted(saved: Path) -> None:
    check_verdicts(load_run(saved), saved)
    run, _ = load_resumable(saved)
    assert len(run.records) == len(mixed_records())


def test_a_cell_that_was_booted_and_skipped_is_borne_out(run_folder: Path) -> None:
    edit(run_folder, FAILED, skip_tests)
    run, _ = load_resumable(run_folder)
    assert {record.verdict for record in run.records if record.cell.kernel == "7.2"} >= {"skip"}
    assert merge_runs([run_folder], run_folder.parent / "merged").folder.is_dir()


@pytest.mark.parametrize(
    ("cell", "change", "words"),
    [
        (FAILED, say("pass"), "it says pass, and its evidence fail: "),
        (FAILED, say("panic", expected=False), "it says panic, and its evidence fail: "),
        (FAILED, lambda record: record.update(expected=True), "it says that its verdict, fail, is as expected"),
        (FAILED, known, "its known failures"),
        (
            PASSED,
            lambda record: record["cell"].update(append="quiet"),
            "its cell is not as the run's plan has it: append",
        ),
        (FAILED, say("skip"), "it says skip, and its evidence fail: "),
        (FAILED, all_of(say("skip"), without("outcome")), "it says that its cell was skipped"),
        (FAILED, say("user-pass"), "without a run in the user tier"),
        (FAILED, all_of(say("pass"), without("outcome")), "it says pass, without the boot"),
        (FAILED, all_of(say("pass"), without("bootable")), "it says pass, without the boot"),
        (FAILED, tried_twice, "it says pass, without the boot"),
        (UNBUILT, say("pass"), "it says pass, without the boot"),
        (PASSED, say("fail", expected=False), "it says fail, and its evidence pass: "),
        (PASSED, lambda record: record["judgement"].update(is_weak=True), "without the reservations"),
        (PASSED, lambda record: record["bootable"].update(privileged=["x: all devices"]), "without the reservations"),
        (PASSED, lambda record: record["outcome"]["messages"].pop(), "it says pass, and its evidence fail: "),
        (PASSED, lambda record: record["outcome"].update(events=[]), "it says pass, and its evidence fail: "),
    ],
)
def test_an_edited_record_is_refused_with_its_file(
    run_folder: Path, cell: str, change: Callable[[Json], object], words: str
) -> None:
    edit(run_folder, cell, change)
    with pytest.raises(InputError) as caught:
        load_resumable(run_folder)
    assert str(caught.value).startswith(f"{run_folder / cell}/record.json: ")
    assert words in str(caught.value)
    with pytest.raises(InputError, match=r"record\.json: it"):
        merge_runs([run_folder], run_folder.parent / "merged")
    assert not (run_folder.parent / "merged").exists()


def test_a_damaged_console_is_found_by_what_it_would_have_ruled_out(run_folder: Path) -> None:
    console = run_folder / PASSED / "console.log"
    console.write_text(console.read_text() + "[    5.000000] kernel BUG at lib/x.c:27!\n")
    with pytest.raises(InputError, match=r"it says pass, and its evidence fail: .*kernel BUG at lib/x\.c:27"):
        load_resumable(run_folder)


@pytest.mark.parametrize("target", [FAILED, "cells/influxdb/aarch64/virt/6.12", "cells/Influxdb/aarch64/virt/6.1"])
def test_a_record_in_the_place_of_another_cells_is_refused(run_folder: Path, target: str) -> None:
    shutil.copytree(run_folder / PASSED, run_folder / target, dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"record\.json: it is of another cell: influxdb/aarch64/6\.1"):
        load_resumable(run_folder)


def test_a_cell_has_one_record(run_folder: Path) -> None:
    run = load_run(run_folder)
    twice = run.model_copy(update={"records": (*run.records, run.records[0])})
    with pytest.raises(InputError, match=f"two records of {run.records[0].cell.id}"):
        check_verdicts(twice, run_folder)


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"{", b'{"cell": 1}'])
def test_a_record_that_is_none_is_run_again_or_refused(run_folder: Path, damage: bytes) -> None:
    (run_folder / PASSED / "record.json").write_bytes(damage)
    if damage[:1] in {b"", b"\0"}:
        run, _ = load_resumable(run_folder)
        assert "influxdb/aarch64/6.1" in run.missing
    else:
        with pytest.raises(InputError, match=r"aarch64/virt/6\.1/record\.json: damaged"):
            load_resumable(run_folder)


def test_the_command_line_refuses_to_sign_off_or_resume_an_edited_run(tool: Tool, run_folder: Path) -> None:
    edit(run_folder, FAILED, say("pass"))
    reports = ["--reports", str(run_folder.parent)]
    for words in (["signoff", run_folder.name, "--release", "1", "--no-pdf"], ["matrix", "--resume", str(run_folder)]):
        done = tool(*words, *(reports if words[0] == "signoff" else []))
        assert done.returncode == 2, done.stdout + done.stderr
        assert "record.json: it says pass, and its evidence fail" in done.stderr
        assert "Traceback" not in done.stderr
    assert make_cell("x86_64", "7.2").id not in load_run(run_folder).missing


def test_a_record_beside_run_json_that_says_otherwise_counts_in_no_new_run(run_folder: Path) -> None:
    """Resuming and merging check the records that they take into the new run."""
    run = load_run(run_folder)
    write_model(run_folder / RUN_FILE, run.model_copy(update={"ended_at": run.started_at, "interrupted": True}))
    edit(run_folder, FAILED, say("pass"))
    with pytest.raises(InputError, match="it says pass, and its evidence fail: "):
        load_resumable(run_folder)
    merged = merge_runs([run_folder], run_folder.parent / "merged")
    (merged.folder / RUN_FILE).unlink()
    assert {record.cell.id: record.verdict for record in load_run(merged.folder).records} == {
        record.cell.id: record.verdict for record in run.records
    }


def test_a_report_warns_of_an_edited_verdict(run_folder: Path, tool: Tool) -> None:
    sound = tool("report", str(run_folder), "--format", "html")
    assert (sound.returncode, sound.stderr) == (0, "")
    assert "Warning:" not in sound.stdout
    edit(run_folder, FAILED, say("pass"))
    for form in ("html", "md"):
        shown = tool("report", str(run_folder), "--format", form)
        assert "record.json: it says pass, and its evidence fail" in shown.stderr
    written = tool("report", str(run_folder))
    assert "warning: " in written.stderr
    assert "Warning: " in (run_folder / "report.html").read_text()
