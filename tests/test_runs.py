"""Runs on disk: written as they come, and readable whatever became of the writer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootmatrix.cell.rejudge import rejudge
from bootmatrix.errors import InputError
from bootmatrix.fsio import sync_disk, write_atomic
from bootmatrix.model import Verdict
from bootmatrix.runs import run_store
from bootmatrix.runs.consoles import console_path, read_console
from bootmatrix.runs.host import describe_host
from bootmatrix.runs.run_store import RunWriter, cell_folder, load_run
from samples import green_records, make_cell, make_record, mixed_records, write_run

WRITER = """
import sys, itertools
from pathlib import Path
from samples import make_cell, make_record
from bootmatrix.runs.run_store import RunWriter
writer = RunWriter.create(Path(sys.argv[1]), "killed")
print(writer.path, flush=True)
for number in itertools.count():
    cell = make_cell("x86_64", f"6.{number}")
    folder = writer.folder(cell)
    (folder / "console.log").write_text("hello")
    writer.add(make_record(cell))
"""


def test_a_finished_run_reads_back_as_it_was(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    assert load_run(folder) == run
    assert {record.verdict for record in run.records} == {one for one in Verdict if not one.is_user_tier} - {
        Verdict.FLAKY
    }


def test_a_run_without_run_json_is_put_together_from_its_records(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    (folder / "run.json").unlink()
    again = load_run(folder)
    assert again.interrupted
    assert again.ended_at == ""
    assert sorted(one.cell.id for one in again.records) == sorted(one.cell.id for one in run.records)
    assert (
        again.wall_s
        == pytest.approx(  # from the run's start to the end of its last record
            max((_time(one.started_at) - _time(run.started_at)) + one.wall_s for one in run.records), abs=1
        )
        or again.wall_s == 0
    )


def _time(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_cells_that_had_begun_are_named(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "cut")
    writer.folder(make_cell("armv7"))
    writer.add(make_record(make_cell("x86_64")))
    assert load_run(writer.path).unfinished == ("influxdb/armv7/virt/6.1",)
    assert writer.finish(interrupted=True).unfinished == ("influxdb/armv7/6.1",)


def test_a_writer_that_was_killed_leaves_a_readable_run(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert child.stdout
    folder = Path(child.stdout.readline().strip())
    deadline = time.monotonic() + 20
    while len(list(folder.glob("cells/*/*/*/*/record.json"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    run = load_run(tmp_path / "latest")
    assert run.interrupted
    assert len(run.records) >= 20
    assert all(read_console(folder, record) == b"hello" for record in run.records)


def test_a_record_in_several_lines_is_put_into_the_run_as_one(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    (folder / "run.json").unlink()
    for file in folder.glob("cells/*/*/*/*/record.json"):
        file.write_text(json.dumps(json.loads(file.read_text()), indent=1) + "\n")
    again = {record.cell.id: record for record in RunWriter.resume(folder).finish().records}
    assert again == {record.cell.id: record for record in run.records}
    assert len((folder / "run.json").read_text().splitlines()) == len(run.records) + 2


@pytest.mark.parametrize("left", [b"", bytes(100)])
def test_a_record_that_a_power_cut_left_empty_counts_as_none(tmp_path: Path, left: bytes) -> None:
    run, folder = write_run(tmp_path, mixed_records())
    (folder / "run.json").unlink()
    lost = next(one for one in run.records if one.verdict is Verdict.PASS)
    (cell_folder(folder, lost.cell) / "record.json").write_bytes(left)
    again = load_run(folder)
    assert {one.cell.id for one in run.records} - {one.cell.id for one in again.records} == {lost.cell.id}
    assert [Path(name).name for name in again.unfinished] == [lost.cell.kernel]
    assert len(RunWriter.resume(folder).earlier) == len(run.records) - 1


def test_records_wait_for_no_disk_until_they_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(run_store, "sync_disk", synced.append)
    monkeypatch.setattr(os, "fsync", lambda _handle: synced.append(Path("one file")))
    writer = RunWriter.create(tmp_path, "many")
    synced.clear()
    for number in range(5):
        writer.add(make_record(make_cell("x86_64", f"6.{number}")))
    assert synced == []
    writer.make_durable()
    writer.make_durable()
    assert synced == [writer.path]
    writer.add(make_record(make_cell("x86_64", "7.0")))
    writer.make_durable()
    assert synced == [writer.path, writer.path]


def test_a_disk_that_cannot_be_synced_is_said(tmp_path: Path) -> None:
    sync_disk(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        sync_disk(tmp_path / "gone")


def test_each_run_has_a_folder_of_its_own_and_latest_is_the_newest(tmp_path: Path) -> None:
    first, second = RunWriter.create(tmp_path, "a"), RunWriter.create(tmp_path, "a")
    assert first.path != second.path
    assert (tmp_path / "latest").readlink() == Path(second.path.name)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([first.path.name, second.path.name, "latest"])


@pytest.mark.parametrize("title", ["../../etc", "a/b\0c", "", "…", "-rf", "x" * 500])
def test_no_title_leaves_the_reports_folder(tmp_path: Path, title: str) -> None:
    writer = RunWriter.create(tmp_path / "reports", title)
    assert writer.path.parent == tmp_path / "reports"
    assert load_run(writer.path).title == title


def test_a_latest_that_is_no_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(InputError, match="latest is not a link"):
        RunWriter.create(tmp_path, "a")
    assert [one.name for one in tmp_path.iterdir()] == ["latest"]


def test_a_link_that_leads_to_no_run_is_left_alone(tmp_path: Path) -> None:
    """The reports of a checkout may be a link to a folder of releases, whose newest is `latest`."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "latest").symlink_to("v1")
    with pytest.raises(InputError, match="latest is not a link to the newest run"):
        RunWriter.create(tmp_path, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "v1"]
    (tmp_path / "v1").rmdir()  # as of a run that was removed
    assert RunWriter.create(tmp_path, "a").path == (tmp_path / "latest").resolve()


