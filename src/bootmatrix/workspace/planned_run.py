"""A planned run: cells, configuration, and existing records."""

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootmatrix import __version__
from bootmatrix.errors import InputError
from bootmatrix.load.merge import load_spec
from bootmatrix.load.qemu_args import check_words
from bootmatrix.model import LOCAL, Cell, Plan, Profile, Run, RunRequest, Skip, Spec, Tier
from bootmatrix.model.run_config import RunConfig, SourceConfig
from bootmatrix.plan import verifying
from bootmatrix.qemu.suitability import why_never
from bootmatrix.runs.run_store import LOCK_FILE, check_links, load_resumable_run
from bootmatrix.signoff.manifest import signoffs_of
from bootmatrix.workspace.finished import RunOptions

HOST_TIERS: tuple[Tier, ...] = ("user", "docker")
"""Tiers on this host's own kernel. A matrix or a saved run may be anybody's, and cannot choose them alone."""
TIERS_VARIABLE = "BOOTMATRIX_TIERS"
SOURCES = ("archive", "offline", "allow_older_release")
"""Options of a run's sources, as RunRequest and SourceConfig have them. Its lock and its images are kept with it."""


@dataclass(frozen=True)
class PlannedRun:
    """A run to execute; `before` is its existing part, in `name`.

    `tiers` are those that the user chose: of HOST_TIERS, no others are run.
    """

    plan: Plan
    config: RunConfig
    title: str
    reports: Path
    name: str = ""
    before: Run | None = None
    allow_empty: bool = False
    tiers: tuple[Tier, ...] = ()

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

    Raises InputError if it is finished, signed off, written by another version, with links, or without a request.
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
    _check_unfinished(run, folder)
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


def _check_unfinished(run: Run, folder: Path) -> None:
    """Raise InputError if a run has finished: its verdicts are known already."""
    if not (run.interrupted or run.missing):
        raise InputError(
            f"{folder}: this run finished at {run.ended_at} already, and nothing was booted now",
            f"To see it: bootmatrix report {folder}. To boot its cells again, start a new run.",
        )
    planned = {cell.id for cell in run.order.plan.cells} if run.order else set()
    others = [name for name in run.missing if name not in planned]
    if others:
        raise InputError(
            f"{folder}: {len(others)} of its cells belong to runs that are not merged into it: {', '.join(others[:5])}",
            "Finish those runs, and merge all of them again.",
        )


def check_machines(folder: Path, order: RunRequest | None, options: RunOptions) -> None:
    """Refuse to finish a run silently on other machines than those on which it began.

    A cluster's file of a saved run is named, never read by itself: it may be from elsewhere. Raises InputError.
    """
    if order is None or options.executor not in {"", order.executor}:
        return
    if (options.executor or LOCAL) == order.executor and (options.cluster or not order.cluster):
        return
    raise InputError(
        f"{folder}: its cells ran with{_machines(order)}, and --resume was given without",
        f"Run: {resume_command(folder, order)}; or with --executor {LOCAL}, to finish it on this host.",
    )


def host_tiers(cells: Iterable[Cell]) -> tuple[Tier, ...]:
    """Return the tiers of cells that run on this host's kernel."""
    used = {cell.tier for cell in cells}
    return tuple(tier for tier in HOST_TIERS if tier in used)


def check_tiers(planned: PlannedRun) -> None:
    """Refuse to run programs on this host's kernel because a file says so.

    The user chooses it, by an option or the environment. Raises InputError.
    """
    allowed = {*planned.tiers, *os.environ.get(TIERS_VARIABLE, "").replace(",", " ").split()}
    asked = [tier for tier in host_tiers(planned.missing.cells) if tier not in allowed]
    if asked:
        every = ",".join(dict.fromkeys(cell.tier for cell in planned.cells))
        raise InputError(
            f"{planned.title}: the tier {asked[0]!r} runs programs on this host's kernel, and only a file asks for it",
            f"If you trust its specs and images: --tier {every}, or for all runs {TIERS_VARIABLE}={','.join(asked)}.",
        )


def check_sources(folder: Path, order: RunRequest | None, sources: SourceConfig) -> None:
    """Refuse to finish a run silently with other sources than it began with.

    An address of a saved run is named, never used by itself: the run may be from elsewhere. Raises InputError.
    """
    if order is None:
        return
    is_given = {name: bool(getattr(sources, name)) for name in SOURCES}
    lacking = [words for name, words in _source_options(order).items() if not is_given[name]]
    if lacking:
        raise InputError(
            f"{folder}: it began with {' '.join(lacking)}, and --resume was given without",
            f"Run: {resume_command(folder, order)}",
        )


def resume_command(folder: Path, order: RunRequest | None) -> str:
    """Return the command that finishes a run as it began: machines, tiers, sources."""
    machines, tiers = (_machines(order), ",".join(host_tiers(order.plan.cells))) if order else ("", "")
    options = f"{machines}{f' --tier {tiers}' if tiers else ''}{_sources(order) if order else ''}"
    return f"bootmatrix matrix --resume {shlex.quote(str(folder))}{options}"


def _source_options(order: RunRequest) -> dict[str, str]:
    """Return the options of a run's sources that differ from their defaults, by name."""
    flags = (name for name in SOURCES if getattr(order, name) is True)
    options = {name: f"--{name.replace('_', '-')}" for name in flags}
    return {**({"archive": f"--archive {shlex.quote(order.archive)}"} if order.archive else {}), **options}


def _sources(order: RunRequest) -> str:
    return "".join(f" {words}" for words in _source_options(order).values())


def _machines(order: RunRequest) -> str:
    executor = f" --executor {shlex.quote(order.executor)}" if order.executor != LOCAL else ""
    return executor + (f" --cluster {shlex.quote(order.cluster)}" if order.cluster else "")


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
