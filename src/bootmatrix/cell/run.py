"""One cell: fetch, build, boot, judge. Every error is a verdict."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from bootmatrix.assembly.assemble import build
from bootmatrix.assembly.build_context import BuildContext, fetch_kernel
from bootmatrix.assembly.extra_qemu_args import with_qemu_args
from bootmatrix.assembly.firmware import board_firmware
from bootmatrix.assembly.initrd.memory import grown, largest
from bootmatrix.assembly.kernel.options import lacking_line
from bootmatrix.assembly.kernel.package import unpack_kernel
from bootmatrix.assembly.prebuilt_guest import prebuilt_bootable, with_copies, with_kernel
from bootmatrix.boot.collect import CollectLimits, with_collection
from bootmatrix.boot.start import Booted, Start, start_cold, start_guest
from bootmatrix.cell.adjust import adjusted
from bootmatrix.cell.elsewhere import Boards, run_elsewhere
from bootmatrix.cell.fault_places import FaultPlaces
from bootmatrix.cell.held import HoldGuest, Holding, can_hold
from bootmatrix.cell.record_builder import build_record
from bootmatrix.cell.retry import Attempt, Prepared, judge_error, keep_console, keep_output, should_retry
from bootmatrix.cell.user_tier import Unsupported, prepare_user, run_user_cell
from bootmatrix.cell.verification import doubt_of
from bootmatrix.errors import BootmatrixError, BuildError, QemuMissing, QemuTooOld, QemuUnsuitable, ToolMissing
from bootmatrix.fsio import read_whole
from bootmatrix.judge import judge
from bootmatrix.judge.user_tier import unsupported
from bootmatrix.model import (
    Bootable,
    Cell,
    ConsoleProof,
    Judgement,
    Kernel,
    Machine,
    Outcome,
    PhaseTime,
    Record,
    Spec,
    Verdict,
)
from bootmatrix.model.artefact import LACKS_MODULE, LACKS_OPTION
from bootmatrix.progress import Observer
from bootmatrix.qemu.command import interactive, kernel_cmdline
from bootmatrix.qemu.suitability import check_machine, is_checked
from bootmatrix.qemu.version import qemu_version
from bootmatrix.runs.result_names import file_reader
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.snapshot.pool import ResourceLease, SnapshotPool
from bootmatrix.store import healed

RETRY_PAUSE_S = 2.0
PREPARE_WORKERS = 4

Accelerate = Callable[[Machine, Bootable], Awaitable[Machine]]
"""Returns the machine as it runs on this host: accelerated if that works."""


async def _emulate(machine: Machine, _bootable: Bootable) -> Machine:
    return machine.emulated()


@dataclass(frozen=True)
class Backend:
    """Prepare and boot hooks; replaced in benchmarks (benchmarks/replay.py)."""

    prepare: Callable[[Cell, RunContext], Awaitable[Prepared]]
    start: Callable[[Start, Bootable, SnapshotPool | None], Awaitable[Booted]]


@dataclass(frozen=True)
class RunContext(BuildContext):
    """The context of all cells of a run: inputs, observer, resource leases.

    With `forks`, cells are copies of guests that are booted once, where possible. `dump` keeps the memory of guests
    that hang, panic or time out, `explain_hang` boots kernels that hang a second time. `hold` uses guests that have
    failed, before they end. `announced` are lines that were reported. `boards` run the cells of the hardware tier.
    `given_machine` is the machine of a cell that came with it.
    """

    observer: Observer
    turn: ResourceLease
    forks: SnapshotPool | None = None
    accelerate: Accelerate = _emulate
    dump: bool = False
    backend: Backend = field(default_factory=lambda: QEMU)
    explain_hang: bool = False
    hold: HoldGuest | None = None
    announced: set[str] = field(default_factory=set)
    boards: Boards = field(default_factory=Boards)
    given_machine: Machine | None = None

    def machine(self, cell: Cell) -> Machine:
        """Return the cell's machine, or the given one."""
        return self.given_machine or super().machine(cell)

    def announce(self, text: str) -> None:
        """Report a line once in a run."""
        if text not in self.announced:
            self.announced.add(text)
            self.observer.note(text)


