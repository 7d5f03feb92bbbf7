"""Nothing tested is not success: every command says so, with exit status 2, unless it is told that this is meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bootmatrix.cli.exits import BAD_INPUT, EXPECTED, INTERRUPTED, NOT_EXPECTED, OUR_FAULT, exit_status
from bootmatrix.cli.main import main
from bootmatrix.history.values import NO_PAST
from bootmatrix.model import Plan, Record, Run, RunRequest, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import render
from bootmatrix.report.headline import clauses
from bootmatrix.report.history_text import FAULTS
from bootmatrix.runs.run_store import RunWriter, load_run
from samples import STARTED, make_cell, make_record, write_dated, write_run
from stage import set_up

INIT = 'init: ["@pkg:./images/init", "@pkg:./images/crun"]\n'
CONTAINER = 'onboot: [{name: a, image: "@pkg:./images/busybox"'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Specs and matrices that come to nothing."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "empty.yml": INIT,
        "good.yml": f"{INIT}{CONTAINER}}}]\n",
        "elsewhere.yml": f"{INIT}{CONTAINER}, annotations: {{bootmatrix.arch: s390x}}}}]\n",
        "zero.matrix.yml": "specs: [good.yml]\narch: [x86_64]\nkernel: ['6.1']\n"
        "exclude: [{arch: x86_64, reason: all of it}]\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("command", ["matrix", "plan", "fetch", "lock"])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("zero.matrix.yml",), "no cell is left to run, 1 are skipped:\n  good/x86_64/6.1: all of it"),
        (("elsewhere.yml", "--arch", "x86_64,armv7"), "a of this spec is for s390x only"),
        (("empty.yml", "--arch", "x86_64"), "empty.yml: nothing would be tested: it has no container"),
        (("good.yml", "empty.yml", "--arch", "x86_64"), "empty.yml: nothing would be tested: it has no container"),
    ],
)
def test_nothing_to_test_is_bad_input(
    command: str, files: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *files]) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert not list(Path().glob("reports/*"))


def test_a_single_spec_without_a_container_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "empty.yml", "--arch", "x86_64"]) == BAD_INPUT
    assert "empty.yml: nothing would be tested" in capsys.readouterr().err
    assert main(["run", "elsewhere.yml", "--arch", "x86_64"]) == BAD_INPUT
    assert main(["bisect", "empty.yml", "--arch", "x86_64", "--good", "6.1", "--bad", "6.12"]) == BAD_INPUT
    assert "empty.yml: nothing would be tested" in capsys.readouterr().err


def test_a_guest_that_skips_its_tests_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    stage = set_up(tmp_path / "stage", ("tests_skip",))
    for command in (("matrix", stage.matrix("tests_skip")), ("run", "fake.yml", "--arch", "fake/tests_skip")):
        done = stage.run(*command)
        assert (done.returncode, "skip" in done.stdout) == (BAD_INPUT, True), done.stdout + done.stderr


def test_it_can_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "zero.matrix.yml", "--allow-empty"]) == EXPECTED
    assert main(["matrix", "zero.matrix.yml", "--allow-empty"]) == EXPECTED
    assert "No cell was tested" in capsys.readouterr().out
    run = load_run(Path("reports/latest").resolve())
    assert run.is_good
    assert b"<error" not in render("junit", ReportContext(run, lambda _: b""))


def made(*records: Record, missing: int = 0, interrupted: bool = False, allow_empty: bool = False) -> Run:
    """A run of these records, whose plan had more cells."""
    lacking = [make_cell("armv7", "5.10", spec=f"lacking{number}") for number in range(missing)]
    cells = [record.cell for record in records if record.verdict is not Verdict.SKIP]
    return Run(
        name="run",
        title="t",
        tool_version="1",
        started_at=STARTED,
        ended_at=STARTED,
        interrupted=interrupted,
        records=records,
        order=RunRequest(plan=Plan(cells=(*cells, *lacking)), allow_empty=allow_empty),
    )


def test_the_exit_status_of_a_run_that_tested_nothing() -> None:
    passed, skipped = make_record(make_cell("x86_64")), make_record(make_cell("armv7"), Verdict.SKIP)
    failed = make_record(make_cell("ppc64le"), Verdict.FAIL)
    assert exit_status(made(passed, skipped)) == EXPECTED
    assert exit_status(made(skipped)) == exit_status(made()) == BAD_INPUT
    assert exit_status(made(skipped, allow_empty=True)) == EXPECTED
    assert exit_status(made(passed, missing=1)) == OUR_FAULT, "a record is missing, and nobody interrupted the run"
    assert exit_status(made(passed, missing=1, allow_empty=True)) == OUR_FAULT
    assert exit_status(made(failed, missing=1)) == NOT_EXPECTED
    assert exit_status(made(passed, missing=1, interrupted=True)) == INTERRUPTED


def test_cells_that_never_began_are_missing_too(tmp_path: Path) -> None:
    """Also in a run that was killed, which knows those that had begun by their folders."""
    cells = [make_cell("x86_64"), make_cell("armv7"), make_cell("aarch64", "7.2")]
    writer = RunWriter.create(tmp_path / "reports", "t", order=RunRequest(plan=Plan(cells=tuple(cells))))
    writer.folder(cells[0])
    writer.add(make_record(cells[0]))
    writer.folder(cells[1])
    killed = load_run(writer.path)
    assert killed.unfinished == ("influxdb/armv7/virt/6.1",)
    ended = writer.finish(interrupted=True)
    assert killed.missing == ended.missing == ("influxdb/armv7/6.1", "influxdb/aarch64/7.2")
    for run in (killed, ended):
        text = render("junit", ReportContext(run, lambda _: b"")).decode()
        assert text.count("<error") == 2
        assert 'name="influxdb/aarch64/7.2"' in text


def test_a_comparison_of_nothing_shows_no_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = tmp_path / "reports"
    passed, skipped = make_record(make_cell("x86_64")), make_record(make_cell("x86_64"), Verdict.SKIP)
    before = write_dated(reports, 1, [passed])
    now = write_dated(reports, 2, [skipped])
    stopped = write_dated(reports, 3, [passed], interrupted=True)
    for command in (["compare", now, before], ["report", now, "--baseline", before, "--format", "csv"]):
        given = [*command, "--reports", str(reports), "--fail-on", "regression"]
        assert main(given) == BAD_INPUT
    assert main(["compare", now, before, "--reports", str(reports), "--fail-on", "regression", "--allow-empty"]) == 0
    assert main(["compare", stopped, before, "--reports", str(reports), "--fail-on", "regression"]) == INTERRUPTED
    capsys.readouterr()


def test_a_night_that_came_to_no_cell_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run without a tested cell does not say that it has no regressions."""
    reports, passed = tmp_path / "reports", make_record(make_cell("x86_64"))
    before = write_dated(reports, 1, [passed])
    killed = write_dated(reports, 2, [], interrupted=True)
    faulty = write_dated(reports, 3, [make_record(passed.cell, Verdict.INFRA_ERROR)])
    for name, words in ((killed, "othing was tested yet"), (faulty, "othing was tested")):
        main(["compare", name, before, "--reports", str(reports)])
        said = capsys.readouterr().out
        assert said.startswith(f"n{words} to compare with {before}: 1 no")
        assert "regression" not in said
        main(["report", name, "--baseline", before, "--format", "md", "--reports", str(reports)])
        assert f"**N{words}** to compare with `{before}`: 1 no" in capsys.readouterr().out

    assert clauses(made(missing=1, interrupted=True), NO_PAST)[0] == "No cell was tested"


