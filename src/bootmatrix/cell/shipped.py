"""Cells for another host, prepared here, with files known by digest."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from bootmatrix.assembly.kernel.package import kernel_artefact, unpack_kernel
from bootmatrix.cell.record_builder import build_record
from bootmatrix.cell.retry import Attempt, Prepared, judge_error, should_retry
from bootmatrix.cell.run import RETRY_PAUSE_S, Backend, RunContext, run_cell
from bootmatrix.errors import BootmatrixError, InfraError
from bootmatrix.model import Artefact, AttemptRecord, Bootable, Cell, Forkable, Judgement, Record, Verdict
from bootmatrix.model.remote import CellTask

FetchArtefacts = Callable[[Iterable[Artefact]], Awaitable[Mapping[str, Path]]]
"""Returns the paths of artefacts on this host, by digest."""


async def prepare_here(cell: Cell, context: RunContext, folder: Path) -> Prepared | Record:
    """Fetch and build a cell with retries; return its record if it ends here."""
    if cell.tier != "system":
        return await run_cell(cell, context, folder)
    started_at, started = datetime.now(UTC), time.monotonic()
    attempts: list[Attempt] = []
    while not attempts or should_retry(cell, attempts):
        if attempts:
            await anyio.sleep(RETRY_PAUSE_S)
        try:
            return await context.backend.prepare(cell, context)
        except Exception as error:  # every error is this cell's verdict
            attempts.append(Attempt(datetime.now(UTC), judge_error(error)))
    return build_record(cell, attempts, folder, started_at, time.monotonic() - started)


def files_of(bootable: Bootable) -> tuple[Artefact, ...]:
    """List the files that a boot reads."""
    forkable = bootable.forkable
    forked = (forkable.initrd, forkable.disk) if forkable else ()
    return (*bootable.parts().values(), *bootable.attached, *forked)


def with_paths(bootable: Bootable, paths: Mapping[str, Path]) -> Bootable:
    """Replace the paths of all files that a boot reads; `paths` is by digest."""

    def moved(artefact: Artefact) -> Artefact:
        return artefact.model_copy(update={"path": str(paths[artefact.sha256])})

    words = list(bootable.qemu_args)
    for artefact in bootable.attached:
        words = [word.replace(artefact.path, str(paths[artefact.sha256])) for word in words]
    forkable = bootable.forkable
    return bootable.with_parts({name: moved(part) for name, part in bootable.parts().items()}).model_copy(
        update={
            "attached": tuple(map(moved, bootable.attached)),
            "qemu_args": tuple(words),
            "forkable": Forkable(initrd=moved(forkable.initrd), disk=moved(forkable.disk)) if forkable else None,
        }
    )


async def make_kernel(task: CellTask, context: RunContext) -> None:
    """Make a cell's kernel from the archive's packages, by their digests.

    A failure is not a fault: the client has the kernel.
    """
    kernel, wanted, builder = task.kernel, task.bootable.kernel, context.builder
    if (
        builder.archive.is_offline
        or kernel is None
        or wanted is None
        or kernel.parts
        or builder.store.has(wanted.sha256)
    ):
        return

    def make() -> None:
        kernel_artefact(kernel, unpack_kernel(kernel, builder.archive, builder.store), task.machine, builder.store)

    with suppress(BootmatrixError):
        await anyio.to_thread.run_sync(make, abandon_on_cancel=True)


async def run_shipped(task: CellTask, context: RunContext, folder: Path, fetch: FetchArtefacts) -> Record:
    """Boot and judge another host's cell; its console stays in `folder`."""

    async def prepare(_cell: Cell, _context: RunContext) -> Prepared:
        paths = await fetch(files_of(task.bootable))
        return Prepared(task.kernel, with_paths(task.bootable, paths), task.phases, task.spec_sha256)

    backend, forks = Backend(prepare, context.backend.start), context.forks if task.fork else None
    given = replace(context, backend=backend, forks=forks, dump=task.dump, given_machine=task.machine)
    return await run_cell(task.cell, given, folder)


def restored(record: Record, task: CellTask, host: str, clock_offset_s: float = 0) -> Record:
    """Return a record of another host with the paths and the time of this one.

    Raises InfraError if it is of another cell.
    """
    if record.cell != task.cell:
        raise InfraError(f"the host {host} returned the record of another cell: {record.cell.id[:200]!r}")
    there, bootable = record.bootable, None
    command = record.command
    if there is not None:
        here = {artefact.sha256: Path(artefact.path) for artefact in files_of(task.bootable)}
        known = {artefact.sha256: artefact.path for artefact in files_of(there)}
        for sha256, path in known.items():
            if path and sha256 in here:
                command = tuple(word.replace(path, str(here[sha256])) for word in command)
        kept = {"notes": there.notes, "proof": there.proof, "forkable": None, "cold_reason": there.cold_reason}
        bootable = task.bootable.model_copy(update={**kept, "forkable": task.bootable.forkable})
    parts = (*bootable.parts().values(), *bootable.images, *bootable.attached) if bootable else ()
    changes = {"host": host, "command": command, "bootable": bootable, "artefacts": parts, "kernel": task.kernel}
    if clock_offset_s:
        started_at = datetime.fromisoformat(record.started_at) - timedelta(seconds=clock_offset_s)
        note = f"the clock of {host} was {clock_offset_s:+.0f} s off: the start is corrected"
        changes |= {"started_at": started_at.isoformat(timespec="seconds"), "notes": (*record.notes, note)}
    return record.model_copy(update=changes)


@dataclass(frozen=True)
class LostAttempt:
    """An attempt that a host or the way to it ended."""

    host: str
    reason: str
    started_at: datetime

    @property
    def judgement(self) -> Judgement:
        """Return the infra-error of this attempt."""
        reason = f"{self.host}: {self.reason}"
        return Judgement(verdict=Verdict.INFRA_ERROR, reason=reason, advice="This says nothing about the guest.")

    def record(self) -> AttemptRecord:
        """Return the attempt as records keep it."""
        return AttemptRecord(judgement=self.judgement, started_at=self.started_at.isoformat(timespec="seconds"))


def with_lost(record: Record, lost: Iterable[LostAttempt]) -> Record:
    """Add the attempts that were lost before the record's own ones."""
    before = tuple(attempt.record() for attempt in lost)
    if not before:
        return record
    own = record.attempt_records or (
        AttemptRecord(
            judgement=record.judgement, outcome=record.outcome, console=record.console, started_at=record.started_at
        ),
    )
    return record.model_copy(update={"attempts": len(before) + record.attempts, "attempt_records": (*before, *own)})


def lost_record(cell: Cell, lost: Iterable[LostAttempt], judgement: Judgement, folder: Path) -> Record:
    """Return the record of a cell that no host could run."""
    last = Attempt(datetime.now(UTC), judgement)
    return with_lost(build_record(cell, [last], folder, last.started_at, 0), lost)