def prepare(cell: Cell, context: RunContext) -> Prepared:
    """Fetch and build a cell's bootable. Blocking.

    Raises BuildError if the spec cannot be built for this architecture, InfraError if the archive, the network or the
    host is at fault.
    """
    return healed(lambda: _prepared(cell, context))


def _prepared(cell: Cell, context: RunContext) -> Prepared:
    spec = adjusted(context.specs[cell.spec], cell)
    started = time.monotonic()
    context.observer.cell_stage(cell, "fetch")
    kernel = fetch_kernel(cell, context)
    fetched = time.monotonic()
    context.observer.cell_stage(cell, "build")
    bootable = _own(spec, cell, kernel, context) if spec.own else _built(spec, cell, kernel, context)
    lacking = [
        f"{word}{note.removeprefix(prefix)}"
        for prefix, word in ((LACKS_OPTION, ""), (LACKS_MODULE, "the module "))
        for note in bootable.notes
        if note.startswith(prefix)
    ]
    if lacking:
        context.announce(lacking_line(cell, bootable.kernel_release, lacking))
    bootable = with_qemu_args(bootable, cell.qemu_args).model_copy(update={"fail_on": cell.fail_on})
    phases = (
        PhaseTime(name="fetch", seconds=fetched - started),
        PhaseTime(name="build", seconds=time.monotonic() - fetched),
    )
    return Prepared(kernel, bootable, phases, context.specs[cell.spec].digest())


def prepare_all(cells: Iterable[Cell], context: RunContext) -> list[tuple[Cell, str]]:
    """Fetch and build all cells; return failures with messages. Blocking."""

    def message_of(cell: Cell) -> str:
        try:
            prepare(cell, context)
        except BootmatrixError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(PREPARE_WORKERS) as pool:
        cells = tuple(cells)
        return [(cell, text) for cell, text in zip(cells, pool.map(message_of, cells), strict=True) if text]


async def _prepare(cell: Cell, context: RunContext) -> Prepared:
    return await anyio.to_thread.run_sync(prepare, cell, context, abandon_on_cancel=True)


QEMU: Backend = Backend(_prepare, start_guest)


def _built(spec: Spec, cell: Cell, kernel: Kernel | None, context: RunContext) -> Bootable:
    if kernel is None:
        raise BuildError(f"a spec needs a kernel of the profile, but {cell.kernel!r} is not one")
    machine = context.machine(cell)
    machine = largest(machine) if cell.size.grows else machine
    return build(spec, context.profiles[cell.arch], machine, kernel, context.builder, cell.roots)


def _own(spec: Spec, cell: Cell, kernel: Kernel | None, context: RunContext) -> Bootable:
    assert spec.own
    machine, builder = context.machine(cell), context.builder
    profile = context.profiles[cell.arch]
    bootable = with_copies(prebuilt_bootable(spec.own, Path(spec.path).parent, profile, machine), builder.store)
    bootable = bootable.model_copy(update={**board_firmware(machine, profile, builder), "notes": spec.notes})
    if kernel is None:
        return bootable
    files = unpack_kernel(kernel, builder.archive, builder.store)
    return with_kernel(bootable, kernel, files, machine, builder.store)


