"""A planned run: cells, configuration, and existing records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootmatrix import __version__
from bootmatrix.errors import InputError
from bootmatrix.load.merge import load_spec
from bootmatrix.load.qemu_args import check_words
from bootmatrix.model import Cell, Plan, Profile, Run, RunRequest, Skip, Spec
from bootmatrix.model.run_config import RunConfig
from bootmatrix.plan import verifying
from bootmatrix.qemu.suitability import why_never
from bootmatrix.runs.run_store import LOCK_FILE, check_links, load_resumable_run
from bootmatrix.signoff.manifest import signoffs_of


@dataclass(frozen=True)
class PlannedRun:
    """A run to execute; `before` is its existing part, in `name`."""

    plan: Plan
    config: RunConfig
    title: str
    reports: Path
    name: str = ""
    before: Run | None = None
    allow_empty: bool = False

    def __repr__(self) -> str:
        """Name the run, and count its cells."""
        return f"<PlannedRun {self.title}: {self.plan.counts}>"

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells to boot."""
        return self.plan.cells

    @property
    def skips(self) -> tuple[Skip, ...]:
        """The cells that are left out, with their reasons."""
        return self.plan.skips

    @property
    def missing(self) -> Plan:
        """The part of the plan that has no record yet."""
        done = {record.cell.id for record in self.before.records} if self.before else set()
        return self.plan.model_copy(
            update={
                "cells": tuple(cell for cell in self.plan.cells if cell.id not in done),
                "skips": tuple(skip for skip in self.plan.skips if skip.cell.id not in done),
            }
        )


def load_specs(cells: Iterable[Cell]) -> dict[str, Spec]:
    """Load the specs of cells, by path. Raises InputError if one cannot be read."""
    return {path: load_spec(Path(path)) for path in sorted({cell.spec for cell in cells})}


def verify_forks(plan: Plan, count: int, profiles: Mapping[str, Profile]) -> Plan:
    """Mark `count` forked cells for a cold boot as well.

    Raises InputError if the count is invalid, or guests are not forked.
    """
    if count < 1:
        raise InputError(f"--verify-fork {count}: a number of cells is 1 or more")
    if plan.cells and plan.cells[0].boot != "fork":
        raise InputError("--verify-fork compares forked guests with cold ones", "Give --boot fork with it.")

    def may_fork(cell: Cell) -> bool:
        profile = profiles[cell.arch]
        return not cell.qemu_args and not why_never(profile.machine(cell.machine))

    return verifying(plan, count, may_fork)


def load_resumable(folder: Path) -> tuple[Run, RunRequest]:
    """Load a run to resume, and its request.

    Raises InputError if it is signed off, written by another version, with links, or without a request.
    """
    from bootmatrix.cell.borne_out import check_verdicts  # only a resumed run needs the judge here

    check_links(folder)
    run = load_resumable_run(folder)
    signed = signoffs_of(folder)
    if signed:
        raise InputError(
            f"{folder} is signed off for {', '.join(signed)}: resuming it would break that",
            "Start a new run, or remove the sign-off first.",
        )
    if run.order is None:
        raise InputError(f"{folder}: this run cannot be resumed: it has no request", "Start a new one.")
    if run.tool_version != __version__:
        raise InputError(
            f"{folder}: this run was started by bootmatrix {run.tool_version}, this is {__version__}",
            f"Resume it with bootmatrix {run.tool_version}, or start a new one.",
        )
    check_verdicts(run, folder)
    for cell in run.order.plan.cells:
        try:
            check_words(cell.qemu_args)
        except InputError as error:
            raise InputError(f"{folder}: {cell.id}: {error.message}", error.hint) from error
    return run, run.order


def lock_of(folder: Path) -> Path | None:
    """The lock that a run keeps, if there is one."""
    lock = folder / LOCK_FILE
    return lock if lock.exists() else None


def check_unchanged(run: Run, order: RunRequest) -> None:
    """Compare the inputs of a run with the present ones.

    Raises InputError if something was changed.
    """
    before, inputs = run.order.inputs if run.order else {}, order.inputs
    names = sorted(before.keys() | inputs.keys())
    changed = [name for name in names if before.get(name) != inputs.get(name)]
    if changed:
        raise InputError(
            f"the run {run.name} cannot be resumed: changed since it began: {', '.join(changed)}",
            "Change it back, or start a new run: its cells would not be comparable.",
        )
