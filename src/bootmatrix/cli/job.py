"""What `bootmatrix matrix` is to do: a new run, or what is missing of one that was interrupted or killed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options

if TYPE_CHECKING:
    from bootmatrix.assembly.image.builder import Builder
    from bootmatrix.model import Cell, Lock, Order, Plan, Profile, Run, Spec
    from bootmatrix.progress import Observer
    from bootmatrix.runs.run_store import RunWriter
    from bootmatrix.snapshot.pool import Forks

OF_THE_RUN = (
    *("files", "arch", "kernel", "image", "qemu_args", "flaky", "boot", "verify_fork", "locked", "reports"),
    "allow_empty",
)
"""Arguments that a run keeps from its beginning."""


@dataclass(frozen=True)
class Job:
    """A run to be made; `before` is what there is of it already. `lock` is whole if the run is confined to it."""

    plan: Plan
    profiles: dict[str, Profile]
    specs: dict[str, Spec]
    title: str
    lock: Lock | None
    is_locked: bool
    reports: Path
    name: str = ""
    before: Run | None = None
    allow_empty: bool = False

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

    @contextmanager
    def builder(self, args: argparse.Namespace, observer: Observer) -> Iterator[Builder]:
        """What builds the run's cells; downloads end when the context is left."""
        builder = options.open_builder(args, observer, self.lock, self.is_locked, self.plan.images)
        try:
            yield replace(builder, fork=self.is_forked)
        finally:
            builder.close()

    @property
    def is_forked(self) -> bool:
        """Whether guests are to be copies of others."""
        return any(cell.boot == "fork" for cell in self.plan.cells)

    @contextmanager
    def forks(self, builder: Builder, observer: Observer) -> Iterator[Forks | None]:
        """The guests that the run's are copies of, for as long as the context lasts; None where none is to be."""
        from bootmatrix.execute.local import snapshots_mib
        from bootmatrix.snapshot.cache import SnapshotCache
        from bootmatrix.snapshot.pool import Forks

        if not self.is_forked:
            yield None
            return
        forks = Forks(SnapshotCache(builder.store), snapshots_mib(), observer.note)
        try:
            yield forks
        finally:
            forks.close()

    def writer(self, builder: Builder, baseline: str) -> RunWriter:
        """What writes the run; `baseline` is the name of the run that it is compared with, if any.

        Raises:
            InputError: what the run was made from has changed since it began, or another process is at it.
        """
        from bootmatrix.assembly.input_digests import digests
        from bootmatrix.model import Order
        from bootmatrix.runs.run_store import RunWriter

        inputs = digests(self.plan.cells, self.specs, self.profiles, builder)
        order = Order(plan=self.plan, inputs=inputs, locked=self.is_locked, allow_empty=self.allow_empty)
        if self.before is None:
            return RunWriter.create(self.reports, self.title, baseline, order)
        _check_unchanged(self.before, order)
        return RunWriter.resume(self.reports / self.name)


def find_job(args: argparse.Namespace) -> Job:
    """The job that the arguments mean.

    Raises:
        InputError: an argument, a file or a run that is no good.
    """
    from bootmatrix.errors import InputError
    from bootmatrix.plan import check_tests

    if args.resume:
        return _resumed(args)
    if not args.files:
        raise InputError("name a matrix, or specs", "Or a run to take up again: --resume RUN.")
    plan, profiles, title = options.load_plan(args)
    plan = _verified(args, plan, profiles)
    lock = options.read_lock(args)
    specs = options.load_specs(plan.cells)
    check_tests(plan, specs, allow_empty=args.allow_empty)
    reports = options.reports_of(args)
    return Job(plan, profiles, specs, title, lock, lock is not None, reports, allow_empty=args.allow_empty)


def _verified(args: argparse.Namespace, plan: Plan, profiles: Mapping[str, Profile]) -> Plan:
    """The plan with the cells that `--verify-fork` asks for."""
    from bootmatrix.assembly.fork import why_never
    from bootmatrix.errors import InputError
    from bootmatrix.plan import verifying

    if args.verify_fork is None:
        return plan
    if args.verify_fork < 1:
        raise InputError(f"--verify-fork {args.verify_fork}: a number of cells is 1 or more")
    if plan.cells and plan.cells[0].boot != "fork":
        raise InputError("--verify-fork compares forked guests with cold ones", "Give --boot fork with it.")

    def may_fork(cell: Cell) -> bool:
        profile = profiles[cell.arch]
        return not cell.qemu_args and not why_never(profile, profile.machine(cell.machine))

    return verifying(plan, args.verify_fork, may_fork)


def _resumed(args: argparse.Namespace) -> Job:
    from bootmatrix import __version__
    from bootmatrix.errors import InputError
    from bootmatrix.load.lock import load_lock
    from bootmatrix.runs.run_store import LOCK_FILE, load_run
    from bootmatrix.signoff.manifest import signoffs_of

    given = [name for name in OF_THE_RUN if getattr(args, name)]
    if given:
        raise InputError(
            "--resume takes a run up as it began: name no files with it, and none of --arch, --kernel, --image, "
            "--qemu-args, --flaky, --boot, --verify-fork, --locked, --reports and --allow-empty"
        )
    folder = Path(args.resume).resolve()
    run = load_run(folder)
    signed = signoffs_of(folder)
    if signed:
        raise InputError(
            f"{folder} is signed off for {', '.join(signed)}: taking it up would break that",
            "Start a new run, or remove the sign-off first.",
        )
    if run.order is None:
        raise InputError(f"{folder}: this run does not say what it was asked for", "Start a new one.")
    if run.tool_version != __version__:
        raise InputError(
            f"{folder}: this run began with bootmatrix {run.tool_version}, and this is {__version__}",
            f"Take it up with bootmatrix {run.tool_version}, or start a new one.",
        )
    lock = folder / LOCK_FILE
    return Job(
        plan=run.order.plan,
        profiles=options.profiles(),
        specs=options.load_specs(run.order.plan.cells),
        title=run.title,
        lock=load_lock(lock) if lock.exists() else None,
        is_locked=run.order.locked,
        reports=folder.parent,
        name=folder.name,
        before=run,
        allow_empty=run.order.allow_empty,
    )


def _check_unchanged(run: Run, order: Order) -> None:
    from bootmatrix.errors import InputError

    before, inputs = run.order.inputs if run.order else {}, order.inputs
    names = sorted(before.keys() | inputs.keys())
    changed = [name for name in names if before.get(name) != inputs.get(name)]
    if changed:
        raise InputError(
            f"the run {run.name} cannot be taken up: changed since it began: {', '.join(changed)}",
            "Change it back, or start a new run: its cells would not be comparable.",
        )
