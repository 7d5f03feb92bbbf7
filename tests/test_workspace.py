"""The Python API: plans, runs and saved runs, from a script's point of view and from another process."""

from __future__ import annotations

import doctest
import os
import pickle
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import bootmatrix
from bootmatrix.cell.context import open_context
from bootmatrix.cell.run import run_cell
from bootmatrix.errors import InputError
from bootmatrix.execute.executor import Executor
from bootmatrix.execute.local import LocalExecutor
from bootmatrix.model import Cell
from bootmatrix.model.run_config import CellBundle, RunConfig, request_of
from bootmatrix.progress import NullObserver
from bootmatrix.workspace import workspace as workspace_module
from bootmatrix.workspace.run import begin

ELSEWHERE = """
import pickle, sys
from pathlib import Path
import test_workspace
config, cell = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps(test_workspace.run_here(config, cell, Path(sys.argv[1]))))
"""


def run_here(config: RunConfig, cell: Cell, folder: Path) -> CellBundle:
    """Run one cell of a configuration, as a worker on another machine does."""
    with open_context(config, NullObserver()) as context:
        record = anyio.run(run_cell, cell, context, folder)
        return CellBundle(record, folder, context.builder.archive.resolved())


@pytest.fixture
def workspace(tmp_path: Path) -> bootmatrix.Workspace:
    return bootmatrix.Workspace(reports=tmp_path / "reports")


@pytest.mark.parametrize("module", [bootmatrix, workspace_module])
def test_doctests(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert not result.failed


def test_the_model_changes_nothing_of_the_process() -> None:
    code = (
        "import gc, os; before = dict(os.environ), gc.isenabled(), gc.get_threshold(); "
        "import bootmatrix.load, bootmatrix.model, bootmatrix.workspace.workspace; "
        "bootmatrix.model.PhaseTime(name='boot', seconds=1); bootmatrix.Workspace(); "
        "assert (dict(os.environ), gc.isenabled(), gc.get_threshold()) == before"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYDANTIC_DISABLE_PLUGINS"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_importing_loads_nothing_and_changes_nothing() -> None:
    code = (
        "import os, sys; before = dict(os.environ); import bootmatrix; assert dict(os.environ) == before; "
        "print(*(name for name in sys.modules if name.startswith(('bootmatrix.', 'pydantic', 'anyio'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_all_public_names_are_there() -> None:
    for name in bootmatrix.__all__:
        assert getattr(bootmatrix, name)
    assert set(bootmatrix.__all__) <= set(dir(bootmatrix))
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        bootmatrix.nothing_of_ours  # noqa: B018


def test_a_plan_is_picklable(workspace: bootmatrix.Workspace) -> None:
    planned = workspace.plan("hello", arch=["all"], kernel=["6.1"])
    copy = pickle.loads(pickle.dumps(planned))
    assert copy == planned
    assert pickle.loads(pickle.dumps(workspace)) == workspace
    assert len(copy.cells) > 3


def test_a_plan_and_a_record_print_in_one_line(workspace: bootmatrix.Workspace) -> None:
    planned = workspace.plan("hello", arch=["x86_64"], kernel=["6.1", "7.2"])
    assert repr(planned) == str(planned) == "<PlannedRun hello: 2 cells, 0 skipped>"
    record = bootmatrix.Record(
        cell=planned.cells[0],
        judgement=bootmatrix.Judgement(verdict=bootmatrix.Verdict.HANG, reason="silent"),
        expected=False,
        started_at="2026-01-01T00:00:00+00:00",
        wall_s=61.25,
    )
    assert repr(record) == str(record) == "<Record hello/x86_64/6.1: hang in 61.2 s>"


def test_bad_input_is_an_input_error(workspace: bootmatrix.Workspace) -> None:
    with pytest.raises(InputError, match="nowhere"):
        workspace.plan("nowhere.yml")
    with pytest.raises(InputError, match="x68_64"):
        workspace.plan("hello", arch=["x68_64"])
    with pytest.raises(InputError, match="expected one cell"):
        workspace.plan_single("hello", "x86_64/all", "6.1")
    with pytest.raises(InputError, match="no such run"):
        bootmatrix.Run.load("nothing", reports=workspace.reports_folder)


def test_the_local_executor_fits_the_protocol() -> None:
    executor: type[Executor] = LocalExecutor
    assert executor


@pytest.mark.boots
async def test_records_come_one_by_one(workspace: bootmatrix.Workspace) -> None:
    planned = workspace.plan("hello", arch=["x86_64", "aarch64"], kernel=["6.1"])
    ids = {record.cell.id: record.verdict async for record in workspace.run(planned)}
    assert ids == dict.fromkeys(("hello/x86_64/6.1", "hello/aarch64/6.1"), bootmatrix.Verdict.PASS)
    run = bootmatrix.Run.load("latest", reports=workspace.reports_folder)
    assert run.is_good
    assert [judgement.verdict for _, judgement in run.rejudge()] == [bootmatrix.Verdict.PASS] * 2
    assert b"Linux version" in run.console(run.records[0])
    comparison = run.compare(run)
    assert comparison
    assert not comparison.regressions


@pytest.mark.boots
async def test_an_iterator_that_is_closed_ends_all_guests_and_keeps_the_run(workspace: bootmatrix.Workspace) -> None:
    planned = workspace.plan("hello", arch=["x86_64", "aarch64", "armv7"], kernel=["6.1"])
    records = workspace.run(planned, bootmatrix.RunOptions(jobs=1))
    async for _ in records:
        break
    await records.aclose()  # type: ignore[attr-defined]
    run = bootmatrix.Run.load("latest", reports=workspace.reports_folder)
    assert run.run.interrupted
    assert 1 <= len(run.records) < 3
    resumed = workspace.resume(run.folder)
    assert len(resumed.missing.cells) == 3 - len(run.records)


@pytest.mark.boots
def test_a_cell_runs_in_another_process(workspace: bootmatrix.Workspace, tmp_path: Path) -> None:
    """Nothing is shared but the cache: the configuration goes there, and a bundle comes back."""
    planned = workspace.plan_single("hello", "x86_64", "6.1")
    (cell,) = planned.cells
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder)],
        input=pickle.dumps((planned.config, cell)),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr.decode()
    bundle: CellBundle = pickle.loads(done.stdout)
    writer = begin(planned, "", bootmatrix.RunOptions())
    writer.adopt(bundle.record, bundle.folder)
    run = writer.finish()
    assert run.records[0].verdict is bootmatrix.Verdict.PASS
    kept = bootmatrix.Run.load("latest", reports=workspace.reports_folder)
    assert b"Linux version" in kept.console(kept.records[0])
    assert request_of(cell, planned.config.machine(cell)).needs.memory_mib > 0


def test_a_matrix_is_titled_with_its_version(tmp_path: Path) -> None:
    (tmp_path / "tool-1.0.matrix.yml").write_text('specs: [hello]\narch: [x86_64]\nkernel: ["6.1"]\n')
    assert bootmatrix.Workspace().plan(str(tmp_path / "tool-1.0.matrix.yml")).title == "tool-1.0"
