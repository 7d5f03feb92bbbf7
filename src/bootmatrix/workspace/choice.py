"""Parts of a matrix: pattern, failures, shard, budget; and those that are merged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.history.lookup import usual_s
from bootmatrix.history.reference import find_run
from bootmatrix.model import Part, Plan, Profile, Run
from bootmatrix.model.durations import duration_s
from bootmatrix.runs.run_store import load_run
from bootmatrix.subset.budget import expected_s, within_budget
from bootmatrix.subset.shard import among, only, parse_shard, shard_of


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
    """Return the chosen part. Raises InputError if nothing matches."""
    if not choice.words:
        return plan
    shard = parse_shard(choice.shard) if choice.shard else None
    limit_s = duration_s(choice.budget, "--budget") if choice.budget else 0.0
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
        seconds = _seconds(plan, profiles, usual_s(reports))
        plan = within_budget(plan, choice.budget, seconds, profiles, reports)
    return plan.model_copy(update={"part": part})


def part_title(title: str, plan: Plan) -> str:
    """Return the title of a run of this plan: a part is not compared with a whole."""
    return f"{title} ({plan.part.words})" if plan.part else title


def failed_cells(reports: Path, name: str) -> set[str]:
    """Return the ids of a run's cells without the expected verdict.

    Raises InputError if the run does not exist, or all is as expected.
    """
    place = find_run(reports, name)
    run = load_run(place.folder)
    failed = {record.cell.id for record in run.records if not record.expected} | set(run.missing)
    if not failed:
        raise InputError(f"{place.folder}: all of its cells are as expected: there is nothing to run again")
    return failed


def _seconds(plan: Plan, profiles: Mapping[str, Profile], usual: Mapping[str, float]) -> dict[str, float]:
    return expected_s(plan.cells, lambda cell: profiles[cell.arch].machine(cell.machine).time_factor, usual)


def joined_title(runs: Sequence[Run]) -> str:
    """Return the titles of the matrices of which runs are, or are parts."""
    return " + ".join(_choices(runs))


def joined_part(runs: Sequence[Run]) -> Part | None:
    """Return the part that merged runs are together; None if they are whole matrices."""
    confined = (words for words in _choices(runs).values() if all(words))
    words = "; ".join(dict.fromkeys(word for words in confined for word in words))
    return Part(words=words, title=joined_title(runs)) if words else None


def _choices(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the choice of each run by its matrix's title, empty for all cells."""
    choices: dict[str, list[str]] = {}
    for run in runs:
        part = part_of(run)
        choices.setdefault(part.title if part else run.title, []).append(part.choice if part else "")
    return choices


def part_of(run: Run) -> Part | None:
    """Return the part of a matrix that a run is; None if it is whole."""
    return run.order.plan.part if run.order else None
