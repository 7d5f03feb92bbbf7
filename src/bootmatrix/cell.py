"""One cell through all stages: fetch, build, boot, judge. Whatever goes wrong on the way becomes its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread

from bootmatrix.attempts import CONSOLE_FILE, Attempt, Prepared, is_worth_another, judgement_of, keep_console, record_of
from bootmatrix.boot.command import by_hand
from bootmatrix.boot.guest import boot
from bootmatrix.boot.qemu import qemu_version
from bootmatrix.build.assemble import build
from bootmatrix.build.image import Builder
from bootmatrix.build.kernel import unpack_kernel
from bootmatrix.build.own_kernel import find_kernel
from bootmatrix.judge import judge
from bootmatrix.model import Cell, Judgement, Machine, PhaseTime, Profile, Record, Spec, Verdict
from bootmatrix.observe import Observer

RETRY_PAUSE_S = 2.0

Turn = Callable[[Machine], AbstractAsyncContextManager[None]]
"""Holds the cores and the memory that a machine's guest takes; waits until the host has them."""


@dataclass(frozen=True)
class Bench:
    """What every cell of a run needs: specs by path, profiles by name, a builder, and a limit on builds at once."""

    specs: Mapping[str, Spec]
    profiles: Mapping[str, Profile]
    builder: Builder
    observer: Observer
    turn: Turn

    def machine(self, cell: Cell) -> Machine:
        """The cell's machine."""
        return self.profiles[cell.arch].machine(cell.machine)


def prepare(cell: Cell, bench: Bench) -> Prepared:
    """Fetch and build what the cell boots. Blocking.

    Raises:
        BuildError: the spec cannot be built for this architecture.
        InfraError: the archive, the network or the host is at fault.
    """
    profile = bench.profiles[cell.arch]
    source = profile.kernels_of(cell.machine)[cell.kernel]
    started = time.monotonic()
    bench.observer.cell_stage(cell, "fetch")
    kernel = find_kernel(cell.kernel, source, profile, bench.builder)
    unpack_kernel(kernel, bench.builder.archive, bench.builder.store)
    fetched = time.monotonic()
    bench.observer.cell_stage(cell, "build")
    bootable = build(bench.specs[cell.spec], profile, profile.machine(cell.machine), kernel, bench.builder)
    phases = (
        PhaseTime(name="fetch", seconds=fetched - started),
        PhaseTime(name="build", seconds=time.monotonic() - fetched),
    )
    return Prepared(kernel, bootable, phases, bench.specs[cell.spec].digest())


async def run_cell(cell: Cell, bench: Bench, folder: Path) -> Record:
    """Run a cell and say what came of it; its console is left in `folder`.

    Never raises but for cancellation: an error is a verdict. Faults of ours are tried again, `cell.retries` times,
    failures of the guest `cell.flaky` times; what each attempt left is kept.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    attempts: list[Attempt] = []
    while not attempts or is_worth_another(cell, attempts):
        if attempts:
            await _pause(cell, attempts, bench, folder)
        attempts.append(await _try(cell, bench, folder))
    return record_of(cell, attempts, folder, started_at, time.monotonic() - started)


async def _pause(cell: Cell, attempts: list[Attempt], bench: Bench, folder: Path) -> None:
    """Between two attempts: keep what the first one left, and give the network or the host a moment to recover."""
    last = attempts[-1]
    attempts[-1] = replace(last, console=keep_console(folder, len(attempts)))
    bench.observer.note(f"{cell.id}: {last.judgement.reason}; once more")
    if last.judgement.verdict is Verdict.INFRA_ERROR:
        await anyio.sleep(RETRY_PAUSE_S)


async def _try(cell: Cell, bench: Bench, folder: Path) -> Attempt:
    attempt = Attempt(Judgement(verdict=Verdict.INFRA_ERROR, reason="not started"), started_at=datetime.now(UTC))
    try:
        prepared = await anyio.to_thread.run_sync(prepare, cell, bench, abandon_on_cancel=True)
        machine = bench.machine(cell)
        attempt = replace(attempt, prepared=prepared, machine=machine)
        line = by_hand(machine, prepared.bootable)
        attempt = replace(attempt, command=line.arguments, cmdline=line.cmdline, qemu_version=qemu_version(machine))
        bench.observer.cell_stage(cell, "wait")
        async with bench.turn(machine):
            outcome = await boot(
                machine,
                prepared.bootable,
                cell.timeouts,
                folder,
                on_phase=lambda phase: bench.observer.cell_stage(cell, phase),
            )
        transcript = await anyio.to_thread.run_sync((folder / CONSOLE_FILE).read_bytes)
        return replace(attempt, outcome=outcome, judgement=judge(outcome, machine, prepared.bootable, transcript))
    except Exception as error:  # whatever it is, it is this cell's, and no other cell may suffer from it
        return replace(attempt, judgement=judgement_of(error))


def skipped(cell: Cell, reason: str) -> Record:
    """The record of a cell that is not run."""
    return Record(
        cell=cell,
        judgement=Judgement(verdict=Verdict.SKIP, reason=reason),
        expected=True,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_s=0,
    )
