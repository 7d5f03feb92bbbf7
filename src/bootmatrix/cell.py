"""One cell through all stages: fetch, build, boot, judge. Whatever goes wrong on the way becomes its verdict."""

from __future__ import annotations

import errno
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread

from bootmatrix.boot.command import by_hand
from bootmatrix.boot.guest import boot
from bootmatrix.boot.qemu import qemu_version
from bootmatrix.build.assemble import build
from bootmatrix.build.image import Builder
from bootmatrix.build.kernel import unpack_kernel
from bootmatrix.errors import BuildError, InfraError, InputError
from bootmatrix.judge import judge
from bootmatrix.judge.resultfiles import UnreadableFile, unpack
from bootmatrix.model import (
    Bootable,
    Cell,
    Evidence,
    Judgement,
    Kernel,
    Machine,
    Outcome,
    PhaseTime,
    Profile,
    Record,
    ResultFile,
    Run,
    Spec,
    Verdict,
)
from bootmatrix.observe import Observer
from bootmatrix.runs import FILES_FOLDER, read_console, write_whole

RETRY_PAUSE_S = 2.0
CONSOLE_FILE = "console.log"
MAX_FILE_NAME = 120

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


@dataclass(frozen=True)
class Prepared:
    """A cell that is ready to boot."""

    kernel: Kernel
    bootable: Bootable
    phases: tuple[PhaseTime, ...]
    spec_sha256: str = ""


@dataclass(frozen=True)
class Attempt:
    """What one try of a cell came to; what is None was not reached."""

    judgement: Judgement
    number: int = 1
    prepared: Prepared | None = None
    machine: Machine | None = None
    outcome: Outcome | None = None
    command: tuple[str, ...] = ()
    cmdline: str = ""
    qemu_version: str = ""


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
    kernel = bench.builder.archive.kernel(cell.kernel, source, profile.kernel_architecture(source))
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

    Never raises but for cancellation: an error is a verdict. Faults of ours are tried again, `cell.retries` times.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    for number in range(1, cell.retries + 2):
        attempt = replace(await _try(cell, bench, folder), number=number)
        if attempt.judgement.verdict is not Verdict.INFRA_ERROR or number > cell.retries:
            break
        bench.observer.note(f"{cell.id}: {attempt.judgement.reason}; once more")
        await anyio.sleep(RETRY_PAUSE_S)
    return _record(cell, attempt, folder, started_at, time.monotonic() - started)


async def _try(cell: Cell, bench: Bench, folder: Path) -> Attempt:
    attempt = Attempt(Judgement(verdict=Verdict.INFRA_ERROR, reason="not started"))
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


def judgement_of(error: Exception) -> Judgement:
    """The verdict that an error amounts to. None of them speaks of the guest."""
    if isinstance(error, BuildError | InputError):
        verdict, reason, advice = Verdict.BUILD_ERROR, error.message, error.hint
    elif isinstance(error, InfraError):
        verdict, reason, advice = Verdict.INFRA_ERROR, error.message, error.hint
    elif isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        verdict, reason = Verdict.INFRA_ERROR, f"the disk is full: {error}"
        advice = "Free some space, or put the cache elsewhere with BOOTMATRIX_CACHE."
    else:
        verdict, reason = Verdict.INFRA_ERROR, f"a fault of bootmatrix itself: {type(error).__name__}: {error}"
        advice = "Please report it, with the trace below.\n" + "".join(traceback.format_exception(error))
    return Judgement(
        verdict=verdict,
        reason=reason,
        advice=advice,
        evidence=(Evidence(source="host", text=type(error).__name__),),
    )


def is_expected(cell: Cell, verdict: Verdict) -> bool:
    """Whether a verdict is what the matrix expects: a pass, or a failure of the guest that `expect` names."""
    if verdict is Verdict.SKIP:
        return True
    if cell.expect:
        return verdict.is_guests and verdict is not Verdict.PASS
    return verdict is Verdict.PASS


