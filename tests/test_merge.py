"""Runs merged into one: shards, repetitions, gaps, duplicates, hostile folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from bootmatrix.cell import borne_out
from bootmatrix.history.extract import results_of
from bootmatrix.model import AcceptanceRecord, Artefact, Cell, Part, Plan, Record, Run, RunRequest, Skip, Verdict
from bootmatrix.report import writer
from bootmatrix.report.view import FEW_CELLS
from bootmatrix.runs.run_store import RUN_FILE, STARTED_FILE, RunWriter, cell_folder, load_run, write_model
from bootmatrix.signoff.agreement import check_agreement
from bootmatrix.workspace.finished import RunOptions
from bootmatrix.workspace.merge import MergedRun, merge_runs, report_merged
from command_line import Tool, refused, tool
from samples import console_of, green_records, make_cell, make_record, mixed_records, write_run

__all__ = ["tool"]


def write_part(
    reports: Path, records: Iterable[Record], part: Part | None = None, cells: Iterable[Cell] = (), title: str = "all"
) -> Path:
    """A run of a part of a plan, with its consoles."""
    records = list(records)
    plan = Plan(
        cells=(*(one.cell for one in records if one.verdict is not Verdict.SKIP), *cells),
        skips=tuple(Skip(cell=one.cell, reason="no") for one in records if one.verdict is Verdict.SKIP),
        part=part,
    )
    words = f"{title} ({part.words})" if part else title
    writer = RunWriter.create(reports, words, order=RunRequest(plan=plan, inputs={"a.yml": "1"}))
    for record in records:
        folder = writer.folder(record.cell)
        if record.console:
            (folder / record.console).write_text(console_of(record), encoding="utf-8")
        writer.add(record)
    writer.finish()
    return writer.path


def shards(reports: Path, records: list[Record], count: int = 4) -> list[str]:
    whole = tuple(record.cell.id for record in records)
    parts = [
        Part(words=f"shard {n}/{count}", title="all", shard=f"{n}/{count}", whole=whole) for n in range(1, count + 1)
    ]
    return [str(write_part(reports, records[n::count], parts[n])) for n in range(count)]


def saved(tmp_path: Path, name: str = "joined") -> Run:
    return load_run(tmp_path / "reports" / name)


TIMES = ("name", "started_at", "ended_at", "wall_s")


def test_shards_merged_equal_the_whole_run_but_for_times(tool: Tool, tmp_path: Path) -> None:
    records = mixed_records()
    whole = load_run(write_part(tmp_path / "one", records))
    done = tool("merge", *shards(tmp_path / "parts", records), "-o", "reports/joined")
    assert (done.returncode, done.stderr) == (1, "")
    merged = saved(tmp_path)
    key = lambda record: record.cell.id
    assert sorted(merged.records, key=key) == sorted(whole.records, key=key)
    assert merged.order and whole.order
    assert {cell.id for cell in merged.order.plan.cells} == {cell.id for cell in whole.order.plan.cells}
    assert {skip.cell.id for skip in merged.order.plan.skips} == {skip.cell.id for skip in whole.order.plan.skips}
    same = {"records": (), "order": None} | dict.fromkeys(TIMES, "")
    assert merged.model_copy(update=same) == whole.model_copy(update=same)
    assert (tmp_path / "reports/latest").readlink() == Path("joined")
    for name in ("report.html", "junit.xml", "started.json"):
        assert (tmp_path / "reports/joined" / name).is_file()
    assert [run["name"] for run in json.loads(tool("runs", "--json").stdout)] == ["joined"]


def test_a_merged_run_can_be_signed_off_and_compared(tool: Tool, tmp_path: Path) -> None:
    records = green_records()
    before = write_part(tmp_path / "reports", [make_record(one.cell) for one in records], title="all")
    done = tool("merge", *shards(tmp_path / "parts", records), "-o", "reports/joined", "--fail-on", "regression")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"no regressions since {before.name}" in done.stdout
    done = tool("signoff", "joined", "--release", "r1", "--no-pdf")
    assert done.returncode == 0, done.stderr
    assert tool("signoff", "verify", "joined").returncode == 0


def test_gaps_are_said_and_are_no_success(tool: Tool, tmp_path: Path) -> None:
    parts = shards(tmp_path / "parts", green_records())
    done = tool("merge", *parts[:2], parts[3], "-o", "reports/joined")
    assert done.returncode == 3
    assert "shard 3/4 is missing" in done.stderr
    lacking = [record.cell.id for record in green_records()[2::4]]
    for name in lacking:
        assert f"{name}: no run has a result of it" in done.stderr
    assert set(saved(tmp_path).missing) == set(lacking)
    assert (tmp_path / "reports/joined/junit.xml").read_text().count("<error") == len(lacking)


def test_shards_of_different_plans_are_said(tool: Tool, tmp_path: Path) -> None:
    parts = shards(tmp_path / "a", green_records(), 2)[:1] + shards(tmp_path / "b", green_records()[:4], 2)[1:]
    done = tool("merge", *parts, "-o", "reports/joined")
    assert done.returncode == 3 and "the shards are of different plans" in done.stderr


def test_a_merged_run_without_a_shard_cannot_be_finished_into_a_whole(tool: Tool, tmp_path: Path) -> None:
    parts = shards(tmp_path / "parts", green_records())
    tool("merge", *parts[:3], "-o", "reports/joined")
    name = green_records()[3].cell.id
    refused(tool("matrix", "--resume", "joined"), f"belong to runs that are not merged into it: {name}")
    assert name in saved(tmp_path).missing


ONLY = Part(words="only x/*", title="all")


@pytest.mark.parametrize(
    ("parts", "title"),
    [
        ((ONLY,), "all (only x/*)"),
        ((ONLY, Part(words="only y/*", title="all")), "all (only x/*; only y/*)"),
        ((ONLY, None), "all"),
        ((ONLY, Part(words="shard 1/1", title="all", shard="1/1")), "all"),
        ((Part(words="only x/*, shard 1/1", title="all", shard="1/1"),), "all (only x/*)"),
    ],
)
def test_merged_parts_are_a_part(tool: Tool, tmp_path: Path, parts: tuple[Part | None, ...], title: str) -> None:
    records = green_records()[: len(parts)]
    names = [str(write_part(tmp_path / "parts", [record], part)) for record, part in zip(records, parts, strict=True)]
    done = tool("merge", *names, "-o", "reports/joined")
    assert (done.returncode, saved(tmp_path).title) == (0, title)
    assert ("a part: only x/*" in done.stdout) is ("only" in title)


def test_a_part_says_so_in_all_forms_that_have_a_headline(tool: Tool, tmp_path: Path) -> None:
    name = str(write_part(tmp_path / "reports", green_records(), ONLY))
    for form in ("md", "github", "tap", "tiers", "html", "badge"):
        assert "a part" in tool("report", name, "--format", form).stdout, form
    refused(tool("signoff", name, "--release", "r1", "--no-pdf"), "a part: only x/*")


def one(tmp_path: Path, name: str, verdict: Verdict, started: str, **more: object) -> str:
    record = make_record(make_cell("x86_64"), verdict, f"it was {verdict}")
    record = record.model_copy(update={"started_at": started, **more})
    return str(write_part(tmp_path / name, [record]))


EARLY, LATE = "2026-11-24T01:00:00+00:00", "2026-11-24T02:00:00+00:00"


def merged_verdict(tool: Tool, tmp_path: Path, *parts: str) -> tuple[Verdict, int, str]:
    done = tool("merge", *parts, "-o", "reports/joined")
    (record,) = saved(tmp_path).records
    return record.verdict, done.returncode, done.stderr


def test_a_pass_after_a_failure_with_the_same_inputs_is_flaky(tool: Tool, tmp_path: Path) -> None:
    parts = one(tmp_path, "a", Verdict.FAIL, EARLY), one(tmp_path, "b", Verdict.PASS, LATE)
    verdict, status, notes = merged_verdict(tool, tmp_path, *parts)
    assert (verdict, status) == (Verdict.FLAKY, 1)
    assert "influxdb/x86_64/6.1: passed and failed with the same inputs: flaky" in notes
    (record,) = saved(tmp_path).records
    assert [each.judgement.verdict for each in record.attempt_records] == [Verdict.FAIL, Verdict.PASS]
    folder = tmp_path / "reports/joined/cells/influxdb/x86_64/pc/6.1"
    assert sorted(path.name for path in folder.glob("*.log")) == ["console-1.log", "console-2.log"]
    assert record.console == "console-1.log"
    assert load_run(folder.parents[4]).records == saved(tmp_path).records
    check_agreement(folder.parents[4], saved(tmp_path))


def test_a_note_names_some_of_many_runs(tool: Tool, tmp_path: Path) -> None:
    parts = [one(tmp_path, name, Verdict.PASS, EARLY) for name in "abcdef"]
    verdict, status, notes = merged_verdict(tool, tmp_path, *parts)
    assert (verdict, status) == (Verdict.PASS, 0)
    assert "6 results, the one of" in notes and notes.count("pass in") == 4 and "and 2 more)" in notes


def test_a_pass_with_other_inputs_replaces_a_failure(tool: Tool, tmp_path: Path) -> None:
    parts = one(tmp_path, "a", Verdict.FAIL, EARLY), one(tmp_path, "b", Verdict.PASS, LATE, spec_sha256="a" * 64)
    verdict, status, notes = merged_verdict(tool, tmp_path, *parts)
    assert (verdict, status) == (Verdict.PASS, 0)
    assert "2 results, the one of" in notes and "fail in" in notes


@pytest.mark.parametrize("order", [0, 1])
def test_a_verdict_on_the_guest_outranks_our_faults(tool: Tool, tmp_path: Path, order: int) -> None:
    times = (EARLY, LATE) if order else (LATE, EARLY)
    parts = one(tmp_path, "a", Verdict.INFRA_ERROR, times[0]), one(tmp_path, "b", Verdict.PASS, times[1])
    verdict, status, notes = merged_verdict(tool, tmp_path, *parts)
    assert (verdict, status) == (Verdict.PASS, 0)
    assert "infra-error in" in notes


def test_a_result_replaces_a_skip_without_a_word(tool: Tool, tmp_path: Path) -> None:
    parts = one(tmp_path, "a", Verdict.SKIP, LATE), one(tmp_path, "b", Verdict.PASS, EARLY)
    assert merged_verdict(tool, tmp_path, *parts) == (Verdict.PASS, 0, "")
    run = saved(tmp_path)
    assert run.order and not run.order.plan.skips and len(run.order.plan.cells) == 1


def test_an_acceptance_counts_for_the_cells_of_its_own_run(tool: Tool, tmp_path: Path) -> None:
    """Another run's is for another matrix, or for another day."""
    records = [make_record(make_cell(arch), Verdict.FAIL, "it broke") for arch in ("x86_64", "aarch64")]
    parts = [write_part(tmp_path / name, [record]) for name, record in zip("ab", records, strict=True)]
    entry = AcceptanceRecord(cell="*", reason="fixed soon", by="Ann", at="", until="2026-11-09")
    write_model(parts[0] / RUN_FILE, load_run(parts[0]).model_copy(update={"accepted": (entry,)}))
    assert tool("merge", *map(str, parts), "-o", "reports/joined").returncode == 1
    joined = saved(tmp_path)
    assert [one.cell for one in joined.accepted] == [records[0].cell.id]
    assert results_of(joined, "joined").line.accepted == 1


