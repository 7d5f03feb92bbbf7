"""Cells worth most within a time: new, failed, flapping, changed, old."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from bootmatrix import __version__
from bootmatrix.boot.acceleration import accelerated
from bootmatrix.history.extract import settings_of
from bootmatrix.history.index import ask
from bootmatrix.history.queries import Rows
from bootmatrix.history.trend import history_of
from bootmatrix.history.values import CellKey, Input, PastVerdict, Standing
from bootmatrix.load.merge import load_spec
from bootmatrix.model import Cell, Plan, Profile, Skip
from bootmatrix.model.durations import duration_s
from bootmatrix.qemu.host import available_cores
from bootmatrix.report.units import moment

LATELY = 3
"""Last verdicts that count as lately."""
COMPARED = frozenset({"spec", "profile", "QEMU arguments", "bootmatrix"})
"""Kinds of input that are known before anything is fetched."""


class Worth(IntEnum):
    """Reason to run a cell, most urgent first."""

    NEW = 0
    FAILED_LATELY = 1
    FLAKY = 2
    CHANGED_INPUTS = 3
    USUAL = 4

    @property
    def words(self) -> str:
        """The reason for people."""
        return {0: "new", 1: "failed lately", 2: "flapping", 3: "changed inputs", 4: "passed"}[self.value]


@dataclass(frozen=True)
class CellPast:
    """A cell's last verdicts, oldest first, and the inputs of the last one."""

    past: Sequence[PastVerdict] = ()
    inputs: Sequence[Input] = ()


@dataclass(frozen=True)
class CellWorth:
    """Worth of a cell; `last` is when it was run, in RFC 3339, empty if never."""

    worth: Worth
    last: str


def worth_of(cell: Cell, known: CellPast, inputs: Sequence[Input]) -> CellWorth:
    """Determine the worth of a cell from its past and its present inputs."""
    tried = [entry for entry in known.past if entry.standing is not Standing.SKIP]
    if not tried:
        return CellWorth(Worth.NEW, "")
    last = tried[-1].started_at
    if any(entry.standing in {Standing.BAD, Standing.FAULT} for entry in tried[-LATELY:]):
        return CellWorth(Worth.FAILED_LATELY, last)
    key = CellKey(cell.spec_name, cell.arch, cell.machine, cell.kernel, "")
    if history_of(cell.id, key, tried).is_flapping:
        return CellWorth(Worth.FLAKY, last)
    if _comparable(known.inputs) != _comparable(inputs):
        return CellWorth(Worth.CHANGED_INPUTS, last)
    return CellWorth(Worth.USUAL, last)


def _comparable(inputs: Sequence[Input]) -> set[Input]:
    return {entry for entry in inputs if entry.kind in COMPARED}


def within(plan: Plan, limit_s: float, worth: Mapping[str, CellWorth], seconds: Mapping[str, float], text: str) -> Plan:
    """Return a plan with skips beyond the limit; one cell stays.

    `limit_s` is CPU time: the budget times the cores; `seconds` the expected CPU time of each cell; `text` the budget.
    """
    order = sorted(plan.cells, key=lambda cell: (worth[cell.id].worth, worth[cell.id].last, cell.id))
    kept: set[str] = set()
    used_s = 0.0
    for cell in order:
        if not kept or used_s + seconds[cell.id] <= limit_s:
            kept.add(cell.id)
            used_s += seconds[cell.id]
    left_out = [cell for cell in plan.cells if cell.id not in kept]
    skips = tuple(Skip(cell=cell, reason=_reason(worth[cell.id], text)) for cell in left_out)
    return plan.model_copy(
        update={"cells": tuple(cell for cell in plan.cells if cell.id in kept), "skips": (*plan.skips, *skips)}
    )


def _reason(worth: CellWorth, text: str) -> str:
    last = f", last run {moment(worth.last)}" if worth.last else ""
    return f"beyond the budget of {text} ({worth.worth.words}{last})"


def within_budget(
    plan: Plan, budget: str, seconds: Mapping[str, float], profiles: Mapping[str, Profile], reports: Path
) -> Plan:
    """Return a plan with skips beyond a budget such as `15m`."""
    cores = available_cores()
    threads = {cell.id: min(cores, profiles[cell.arch].machine(cell.machine).threads) for cell in plan.cells}
    cpu_s = {name: seconds[name] * threads[name] for name in threads}
    worth = ask(reports, lambda rows: _worth(rows, plan, profiles))
    return within(plan, duration_s(budget) * cores, worth, cpu_s, budget)


def _worth(rows: Rows, plan: Plan, profiles: Mapping[str, Profile]) -> dict[str, CellWorth]:
    digests = {path: load_spec(Path(path)).digest() for path in {cell.spec for cell in plan.cells}}
    past_of = _PastReader(rows)
    worth = {}
    for cell in plan.cells:
        known = past_of(cell)
        worth[cell.id] = worth_of(cell, known, present_inputs(cell, profiles, digests, known.inputs))
    return worth


class _PastReader:
    """Histories of cells in the index, for any way of booting."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self._keys = rows, rows.cells()

    def __call__(self, cell: Cell) -> CellPast:
        pasts = [(key, self._rows.past(key)) for key in self._keys.get(cell.id, ())]
        if not any(past for _, past in pasts):
            return CellPast()
        newest, _ = max(((key, past) for key, past in pasts if past), key=lambda pair: pair[1][-1].started_at)
        merged = sorted((entry for _, past in pasts for entry in past), key=lambda entry: entry.started_at)
        return CellPast(merged, self._rows.last_inputs(newest))


def present_inputs(
    cell: Cell, profiles: Mapping[str, Profile], digests: Mapping[str, str], known: Sequence[Input]
) -> list[Input]:
    """Return the inputs of a cell that are known before it is built.

    A record has its machine as it ran: emulated or accelerated, with the memory that its initrd needed. One of the ways
    in which it may run now counts as unchanged.
    """
    machine = profiles[cell.arch].machine(cell.machine).sized(cell.size)
    ways = [machine.emulated(), *(accelerated(machine, way) for way in machine.native())]
    settings = [list(settings_of(cell, way)) for way in ways]
    before = [entry for entry in known if entry.kind == "profile"]
    own = next((one for one in settings if set(before) <= set(one)), settings[0])
    if cell.size.grows and before:
        own = [*before, *(entry for entry in own if entry.kind != "profile")]
    return [
        Input("spec", cell.spec_name, digests[cell.spec]),
        *own,
        Input("bootmatrix", "", version=__version__),
    ]


DEFAULT_PACE_S = 8.0
"""Seconds of a cell on the fastest machine when no run is known: a service that is used and restarted."""


def expected_s(
    cells: Sequence[Cell], factor_of: Callable[[Cell], float], usual_s: Mapping[str, float]
) -> dict[str, float]:
    """Return the expected seconds of each cell by id.

    `usual_s` has durations of earlier runs by cell id. A new cell counts as slow as the known cells, for its machine.
    """
    factors = {cell.id: factor_of(cell) for cell in cells}
    paces = [usual_s[cell.id] / factors[cell.id] for cell in cells if cell.id in usual_s]
    pace_s = statistics.median(paces) if paces else DEFAULT_PACE_S
    return {name: usual_s.get(name, pace_s * factor) for name, factor in factors.items()}
