"""The index of runs: what it answers is in the runs, whatever becomes of the index."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.history import discover, extract, index
from bootmatrix.history.discover import changed_at, stamps_of
from bootmatrix.history.extract import results_of
from bootmatrix.history.index import INDEX_FILE, ask
from bootmatrix.history.past import past_of
from bootmatrix.history.queries import Rows
from bootmatrix.history.values import CellHistory, ChangeKind, Past, RunResults, RunState, UnusableRun
from bootmatrix.model import Verdict
from bootmatrix.runs import run_store
from bootmatrix.runs.run_store import RunWriter, load_run, unfinished, write_model
from samples import green_records, make_cell, make_record, mixed_records, write_dated, write_run


def everything(reports: Path) -> list[RunResults]:
    return ask(reports, lambda rows: [one for line in rows.runs() if (one := rows.results(line.name))])


def truth(reports: Path) -> list[RunResults]:
    found = [results_of(load_run(folder), folder.name) for folder in reports.iterdir() if (folder / "cells").is_dir()]
    return sorted(found, key=lambda one: (one.line.started_at, one.line.name), reverse=True)


def same(reports: Path) -> bool:
    def key(results: RunResults) -> RunResults:
        return replace(results, cells=tuple(sorted(results.cells, key=lambda one: one.id)))

    unlinked = [one for one in truth(reports) if not (reports / one.line.name).is_symlink()]
    return [key(one) for one in everything(reports)] == [key(one) for one in unlinked]


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for day in (3, 1, 2):
        write_dated(tmp_path, day, green_records() if day != 2 else mixed_records())
    return tmp_path


def test_the_names_of_files_are_those_of_the_writer() -> None:
    for name in ("RUN_FILE", "STARTED_FILE", "RECORD_FILE", "CELLS_FOLDER"):
        assert getattr(discover, name) == getattr(run_store, name)


def test_it_holds_what_the_runs_hold(reports: Path) -> None:
    assert [one.line.started_at[:10] for one in everything(reports)] == ["2026-11-03", "2026-11-02", "2026-11-01"]
    assert same(reports)


def test_runs_that_come_go_and_change_are_noticed(reports: Path) -> None:
    assert same(reports)
    gone = write_dated(reports, 4, green_records())
    assert same(reports)
    shutil.rmtree(reports / gone)
    assert same(reports)
    assert len(everything(reports)) == 3
    folder = next(reports.glob("2026-11-03*"))
    run = load_run(folder)
    write_model(folder / "run.json", run.model_copy(update={"records": run.records[:3]}))
    assert len(everything(reports)[0].cells) == 3


def test_only_what_changed_is_read_again(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything(reports)
    read: list[str] = []

    def read_run(folder: Path) -> UnusableRun:
        read.append(folder.name)
        return UnusableRun(RunState.DAMAGED, "not read")

    monkeypatch.setattr(extract, "read_run", read_run)
    everything(reports)
    assert read == []
    new = write_dated(reports, 9, [])
    everything(reports)
    assert read == [new]


@pytest.mark.parametrize("damage", [b"", b"no database at all", b"SQLite format 3\x00" + bytes(200)])
def test_a_damaged_index_is_made_again(reports: Path, damage: bytes) -> None:
    everything(reports)
    (reports / INDEX_FILE).write_bytes(damage)
    assert same(reports)


def test_any_damaged_page_is_noticed_or_harmless(reports: Path) -> None:
    """What SQLite can tell to be damage never reaches a user as a fault."""
    everything(reports)
    whole, chance = (reports / INDEX_FILE).read_bytes(), random.Random(1)
    for _ in range(40):
        place = chance.randrange(0, len(whole) - 512)
        (reports / INDEX_FILE).write_bytes(whole[:place] + bytes(512) + whole[place + 512 :])
        everything(reports)
    (reports / INDEX_FILE).write_bytes(whole[: len(whole) // 2])
    assert same(reports)


def test_an_index_of_another_version_is_made_again(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything(reports)
    monkeypatch.setattr(index, "VERSION", 99)
    assert same(reports)


def test_an_index_that_is_a_link_is_not_followed(reports: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (reports / INDEX_FILE).unlink(missing_ok=True)
    (reports / INDEX_FILE).symlink_to(elsewhere)
    assert same(reports)
    assert elsewhere.read_text() == "precious"


SUPER_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def test_no_journal_of_somebody_else_is_played_back(reports: Path, tmp_path: Path) -> None:
    """A journal may name another one, which SQLite removes in the end, whatever file it is."""
    everything(reports)
    precious, file = tmp_path / "precious.txt", reports / INDEX_FILE
    precious.write_text("precious")
    with sqlite3.connect(file, isolation_level=None) as connection:
        connection.executescript("PRAGMA cache_size=1; BEGIN IMMEDIATE; CREATE TABLE x (y)")
        connection.executemany("INSERT INTO x VALUES (?)", [("x" * 3000,)] * 100)
        pages, journal = file.read_bytes(), file.with_name(index.JOURNALS[0]).read_bytes()
        connection.execute("ROLLBACK")
    name = str(precious).encode()
    end = struct.pack(f">I{len(name)}sII", 0, name, len(name), sum(name)) + SUPER_JOURNAL_MAGIC
    file.write_bytes(pages)
    file.with_name(index.JOURNALS[0]).write_bytes(journal + end)
    assert same(reports)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER lie AFTER INSERT ON results BEGIN UPDATE results SET verdict = 'pass', standing = 'good'; END",
        "INSERT INTO results SELECT cell, '2026', 1 + (SELECT max(id) FROM runs), 'x/y/z', verdict, standing, 0, 0, 0,"
        " 0, 0 FROM results LIMIT 1",
        "PRAGMA journal_mode=WAL",
    ],
)
def test_an_index_that_somebody_prepared_is_made_again(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Of their own runs it says the truth, and of those that come it lies."""
    monkeypatch.setenv("BOOTMATRIX_CACHE", str(tmp_path / "theirs"))
    everything(reports)
    with closing(sqlite3.connect(reports / INDEX_FILE)) as connection:
        connection.execute(change)
        connection.commit()
    monkeypatch.setenv("BOOTMATRIX_CACHE", str(tmp_path / "cache"))
    write_dated(reports, 9, mixed_records())
    assert same(reports)
    with closing(sqlite3.connect(reports / INDEX_FILE)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_without_a_cache_the_index_is_not_kept(reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("BOOTMATRIX_CACHE", str(tmp_path / "cache"))
    assert same(reports)
    assert not (reports / INDEX_FILE).exists()


@pytest.mark.parametrize("name", [index.LOCK_FILE, *index.JOURNALS])
def test_no_link_beside_the_index_is_written_through(reports: Path, tmp_path: Path, name: str) -> None:
    assert same(reports)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"\0somebody's")
    (reports / name).unlink(missing_ok=True)
    (reports / name).symlink_to(elsewhere)
    write_dated(reports, 9, green_records())
    assert same(reports)
    assert elsewhere.read_bytes() == b"\0somebody's"


def test_a_folder_that_cannot_be_written_is_read_nonetheless(reports: Path) -> None:
    """For root, who may write anywhere, a folder stands where the lock would be."""
    (reports / index.LOCK_FILE).mkdir()
    assert same(reports)
    assert not (reports / INDEX_FILE).exists()


def test_no_folder_is_no_runs(tmp_path: Path) -> None:
    assert everything(tmp_path / "none") == []


def test_a_damaged_run_is_listed_with_its_fault(reports: Path) -> None:
    next(reports.glob("2026-11-03*/run.json")).write_text('{"name": 3}')
    (bad,) = [one for one in everything(reports) if one.line.fault]
    assert "damaged" in bad.line.fault
    assert bad.cells == ()


def test_a_run_under_way_is_seen_as_it_grows(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "going")
    for number, record in enumerate(green_records()[:2], 1):
        writer.add(record)
        (found,) = everything(tmp_path)
        assert (len(found.cells), found.line.ended_at, found.line.is_green) == (number, "", False)
    writer.finish()
    assert everything(tmp_path)[0].line.is_green


def test_hostile_texts_are_kept_and_break_nothing(tmp_path: Path) -> None:
    hostile = make_record(make_cell("x86_64"), Verdict.FAIL, "'; DROP TABLE runs; -- \x00\ud800")
    write_run(tmp_path, [hostile], title="'\"; DROP TABLE runs")
    assert "DROP TABLE" in everything(tmp_path)[0].cells[0].reason
    assert everything(tmp_path)


def test_the_past_of_a_run_ends_with_it(reports: Path) -> None:
    def question(rows: Rows) -> tuple[RunResults, Past]:
        run = rows.results("2026-11-02T02-00-00Z-influxdb")
        assert run is not None
        return run, past_of(rows, run, rows.results("2026-11-01T02-00-00Z-influxdb"))

    run, past = ask(reports, question)
    history = past.histories["influxdb/x86_64/7.2"]
    assert [one.verdict for one in history.past] == ["pass", "fail"]
    assert history.failing_since is not None
    assert history.failing_since.run == run.line.name
    assert past.comparison is not None
    assert {one.id for one in past.comparison.regressions} == {
        "influxdb/x86_64/7.2",
        "influxdb/aarch64/7.2",
        "influxdb/armv7/7.2",
        "influxdb/armv7/raspi2b/7.2",
    }
    assert past.comparison.counts()[ChangeKind.NO_VERDICT] == 2
    assert past.comparison.by_id()["influxdb/x86_64/7.2"].since == run.line.started_at


def test_failures_that_began_long_ago_are_dated_right(tmp_path: Path) -> None:
    cell = make_cell("x86_64")
    for day in range(1, 10):
        write_dated(tmp_path, day, [make_record(cell, Verdict.PASS if day == 2 else Verdict.FAIL)])

    def question(rows: Rows) -> CellHistory:
        run = rows.results("2026-11-09T02-00-00Z-influxdb")
        assert run is not None
        return past_of(rows, run).histories[cell.id]

    history = ask(tmp_path, question)
    assert history.failing_since is not None
    assert history.failing_since.started_at.startswith("2026-11-03")
    assert history.last_green is not None
    assert history.last_green.started_at.startswith("2026-11-02")


ASK = """
import sys
from pathlib import Path
from bootmatrix.history.index import ask
def question(rows):
    return len(rows.runs()), sum(len(rows.results(one.name).cells) for one in rows.runs())
print(*ask(Path(sys.argv[1]), question))
"""


def asking(reports: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", ASK, str(reports)], stdout=subprocess.PIPE, text=True)


def test_several_at_once_get_the_same_answer(reports: Path) -> None:
    children = [asking(reports) for _ in range(4)]
    assert {child.communicate(timeout=60)[0] for child in children} == {"3 30\n"}
    assert same(reports)


def test_one_that_is_killed_while_it_writes_leaves_an_index_that_answers_right(tmp_path: Path) -> None:
    for day in range(1, 9):
        write_dated(tmp_path, day, green_records())
    for number in range(6):
        (tmp_path / INDEX_FILE).unlink(missing_ok=True)
        child = asking(tmp_path)
        deadline = time.monotonic() + 20
        while not (tmp_path / INDEX_FILE).exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(number * 0.004)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate(timeout=60)
        assert same(tmp_path)
    with sqlite3.connect(tmp_path / INDEX_FILE) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_links_in_a_run_that_lead_back_to_it_take_no_time(reports: Path) -> None:
    """Each of them would be followed in each other one, four times."""
    folder = reports / "2026-11-09T02-00-00Z-slow"
    (folder / "cells").mkdir(parents=True)
    (folder / "started.json").write_text("{}")
    for number in range(200):
        (folder / f"cells/link{number}").symlink_to(".")
    begun = time.process_time()
    assert folder.name in stamps_of(reports)
    assert changed_at(folder) > 0
    assert list(unfinished(folder)) == []
    assert time.process_time() - begun < 10