def test_runs_of_two_versions_name_both(tool: Tool, tmp_path: Path) -> None:
    records = [make_record(make_cell(arch)) for arch in ("x86_64", "aarch64")]
    parts = [write_part(tmp_path / name, [record]) for name, record in zip("ab", records, strict=True)]
    run = load_run(parts[0])
    for file in (RUN_FILE, STARTED_FILE):
        write_model(parts[0] / file, run.model_copy(update={"tool_version": "0.1"}))
    assert "different versions of bootmatrix" in tool("merge", *map(str, parts), "-o", "reports/joined").stderr
    assert saved(tmp_path).tool_version == f"0.1 + {run.tool_version}"


def test_an_input_that_changed_between_shards_is_said(tool: Tool, tmp_path: Path) -> None:
    """Others, such as the files of one architecture, are not compared."""
    inputs = ({"images/a/build.yml": "1", "images/a/amd64": "2"}, {"images/a/build.yml": "3", "images/a/arm64": "4"})
    parts = [write_part(tmp_path / name, [make_record(make_cell(name))]) for name in ("x86_64", "aarch64")]
    for part, changed in zip(parts, inputs, strict=True):
        run = load_run(part)
        assert run.order
        order = run.order.model_copy(update={"inputs": changed})
        write_model(part / RUN_FILE, run.model_copy(update={"order": order}))
    done = tool("merge", *map(str, parts), "-o", "reports/joined")
    assert done.stderr == "note: images/a/build.yml: changed between the runs\n"