def with_proof(bootable: Bootable, proof: ConsoleProof | None, machine: Machine) -> Bootable:
    """Add the proof of a pass to a bootable with another init.

    Raises BuildError if no proof is configured, or it would match in any case.
    """
    if bootable.reports:
        note = "its init reports by itself: the matrix's 'console' is not used"
        return bootable.model_copy(update={"notes": (*bootable.notes, note)}) if proof else bootable
    proof = proof or bootable.proof
    if proof is None:
        raise BuildError(
            "its init is not bootmatrix's and reports nothing, so the console has to prove a pass",
            "Name the text in the matrix or the guest's file: 'console: \"the last line of a pass\"'.",
        )
    cold = {"forkable": None, "cold_reason": "its init is not ours" if bootable.forkable else bootable.cold_reason}
    proved = bootable.model_copy(update={"proof": proof, **cold})
    if proof.console in kernel_cmdline(machine, proved, "cell"):
        raise BuildError(
            f"{proof.console!r} is on the kernel's command line, which the kernel always prints",
            "Look for another text.",
        )
    if any(proof.console in word for word in proved.qemu_args):
        raise BuildError(
            f"{proof.console!r} is in QEMU's arguments, which firmware and kernel may print", "Look for another text."
        )
    return proved


async def run_cell(cell: Cell, context: RunContext, folder: Path) -> Record:
    """Run a cell and return its record; its console is left in `folder`.

    Only raises on cancellation: an error is a verdict. Host faults are retried `cell.retries` times, guest failures
    `cell.flaky` times. The output of each attempt is kept.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    attempts: list[Attempt] = []
    while not attempts or should_retry(cell, attempts):
        if attempts:
            await _pause(cell, attempts, context, folder)
        attempts.append(await _attempt(cell, context, folder))
    return build_record(cell, attempts, folder, started_at, time.monotonic() - started)


async def _pause(cell: Cell, attempts: list[Attempt], context: RunContext, folder: Path) -> None:
    """Keep the output of an attempt, and wait for the network or the host to recover."""
    last = attempts[-1]
    number = len(attempts)
    outcome = keep_output(folder, number, last.outcome)
    attempts[-1] = replace(last, console=keep_console(folder, number), outcome=outcome)
    context.observer.note(f"{cell.id}: {last.judgement.reason}; retrying")
    if last.judgement.verdict is Verdict.INFRA_ERROR:
        await anyio.sleep(RETRY_PAUSE_S)


async def _attempt(cell: Cell, context: RunContext, folder: Path) -> Attempt:
    attempt = Attempt(datetime.now(UTC))
    try:
        machine = context.machine(cell)
        if cell.tier == "user":
            await _run_in_user_tier(attempt, cell, context, folder)
            return attempt
        if cell.tier != "system":
            context.observer.cell_stage(cell, "build")
            await run_elsewhere(attempt, cell, context, context.boards, folder)
            return attempt
        attempt.qemu_version = qemu_version(machine)  # before any download
        if not is_checked(machine):
            await anyio.to_thread.run_sync(check_machine, machine, context.builder.store)
        await _boot_and_judge(attempt, cell, context, folder)
    except Exception as error:  # every error is this cell's verdict, and affects no other cell
        attempt.judgement = judge_error(error)
        attempt.is_lasting = isinstance(error, QemuMissing | QemuTooOld | QemuUnsuitable | ToolMissing)
    return attempt


async def _run_in_user_tier(attempt: Attempt, cell: Cell, context: RunContext, folder: Path) -> None:
    spec, profile = context.specs[cell.spec], context.profiles[cell.arch]
    context.observer.cell_stage(cell, "build")
    try:
        work = partial(prepare_user, spec, profile, context.machine(cell), context.builder)
        prepared = await anyio.to_thread.run_sync(partial(healed, work), abandon_on_cancel=True)
    except Unsupported as error:
        attempt.judgement = unsupported(str(error))
        return
    attempt.user = prepared
    context.observer.cell_stage(cell, "wait")
    async with context.turn(context.machine(cell)):
        attempt.user_outcome, attempt.judgement = await run_user_cell(prepared, folder)


def cold_if_unshared(bootable: Bootable, machine: Machine) -> Bootable:
    """Return the guest, cold if copies would share connections or a disk's state."""
    reason = (
        "its network leads outside" if bootable.outbound else "it has a scratch disk" if machine.scratch_mib else ""
    )
    return bootable.model_copy(update={"forkable": None, "cold_reason": reason}) if reason else bootable