def test_text_that_is_no_unicode_does_not_stop_a_record(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "a")
    writer.add(make_record(make_cell("x86_64"), reason="broken \udc80 byte"))
    assert load_run(writer.path).records[0].judgement.reason == "broken ? byte"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", "{", "run.json: damaged"),
        ("run.json", '{"format": 99}', "format 99"),
        ("run.json", '{"name": 1}', "run.json: damaged: name"),
        ("started.json", "[]", "started.json: damaged"),
        ("other", "", "neither run.json nor started.json"),
    ],
)
def test_what_is_no_run_is_said_to_be_none(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_run(tmp_path)
    assert caught.value.hint


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_run(tmp_path / "nowhere")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    _, folder = write_run(tmp_path, green_records())
    (folder / "run.json").unlink()
    (folder / "cells/influxdb/armv7/virt/6.1/record.json").write_text("{")
    with pytest.raises(InputError, match=r"armv7/virt/6\.1/record\.json: damaged"):
        load_run(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"baseline": ""', '"baseline": "../../another/run"'),
        ('"started_at": "', '"started_at": "yesterday, '),
        ('"ended_at": "20', '"ended_at": "9999-12-31T23:59:59-12:00 20'),
        ('"started_at": "', '"started_at": "2026-11-24\\u001b01:40:05+00:00", "branch": "'),
        *(('"wall_s": ', f'"wall_s": {number}, "host": {{}}, "x": ') for number in ("NaN", "Infinity", "1e999")),
    ],
)
def test_a_run_that_somebody_edited_is_refused(tmp_path: Path, old: str, new: str) -> None:
    """It would lead to another run's files, or to a time or number that is none."""
    _, folder = write_run(tmp_path, mixed_records())
    text = (folder / "run.json").read_text()
    assert old in text
    (folder / "run.json").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=r"run\.json: damaged: .*(baseline|started_at|ended_at|wall_s)"):
        load_run(folder)


def test_a_record_cannot_point_outside_its_run(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, green_records()[:1])
    (tmp_path / "secret").write_text("secret")
    record = run.records[0].model_copy(update={"console": "../../../../../../secret"})
    with pytest.raises(InputError, match=r"is missing|leads out"):
        read_console(folder, record)
    console = folder / "cells/influxdb/x86_64/pc/6.1/console.log"
    console.unlink()
    console.symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="is a link, or leads out"):
        read_console(folder, run.records[0])


def test_verdicts_are_reached_again_from_what_was_recorded(tmp_path: Path) -> None:
    _, folder = write_run(tmp_path, mixed_records())
    again = {record.cell.id: judgement for record, judgement in rejudge(load_run(folder), folder)}
    assert again["influxdb/aarch64/7.2"].verdict is Verdict.PANIC
    never_booted = {"influxdb/ppc64le/6.12", "influxdb/ppc64le/7.2", "influxdb/armv7/5.10"}
    assert again.keys() == {record.cell.id for record in mixed_records()} - never_booted
    (folder / "cells/influxdb/aarch64/virt/7.2/console.log").write_text("nothing of interest\n")
    changed = {record.cell.id: judgement for record, judgement in rejudge(load_run(folder), folder)}
    assert changed["influxdb/aarch64/7.2"].reason != again["influxdb/aarch64/7.2"].reason


def test_a_cell_without_its_console_is_not_judged_again(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, green_records())
    (folder / "cells/influxdb/x86_64/pc/6.1/console.log").unlink()
    with pytest.raises(InputError, match=r"the console of influxdb/x86_64/6\.1 is missing"):
        list(rejudge(run, folder))


@pytest.mark.parametrize("depth", range(5))
def test_no_console_is_read_behind_a_link(tmp_path: Path, depth: int) -> None:
    """A run from elsewhere would have a private file shown in its report."""
    run, folder = write_run(tmp_path, green_records())
    record = run.records[0]
    assert read_console(folder, record)
    linked = (console_path(folder, record), *console_path(folder, record).parents)[depth]
    linked.rename(tmp_path / "private")
    linked.symlink_to(tmp_path / "private")
    with pytest.raises(InputError, match="is a link, or leads out"):
        read_console(folder, record)


@pytest.mark.parametrize("depth", range(1, 6))
def test_no_record_of_an_unfinished_run_is_read_behind_a_link(tmp_path: Path, depth: int) -> None:
    """A run from elsewhere would have another run's records in its report."""
    run, folder = write_run(tmp_path, green_records())
    (folder / "run.json").unlink()
    assert len(load_run(folder).records) == len(run.records)
    file = folder / "cells/influxdb/x86_64/pc/6.1/record.json"
    linked = (file, *file.parents)[depth]
    linked.rename(tmp_path / "private")
    linked.symlink_to(tmp_path / "private")
    with pytest.raises(InputError, match="expected a folder of the run, found a link"):
        load_run(folder)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"old")
    with pytest.raises(TypeError):
        write_atomic(target, "no bytes")  # type: ignore[arg-type]
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


def test_the_host_is_described_without_its_name() -> None:
    host = describe_host()
    assert {"kernel", "cpus", "memory", "python"} <= host.keys()
    assert socket.gethostname() not in json.dumps(host).replace(host["kernel"], "")
    assert str(Path.home()) + "/" not in json.dumps(host)