def test_a_merged_run_of_two_products_says_so(tool: Tool, tmp_path: Path) -> None:
    records = [make_record(make_cell("x86_64", kernel)) for kernel in ("6.1", "7.2")]
    for number, record in enumerate(records):
        image = Artefact(kind="image", name="shop", path="/shop", sha256=f"{number}" * 64, size_bytes=1)
        records[number] = record.model_copy(update={"artefacts": (image,)})
    parts = [str(write_part(tmp_path / name, [record])) for name, record in zip("ab", records, strict=True)]
    merged = tool("merge", *parts, "-o", "reports/x")
    assert "shop: 000000000000 and 111111111111: different products" in merged.stderr
    for form in ("md", "github", "html"):
        assert "; cells of one spec tested different products" in tool("report", "reports/x", "--format", form).stdout


def test_the_files_of_the_parts_stay_as_they_are(tool: Tool, tmp_path: Path) -> None:
    parts = shards(tmp_path / "parts", mixed_records(), 2)
    before = {path: path.read_bytes() for path in sorted((tmp_path / "parts").rglob("*")) if path.is_file()}
    assert tool("merge", *parts, "-o", "reports/joined").returncode == 1
    assert tool("report", "joined").returncode == 0
    assert {path: path.read_bytes() for path in before} == before


