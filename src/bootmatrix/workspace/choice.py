"""Choice of a part of a plan: by pattern, an earlier run's failures, shard and budget, with the history's help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix import __version__
from bootmatrix.errors import InputError
from bootmatrix.history.lookup import usual_s
from bootmatrix.model import Cell, Part, Plan, Profile
from bootmatrix.model.durations import duration_s
from bootmatrix.subset.expected_time import expected_s
from bootmatrix.subset.pattern import among, only
from bootmatrix.subset.shard import parse_shard, shard_of

if TYPE_CHECKING:
    from bootmatrix.history.queries import Rows
    from bootmatrix.history.values import Input
    from bootmatrix.subset.budget import CellPast, CellWorth


@dataclass(frozen=True)
class Choice:
    """Parts of a plan to keep; empty values keep all. Applied in this order."""

    only: tuple[str, ...] = ()
    rerun_failed: str = ""
    shard: str = ""
    budget: str = ""

    @property
    def words(self) -> str:
        """The choice in words, which is a part of the run's title."""
        pairs = (("only", " ".join(self.only)), ("rerun of", self.rerun_failed), ("shard", self.shard))
        return ", ".join(f"{name} {value}" for name, value in (*pairs, ("budget", self.budget)) if value)


def choose(plan: Plan, choice: Choice, profiles: Mapping[str, Profile], reports: Path, title: str) -> Plan:
    """Return the chosen part of a plan.

    Raises:
        InputError: invalid values, or nothing matches.
    """
    if not choice.words:
        return plan
    shard = parse_shard(choice.shard) if choice.shard else None
    limit_s = duration_s(choice.budget) if choice.budget else 0.0
    part = Part(words=choice.words, title=title)
    if choice.only:
        plan = only(plan, choice.only)
    if choice.rerun_failed:
        plan = among(plan, failed_cells(reports, choice.rerun_failed))
    if shard:
        whole = (*(cell.id for cell in plan.cells), *(skip.cell.id for skip in plan.skips))
        plan = shard_of(plan, shard, _seconds(plan, profiles, usual_s(reports)))
        part = part.model_copy(update={"shard": str(shard), "whole": whole})
    if limit_s:
        plan = _within(plan, limit_s, choice.budget, profiles, reports)
    return plan.model_copy(update={"part": part})


def part_title(title: str, plan: Plan) -> str:
    """Return the title of a run of this plan: a part is not compared with a whole."""
    return f"{title} ({plan.part.words})" if plan.part else title


def failed_cells(reports: Path, name: str) -> set[str]:
    """Return the ids of a run's cells without the expected verdict.

    Raises:
        InputError: no such run, or all is as expected.
    """
    from bootmatrix.history.reference import find_run
    from bootmatrix.runs.run_store import load_run

    place = find_run(reports, name)
    run = load_run(place.folder)
    failed = {record.cell.id for record in run.records if not record.expected} | set(run.missing)
    if not failed:
        raise InputError(f"{place.folder}: all of its cells are as expected: there is nothing to run again")
    return failed


def _seconds(plan: Plan, profiles: Mapping[str, Profile], usual: Mapping[str, float]) -> dict[str, float]:
    return expected_s(plan.cells, lambda cell: profiles[cell.arch].machine(cell.machine).time_factor, usual)


def _within(plan: Plan, limit_s: float, text: str, profiles: Mapping[str, Profile], reports: Path) -> Plan:
    from bootmatrix.history.index import ask
    from bootmatrix.qemu.host import available_cores
    from bootmatrix.subset.budget import within

    cores = available_cores()
    seconds = _seconds(plan, profiles, usual_s(reports))
    threads = {cell.id: min(cores, profiles[cell.arch].machine(cell.machine).threads) for cell in plan.cells}
    cpu_s = {name: seconds[name] * threads[name] for name in threads}
    worth = ask(reports, lambda rows: _worth(rows, plan, profiles))
    return within(plan, limit_s * cores, worth, cpu_s, text)


def _worth(rows: Rows, plan: Plan, profiles: Mapping[str, Profile]) -> dict[str, CellWorth]:
    from bootmatrix.subset.budget import worth_of

    digests = _spec_digests(plan)
    past_of = _PastReader(rows)
    return {cell.id: worth_of(cell, past_of(cell), _present_inputs(cell, profiles, digests)) for cell in plan.cells}


def _spec_digests(plan: Plan) -> dict[str, str]:
    from bootmatrix.load.merge import load_spec

    return {path: load_spec(Path(path)).digest() for path in {cell.spec for cell in plan.cells}}


class _PastReader:
    """Pasts of cells in the index, whatever way they booted."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self._keys = rows, rows.cells()

    def __call__(self, cell: Cell) -> CellPast:
        from bootmatrix.subset.budget import CellPast

        pasts = [(key, self._rows.past(key)) for key in self._keys.get(cell.id, ())]
        if not any(past for _, past in pasts):
            return CellPast()
        newest, _ = max(((key, past) for key, past in pasts if past), key=lambda pair: pair[1][-1].started_at)
        merged = sorted((entry for _, past in pasts for entry in past), key=lambda entry: entry.started_at)
        return CellPast(merged, self._rows.last_inputs(newest))


def _present_inputs(cell: Cell, profiles: Mapping[str, Profile], digests: Mapping[str, str]) -> list[Input]:
    from bootmatrix.history.extract import settings_of
    from bootmatrix.history.values import Input

    machine = profiles[cell.arch].machine(cell.machine)
    return [
        Input("spec", cell.spec_name, digests[cell.spec]),
        *settings_of(cell, machine),
        Input("bootmatrix", "", version=__version__),
    ]