def test_cells_without_a_verdict_are_counted_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of them it is not known that they are not as expected."""
    ours = [make_record(make_cell(arch), Verdict.INFRA_ERROR) for arch in ("armv7", "aarch64")]
    passed, failed = make_record(make_cell("x86_64")), make_record(make_cell("ppc64le"), Verdict.FAIL)
    write_dated(tmp_path, 1, ours)
    write_dated(tmp_path, 2, [*ours, passed])
    write_dated(tmp_path, 3, [*ours, passed, failed])
    main(["runs", "--reports", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()[1:]
    expected = (
        "1 of 2 not as expected, 2 without a verdict",
        "1 as expected, 2 without a verdict",
        "2 without a verdict",
    )
    assert [re.split("  +", line)[3] for line in lines] == list(expected)


def test_faults_are_the_verdicts_that_the_tested_programs_did_not_cause() -> None:
    assert {*FAULTS, Verdict.SKIP} == {verdict for verdict in Verdict if not verdict.is_tested} - {Verdict.USER_PASS}


def test_judging_again_what_was_never_booted_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = write_run(tmp_path / "reports", [make_record(make_cell("x86_64"), Verdict.SKIP)])
    assert main(["judge", str(folder)]) == BAD_INPUT
    assert "there is nothing to judge" in capsys.readouterr().err


def test_a_run_that_tested_nothing_is_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`latest` is the newest run that tested something: beside an empty one, each failure would be known or new."""
    reports = tmp_path / "reports"
    before = write_dated(reports, 1, [make_record(make_cell("x86_64"))])
    write_dated(reports, 2, [make_record(make_cell("x86_64"), Verdict.SKIP)])
    now = write_dated(reports, 3, [make_record(make_cell("x86_64"), Verdict.FAIL)])
    assert main(["compare", now, "latest", "--reports", str(reports), "--fail-on", "regression"]) == NOT_EXPECTED
    assert before in capsys.readouterr().out