def test_bad_input_is_refused_and_leaves_nothing(tool: Tool, tmp_path: Path) -> None:
    _, folder = write_run(tmp_path / "a", green_records())
    refused(tool("merge", str(folder), str(folder), "-o", "reports/x"), "the same run twice")
    refused(tool("merge", "nothing", "-o", "reports/x"), "no such run")
    (tmp_path / "there").mkdir()
    refused(tool("merge", str(folder), "-o", "there"), "already exists")
    (tmp_path / "releases/v1").mkdir(parents=True)
    (tmp_path / "releases/latest").symlink_to("v1")
    refused(tool("merge", str(folder), "-o", "releases/x", "--reports", "releases"), "is not a link to the newest run")
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["latest", "v1"]
    (folder / "run.json").write_text('{"format": 2, "records": [\n{}\n]}\n')
    refused(tool("merge", str(folder), "-o", "reports/x"), "damaged")
    assert not (tmp_path / "reports").exists() or not list((tmp_path / "reports").iterdir())


def test_links_in_a_run_are_not_followed(tool: Tool, tmp_path: Path) -> None:
    _, folder = write_run(tmp_path / "a", green_records())
    secret = tmp_path / "secret"
    secret.write_text("secret")
    cell = next((folder / "cells").glob("*/*/*/*"))
    (cell / "more.log").symlink_to(secret)
    assert tool("merge", str(folder), "-o", "reports/joined").returncode == 0
    assert not (tmp_path / "reports/joined" / cell.relative_to(folder) / "more.log").exists()
    (cell / "console.log").unlink()
    (cell / "console.log").symlink_to(secret)
    refused(tool("merge", str(folder), "-o", "reports/more"), "is a link")
    cell.rename(cell.with_name("moved"))
    cell.symlink_to(tmp_path)
    refused(tool("merge", str(folder), "-o", "reports/more"), "found a link")


