"""Cells that a marker of pytest names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bootmatrix.errors import BootmatrixError, InfraError
from bootmatrix.model import Verdict
from bootmatrix.model.spec import CHECK
from bootmatrix.workspace.saved_run import SavedRun
from bootmatrix.workspace.selection import Selection
from bootmatrix.workspace.workspace import Workspace

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet


NO_CELL = pytest.param(None, id="none", marks=pytest.mark.skip(reason="no cell of its marker is selected"))
"""For a test without cells: pytest's own form of such a test has no place for a report."""


@dataclass(frozen=True)
class TestCell:
    """A cell under test; `at` is the service in whose root commands run.

    Times that tests give are multiplied by `time_factor`.
    """

    __test__ = False

    id: str
    spec: str
    arch: str
    kernel: str
    at: str
    time_factor: float

    def __str__(self) -> str:
        return self.id


def parameters(config: pytest.Config, file: Path, marker: pytest.Mark) -> list[ParameterSet]:
    """Return a marker's cells as parameters; skips and xfails are marked.

    Raises pytest.UsageError for an unknown spec, architecture or kernel.
    """
    unknown = set(marker.kwargs) - {"spec", "arch", "kernel", "at"}
    if unknown or marker.args or "spec" not in marker.kwargs:
        raise pytest.UsageError(f"{file}: the marker 'bootmatrix' takes spec, arch, kernel and at, by name")
    values = {name: _words(config.getoption(f"--bootmatrix-{name}")) for name in ("arch", "kernel")}
    wanted = {name: _list(marker.kwargs.get(name, ())) for name in values}
    spec = _spec(str(marker.kwargs["spec"]), file.parent)
    try:
        chosen = _known(spec, values["arch"], values["kernel"])
        return _cells(config, spec, wanted, chosen, str(marker.kwargs.get("at", ""))) or [NO_CELL]
    except BootmatrixError as error:
        raise pytest.UsageError(f"{file}: {error}") from error


def _spec(name: str, folder: Path) -> str:
    """Return the path of a spec beside the test file, or its name."""
    path = folder / name
    return str(path) if path.is_file() else name


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _list(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@cache
def _workspace(reports: str = "") -> Workspace:
    return Workspace(reports=Path(reports) if reports else None)


@cache
def _known(spec: str, arch: tuple[str, ...], kernel: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the names that the options select, as cells have them.

    Raises BootmatrixError if one is unknown, and would leave out all tests without a word.
    """
    if arch or kernel:
        _workspace().plan(spec, selection=Selection(arch=arch, kernel=kernel, allow_empty=True))
    profiles = _workspace().profiles().values() if arch else ()
    names = {alias: profile.name for profile in profiles for alias in profile.aliases}
    words = [re.fullmatch("([^/@]*)(.*)", word, re.DOTALL) for word in arch]
    return {"arch": tuple(f"{names.get(word[1], word[1])}{word[2]}" for word in words if word), "kernel": kernel}


def _cells(
    config: pytest.Config, spec: str, wanted: dict[str, tuple[str, ...]], options: dict[str, tuple[str, ...]], at: str
) -> list[ParameterSet]:
    planned = _workspace().plan(
        spec, selection=Selection(arch=wanted["arch"], kernel=wanted["kernel"], allow_empty=True)
    )
    profiles = planned.config.profiles
    made = []
    for cell, reason in [(cell, "") for cell in planned.cells] + [(skip.cell, skip.reason) for skip in planned.skips]:
        if _left_out(cell.arch, cell.target, options["arch"]) or _left_out(cell.kernel, cell.kernel, options["kernel"]):
            continue
        services = planned.config.specs[cell.spec].services if cell.spec in planned.config.specs else ()
        checks = [container.name for container in services if CHECK in (container.annotations or {})]
        place = at or next(iter(checks or [container.name for container in services]), "")
        factor = profiles[cell.arch].machine(cell.machine).time_factor
        value = TestCell(cell.id, cell.spec, f"{cell.arch}/{cell.machine}", cell.kernel, place, factor)
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        marks += [pytest.mark.xfail(reason=cell.expect)] if cell.expect else []
        if config.pluginmanager.hasplugin("xdist"):  # with --dist loadgroup a guest has one worker
            marks.append(pytest.mark.xdist_group(name=cell.id))
        made.append(pytest.param(value, id=cell.id, marks=marks))
    return made


def _left_out(name: str, whole: str, chosen: Sequence[str]) -> bool:
    return bool(chosen) and name not in chosen and whole not in chosen


def run_cell(cell: TestCell, config: pytest.Config) -> SavedRun:
    """Boot and judge a cell as a run of its own; skip the test if it is a skip.

    Raises InfraError if it has no verdict on the guest, for a fault of ours.
    """
    workspace = _workspace(config.getoption("--bootmatrix-reports"))
    run = workspace.run_sync(workspace.plan_single(cell.spec, cell.arch, cell.kernel))
    record = run.records[0]
    words = f"{cell.id}: {record.verdict}: {record.judgement.reason}"
    if record.verdict is Verdict.SKIP:
        pytest.skip(words)
    if not record.verdict.is_guests:
        raise InfraError(words, record.judgement.advice)
    return run