async def _boot_and_judge(attempt: Attempt, cell: Cell, context: RunContext, folder: Path) -> None:
    prepared = await context.backend.prepare(cell, context)
    machine = context.machine(cell)
    if cell.size.grows:
        machine = grown(machine, prepared.bootable)
    machine = await context.accelerate(machine, prepared.bootable)
    bootable = cold_if_unshared(with_proof(prepared.bootable, cell.proof, machine), machine)
    attempt.prepared = prepared if bootable is prepared.bootable else replace(prepared, bootable=bootable)
    attempt.machine, line = machine, interactive(machine, bootable)
    attempt.command, attempt.cmdline = line.arguments, line.cmdline
    attempt.qemu_version = qemu_version(machine)
    context.observer.cell_stage(cell, "wait")
    may_fork = cell.boot == "fork" and machine.is_emulated()
    on_phase = partial(context.observer.cell_stage, cell)
    limits = CollectLimits.of(cell.get_limit)
    start = Start(machine, cell.timeouts, folder, context.turn, on_phase, context.dump, limits=limits)
    holding = Holding(cell, context.hold) if context.hold and can_hold(cell, bootable) else None
    start, bootable = holding.prepared(start, bootable) if holding else (start, with_collection(bootable, machine))
    booted = await context.backend.start(start, bootable, context.forks if may_fork else None)
    attempt.boot, attempt.cold_reason = booted.boot, booted.cold_reason
    attempt.judgement = _judge(start, bootable, booted.outcome)
    attempt.outcome = booted.outcome
    release = prepared.kernel.release if prepared.kernel else ""
    again = partial(context.observer.cell_stage, cell, "explain") if context.explain_hang else None
    profile = context.profiles.get(cell.arch)  # another host's cell comes without
    kernel = profile.kernels_of(cell.machine).get(cell.kernel) if profile else None
    places = FaultPlaces(kernel, release, again)
    attempt.outcome = await places.added_to(booted.outcome, attempt.judgement, start, bootable)
    if attempt.outcome is not booted.outcome:
        attempt.judgement = _judge(start, bootable, attempt.outcome)
    # Not after an infra-error: it is retried, and says nothing about the copy.
    is_doubted = attempt.judgement.verdict.is_guests and (cell.verify or attempt.judgement.verdict is not Verdict.PASS)
    if booted.boot == "fork" and is_doubted:
        await _verify(attempt, start, bootable)
    attempt.judgement = holding.noted(attempt.judgement) if holding else attempt.judgement


def _judge(start: Start, bootable: Bootable, outcome: Outcome) -> Judgement:
    transcript = read_whole(start.folder / CONSOLE_FILE)  # bounded, and in memory still: a thread would take longer
    return judge(outcome, start.machine, bootable, transcript, file_reader(start.folder))


async def _verify(attempt: Attempt, start: Start, bootable: Bootable) -> None:
    """Compare a fork's judgement with a cold boot's: differing, trust neither."""
    with tempfile.TemporaryDirectory(prefix="cold-", dir=start.folder) as folder:
        again = replace(start, folder=Path(folder))
        cold = _judge(again, bootable, (await start_cold(again, bootable)).outcome)
    doubt = doubt_of(cold, attempt.judgement)
    attempt.verified = doubt is None
    attempt.differs = doubt is not None and cold.verdict.is_guests
    attempt.judgement = doubt or attempt.judgement


def skipped(cell: Cell, reason: str) -> Record:
    """Return the record of a skipped cell."""
    return Record(
        cell=cell,
        judgement=Judgement(verdict=Verdict.SKIP, reason=reason),
        expected=True,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_s=0,
    )