def test_a_run_with_folders_without_end_is_refused(tool: Tool, tmp_path: Path) -> None:
    _, folder = write_run(tmp_path / "a", green_records())
    next((folder / "cells").glob("*/*/*/*")).joinpath(*"d" * 40).mkdir(parents=True)
    for words in (
        ("merge", str(folder), "-o", "reports/x"),
        ("report", str(folder)),
        ("matrix", "--resume", str(folder)),
    ):
        refused(tool(*words), "a folder in more than 32 others")


def test_pages_that_came_with_a_run_are_not_in_the_merged_one(tool: Tool, tmp_path: Path) -> None:
    """A merged run may be published, and a run of more than 200 cells keeps the pages of plain passes."""
    records = [make_record(make_cell("x86_64", kernel=f"6.{number}")) for number in range(FEW_CELLS + 1)]
    part = write_part(tmp_path / "parts", records)
    cell = cell_folder(part, records[0].cell)
    (cell / "files").mkdir()
    for name in ("cell.html", "other.HTML", "files/a.svg", "files/b.xml", "files/c", "files/kept.txt"):
        (cell / name).write_text("<script>alert(1)</script>")
    assert tool("merge", str(part), "-o", "reports/joined").returncode == 0
    joined = cell_folder(tmp_path / "reports" / "joined", records[0].cell)
    names = {str(path.relative_to(joined)) for path in joined.rglob("*") if path.is_file()}
    assert names == {"record.json", "console.log", "cell.html", "files/kept.txt"}
    assert "alert(1)" not in (joined / "cell.html").read_text()


def test_plain_passes_of_a_large_merged_run_have_their_console_for_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MANY_PAGES", FEW_CELLS)
    cells = [make_cell("x86_64", kernel=f"6.{number}") for number in range(FEW_CELLS + 1)]
    records = [make_record(cells[0], Verdict.FAIL, "it broke"), *map(make_record, cells[1:])]
    part = write_part(tmp_path / "parts", records)
    folder = merge_runs([part], tmp_path / "joined").folder
    report_merged(MergedRun(folder, load_run(folder), ()), RunOptions())
    page = (folder / "report.html").read_text()
    for cell, name in ((cells[0], "cell.html"), (cells[1], "console.log")):
        linked = cell_folder(folder, cell) / name
        assert linked.is_file()
        assert f'href="{linked.relative_to(folder)}"' in page
    assert len(list(folder.rglob("cell.html"))) == 1


def test_a_folder_means_the_runs_in_it(tool: Tool, tmp_path: Path) -> None:
    shards(tmp_path / "parts", green_records())
    assert tool("merge", "parts", "-o", "reports/joined").returncode == 0
    assert len(saved(tmp_path).records) == len(green_records())
    (tmp_path / "reports/joined").rename(tmp_path / "elsewhere")
    assert tool("merge", "parts").returncode == 0
    assert any(path.name.endswith("-all-merged") for path in (tmp_path / "reports").iterdir())


def test_runs_of_many_cells_are_checked_in_processes_and_a_fault_is_told_as_ever(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(borne_out, "MANY_CELLS", 2)
    monkeypatch.setattr("threading.active_count", lambda: 1)  # xdist has threads of its own
    parts = shards(tmp_path / "parts", green_records(), 2)
    assert tool("merge", *parts, "-o", "reports/joined").returncode == 0
    file = Path(parts[1]) / "run.json"
    file.write_text(file.read_text().replace('"words":["check","exit","0"]', '"words":["check","exit","1"]', 1))
    (record, *_) = load_run(Path(parts[1])).records
    assert record.verdict is Verdict.PASS, "its evidence says otherwise"
    refused(tool("merge", *parts, "-o", "reports/again"), "it says pass, and its evidence fail")
    assert not (tmp_path / "reports/again").exists()
