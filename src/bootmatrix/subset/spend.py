"""A budget of time, spent with the help of the history."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bootmatrix import __version__
from bootmatrix.history.extract import settings_of
from bootmatrix.history.index import ask
from bootmatrix.history.queries import Rows
from bootmatrix.history.values import Input
from bootmatrix.load.merge import load_spec
from bootmatrix.model import Cell, Plan, Profile
from bootmatrix.model.durations import duration_s
from bootmatrix.qemu.host import available_cores
from bootmatrix.subset.budget import CellPast, CellWorth, within, worth_of


def within_budget(
    plan: Plan, budget: str, seconds: Mapping[str, float], profiles: Mapping[str, Profile], reports: Path
) -> Plan:
    """Return a plan in which cells beyond a budget, such as `15m`, are skips. `seconds` are those expected."""
    cores = available_cores()
    threads = {cell.id: min(cores, profiles[cell.arch].machine(cell.machine).threads) for cell in plan.cells}
    cpu_s = {name: seconds[name] * threads[name] for name in threads}
    worth = ask(reports, lambda rows: _worth(rows, plan, profiles))
    return within(plan, duration_s(budget) * cores, worth, cpu_s, budget)


def _worth(rows: Rows, plan: Plan, profiles: Mapping[str, Profile]) -> dict[str, CellWorth]:
    digests = {path: load_spec(Path(path)).digest() for path in {cell.spec for cell in plan.cells}}
    past_of = _PastReader(rows)
    return {cell.id: worth_of(cell, past_of(cell), _present_inputs(cell, profiles, digests)) for cell in plan.cells}


class _PastReader:
    """Pasts of cells in the index, whatever way they booted."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self._keys = rows, rows.cells()

    def __call__(self, cell: Cell) -> CellPast:
        pasts = [(key, self._rows.past(key)) for key in self._keys.get(cell.id, ())]
        if not any(past for _, past in pasts):
            return CellPast()
        newest, _ = max(((key, past) for key, past in pasts if past), key=lambda pair: pair[1][-1].started_at)
        merged = sorted((entry for _, past in pasts for entry in past), key=lambda entry: entry.started_at)
        return CellPast(merged, self._rows.last_inputs(newest))


def _present_inputs(cell: Cell, profiles: Mapping[str, Profile], digests: Mapping[str, str]) -> list[Input]:
    machine = profiles[cell.arch].machine(cell.machine)
    return [
        Input("spec", cell.spec_name, digests[cell.spec]),
        *settings_of(cell, machine),
        Input("bootmatrix", "", version=__version__),
    ]