def guest_phases(outcome: Outcome) -> tuple[PhaseTime, ...]:
    """Times of the guest's phases, from the messages that end them; the last one ends with QEMU."""
    ends = {"boot": 0.0, "onboot": 0.0, "services": 0.0, "checks": 0.0}
    for message in outcome.messages:
        phase = _phase_ended_by(message.kind, message.words)
        if phase:
            ends[phase] = message.at_s
    times, before = [], 0.0
    for name, end in ends.items():
        if end > before:
            times.append(PhaseTime(name=name, seconds=end - before))
            before = end
    return (
        *times,
        PhaseTime(name="shutdown" if outcome.ended_by == "guest" else "last", seconds=outcome.wall_s - before),
    )


def _phase_ended_by(kind: str, words: tuple[str, ...]) -> str:
    if kind == "ready":
        return "boot"
    if kind == "onboot" and words[1:2] == ("exit",):
        return "onboot"
    if (kind == "service" and words == ("up",)) or kind == "services":
        return "services"
    if kind == "check" and words[1:2] == ("exit",):
        return "checks"
    return ""


def _record(cell: Cell, attempt: Attempt, folder: Path, started_at: datetime, wall_s: float) -> Record:
    prepared, outcome = attempt.prepared, attempt.outcome
    bootable = prepared.bootable if prepared else None
    return Record(
        cell=cell,
        judgement=attempt.judgement,
        expected=is_expected(cell, attempt.judgement.verdict),
        outcome=outcome,
        kernel=prepared.kernel if prepared else None,
        artefacts=(*bootable.parts().values(), *bootable.images) if bootable else (),
        phases=(*(prepared.phases if prepared else ()), *(guest_phases(outcome) if outcome else ())),
        command=attempt.command,
        cmdline=attempt.cmdline,
        qemu_version=attempt.qemu_version,
        console=CONSOLE_FILE if (folder / CONSOLE_FILE).exists() else "",
        files=save_files(outcome, folder) if outcome else (),
        notes=bootable.notes if bootable else (),
        attempts=attempt.number,
        started_at=started_at.isoformat(timespec="seconds"),
        wall_s=wall_s,
        spec_sha256=prepared.spec_sha256 if prepared else "",
        machine_profile=attempt.machine,
        bootable=bootable,
    )


def save_files(outcome: Outcome, folder: Path) -> tuple[ResultFile, ...]:
    """Write the files that the guest sent below `folder`/files; none of its names becomes a name here as it is."""
    saved = []
    for number, message in enumerate(message for message in outcome.messages if message.kind == "file"):
        with suppress(UnreadableFile):
            sent = unpack(message)
            if sent.data is None:
                continue
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{number}-{sent.container}{sent.path}")[-MAX_FILE_NAME:]
            path = folder / FILES_FOLDER / name.lstrip(".")
            path.parent.mkdir(exist_ok=True)
            write_whole(path, sent.data)
            saved.append(
                ResultFile(
                    container=sent.container,
                    path=sent.path,
                    file=f"{FILES_FOLDER}/{path.name}",
                    size_bytes=sent.size_bytes,
                    is_cut=sent.is_cut,
                )
            )
    return tuple(saved)


def rejudge(run: Run, folder: Path) -> Iterator[tuple[Record, Judgement]]:
    """Judge again, from what was recorded, each cell that was booted.

    Raises:
        InputError: a console is missing.
    """
    for record in run.records:
        if record.outcome is None or record.machine_profile is None or record.bootable is None:
            continue
        transcript = read_console(folder, record)
        yield record, judge(record.outcome, record.machine_profile, record.bootable, transcript)


def skipped(cell: Cell, reason: str) -> Record:
    """The record of a cell that is not run."""
    return Record(
        cell=cell,
        judgement=Judgement(verdict=Verdict.SKIP, reason=reason),
        expected=True,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_s=0,
    )


__all__ = ["Bench", "Prepared", "Turn", "guest_phases", "is_expected", "judgement_of", "prepare", "run_cell", "skipped"]
