"""A run under way: executor and writer together, then its reports."""

import asyncio
import errno
import hashlib
import os
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import anyio
import anyio.to_thread

from bootmatrix import plugins
from bootmatrix.assembly.build_context import open_builder
from bootmatrix.assembly.input_digests import digests
from bootmatrix.errors import HostError, InputError
from bootmatrix.execute.executor import ExecutorSettings, OpenExecutor, keep_durable, requests_of, run_requests
from bootmatrix.fsio import open_plain
from bootmatrix.history.acceptance import AcceptedFailure, of_title, read_accepted, without_passed
from bootmatrix.history.lookup import past_of_run, read_baseline, usual_s
from bootmatrix.history.reference import LAST_GOOD, RunLocation, find_baseline
from bootmatrix.history.values import Past, RunResults
from bootmatrix.load.cluster import load_boards
from bootmatrix.model import LOCAL, AcceptanceRecord, Plan, Record, Run, RunRequest
from bootmatrix.progress import NullObserver, Observer
from bootmatrix.redact import redacted
from bootmatrix.runs.hold import DISK_FULL
from bootmatrix.runs.host import SpareRoom
from bootmatrix.runs.run_store import STARTED_FILE, RunWriter, load_run
from bootmatrix.store import Store
from bootmatrix.workspace.finished import FinishedRun, RunOptions
from bootmatrix.workspace.planned_run import (
    PlannedRun,
    check_machines,
    check_sources,
    check_tiers,
    check_unchanged,
    resume_command,
)
from bootmatrix.workspace.saved_run import SavedRun

BEGUN = "begun"
"""Kind of the cache's records of runs that were begun with it."""
UNDER_WAY_S = 0.5
"""The first guest runs by then, which leaves time to load modules that are used at its end."""


class OpenRun:
    """A run in progress; `records` also yields each record."""

    def __init__(
        self, planned: PlannedRun, options: RunOptions, observer: Observer, baseline: RunResults | None, compared: bool
    ) -> None:
        self._planned, self._options, self._observer = planned, options, observer
        self._baseline, self._compared = baseline, compared
        self._unwritten = ""
        self._accepted = of_title(read_accepted(planned.reports), planned.title)
        self._open_executor: OpenExecutor = plugins.load("executors", options.executor or LOCAL)
        self.writer: RunWriter = begin(planned, baseline.line.name if baseline else "", options)
        self._room = SpareRoom(self.writer.path, len(planned.plan.cells))
        self.writer.on_record = None if options.single_file else self._write_page
        for record in self.writer.earlier:
            observer.cell_done(record)

    async def execute(self, on_record: Callable[[Record], None] = lambda _record: None) -> None:
        """Run missing cells. Raises HostError if the folder is unwritable."""
        try:
            await self._execute(on_record)
        except BaseExceptionGroup as group:
            faults, others = group.split(OSError)
            if faults is None or others is not None:
                raise
            self._unwritten = _cause(_first(faults))
            raise unwritten(self.writer.path, _first(faults), self._resume) from group

    async def _execute(self, on_record: Callable[[Record], None]) -> None:
        options = self._options
        config = replace(
            self._planned.config,
            dump=options.dump,
            explain_hang=options.explain_hang,
            boards=load_boards(options.cluster),
        )
        own = (options.jobs, options.cluster, options.hold)
        settings = ExecutorSettings(config, self._observer, self.writer.folder, *own, on_use=self.writer.add_use)
        missing = self._planned.missing
        usual = usual_s(self._planned.reports) if len(missing.cells) > 1 else {}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_load_ahead)
            tasks.start_soon(keep_durable, self.writer)
            async with self._open_executor(settings) as executor:
                requests = requests_of(missing, config, usual)
                async for record in run_requests(requests, missing.skips, executor, self.writer, self._observer):
                    on_record(record)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(self.writer.make_durable)

    async def records(self) -> AsyncIterator[Record]:
        """Run all cells that are missing, and yield each record as it comes.

        Raises HostError if the run's folder cannot be written any more.
        """
        queue: asyncio.Queue[Record | None] = asyncio.Queue()
        # A task of its own: a task group may not be left open by a generator that nobody finishes.
        work = asyncio.create_task(self.execute(queue.put_nowait))
        work.add_done_callback(lambda _work: queue.put_nowait(None))
        try:
            while (record := await queue.get()) is not None:
                yield record
            await work
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    @property
    def _resume(self) -> str:
        return resume_command(self.writer.path, self.writer.order)

    def _write_page(self, record: Record) -> None:
        _report_writer().write_page(record, self.writer.path)

    def finish(self, *, interrupted: bool, interruption: str = "") -> FinishedRun:
        """Write run.json and the reports: as many of them as the disk has room for.

        `interruption` is the reason, unless a file could not be written.
        """
        self._room.release()
        accepted = self._accepted_now()
        cause = self._unwritten or interruption
        faults: list[OSError] = []
        solution = self._resume
        try:
            run = self.writer.finish(interrupted, _recorded(accepted), cause)
            solution = solution if interrupted else f"bootmatrix report {shlex.quote(str(self.writer.path))}"
            held = accepted and without_passed(accepted, self._past(run, accepted).histories.values())
            if _recorded(held) != _recorded(accepted):
                run = self.writer.finish(interrupted, _recorded(held), cause)
        except OSError as error:
            faults.append(error)
            if _cause(error) == DISK_FULL:
                self.writer.mark_full()
            written = {"under_way": False, "interruption": _cause(error)}
            run = load_run(self.writer.path).model_copy(update=written)
        past = replace(self._past(run, accepted), regressions_only=self._options.regressions)
        try:
            _report_writer().publish_reports(run, self.writer.path, past, self._options.single_file)
        except OSError as error:
            faults.append(error)
        fault = unwritten(self.writer.path, faults[0], solution) if faults else None
        return FinishedRun(run, self.writer.path, past, fault)

    def _past(self, run: Run, accepted: tuple[AcceptedFailure, ...]) -> Past:
        place = RunLocation(self._planned.reports, self.writer.path.name)
        return past_of_run(place, run, self._baseline, compared=self._compared, accepted=accepted)

    def _accepted_now(self) -> tuple[AcceptedFailure, ...]:
        """Read acceptances again; damage must not cost a run its report."""
        with suppress(InputError):
            return of_title(read_accepted(self._planned.reports), self._planned.title)
        return self._accepted


def _recorded(accepted: tuple[AcceptedFailure, ...]) -> tuple[AcceptanceRecord, ...]:
    """Return the acceptances that hold, as run.json has them."""
    names = AcceptanceRecord.model_fields
    current = (entry for entry in accepted if not entry.is_over)
    return tuple(AcceptanceRecord(**{name: getattr(entry, name) for name in names}) for entry in current)


def _cause(error: OSError) -> str:
    """Return why a run is interrupted that cannot be written."""
    return DISK_FULL if error.errno in {errno.ENOSPC, errno.EDQUOT} else error.strerror or str(error)


def unwritten(folder: Path, error: OSError, command: str) -> HostError:
    """Return the error on files that cannot be written, with what writes them."""
    solve = "Free some space on its disk" if _cause(error) == DISK_FULL else "Solve this"
    hint = f"What was written is kept. {solve}, then: {command}"
    return HostError(f"the run in {folder} cannot be written: {error}", hint)


def begin(planned: PlannedRun, baseline: str, options: RunOptions) -> RunWriter:
    """Begin a run; `baseline` is the run to compare with.

    Raises InputError if inputs have changed since the run began, or another process writes to it.
    """
    if planned.before is None:
        request = request_of(planned, options)
        writer = RunWriter.create(planned.reports, planned.title, baseline, request, options.branch)
        with suppress(HostError):  # the cache's disk may be full, and all that is lost is --resume-or-start
            Store(planned.config.sources.cache).set_memo(BEGUN, _identity(writer.path), b"")
        return writer
    folder = planned.reports / planned.name
    check_sources(folder, planned.before.order, planned.config.sources)
    check_unchanged(planned.before, request_of(planned, options))
    check_machines(folder, planned.before.order, options)
    return RunWriter.resume(folder)


def was_begun_here(folder: Path, cache: Path) -> bool:
    """Return whether a run was begun with this cache, in this place.

    Others came from elsewhere, such as with a checkout, and may be anybody's.
    """
    with suppress(OSError):
        return Store(cache).memo(BEGUN, _identity(folder)) is not None
    return False


def _identity(folder: Path) -> str:
    """Identify a run by its first file, which a copy does not share."""
    with open_plain(folder / STARTED_FILE) as file:
        inode, digest = os.fstat(file.fileno()).st_ino, hashlib.sha256(file.read()).hexdigest()
        return f"{os.fsencode(folder.resolve())!r} {inode} {digest}"


def request_of(planned: PlannedRun, options: RunOptions) -> RunRequest:
    """Return what a run was asked for, with the digests of its inputs.

    Raises InputError if an input cannot be read.
    """
    config = planned.config
    with open_builder(config.sources, NullObserver()) as builder:
        inputs = digests(planned.plan.cells, config.specs, config.profiles, builder)
    return RunRequest(
        plan=planned.plan,
        inputs=inputs,
        locked=config.sources.lock is not None and config.sources.lock_is_whole,
        allow_empty=planned.allow_empty,
        executor=options.executor or LOCAL,
        cluster=redacted(options.cluster),
        commit=options.commit,
        archive=redacted(config.sources.archive or ""),
        offline=config.sources.offline,
        allow_older_release=config.sources.allow_older_release,
    )


@contextmanager
def open_run(planned: PlannedRun, options: RunOptions, observer: Observer) -> Iterator[OpenRun]:
    """Begin a planned run: nothing is booted yet.

    Raises InputError if the baseline cannot be read, or what is resumed has changed since it began.
    """
    check_tiers(planned)
    before = planned.before.baseline if planned.before else ""
    named = options.baseline or before or (LAST_GOOD if options.regressions else "")
    # Read before anything is booted: a baseline that cannot be read must not cost a run its report.
    title = planned.plan.part.title if planned.plan.part else planned.title
    place = find_baseline(planned.reports, named, title=title, branch=options.branch) if named else None
    baseline = read_baseline(place)
    if baseline and planned.plan.part:
        baseline = limited_to(baseline, planned.plan)
    yield OpenRun(planned, options, observer, baseline, compared=bool(named))


def limited_to(baseline: RunResults, plan: Plan) -> RunResults:
    """Return the baseline's part that a plan has: others are not gone."""
    ids = {cell.id for cell in plan.cells} | {skip.cell.id for skip in plan.skips}
    return replace(baseline, cells=tuple(cell for cell in baseline.cells if cell.id in ids))


def run_blocking(planned: PlannedRun, options: RunOptions | None, observer: Observer) -> SavedRun:
    """Run all cells of a planned run, and return the finished run.

    Raises HostError if a file of the run cannot be written.
    """
    with open_run(planned, options or RunOptions(), observer) as opened:
        finished = False
        try:
            anyio.run(opened.execute)
            finished = True
        finally:
            done = opened.finish(interrupted=not finished)
    if done.fault:
        raise done.fault
    return SavedRun(done.folder, done.run)


def _report_writer() -> ModuleType:
    """Import the writer of reports; `_load_ahead` does so while guests run."""
    from bootmatrix.report import writer

    return writer


async def _load_ahead() -> None:
    def load() -> None:
        _report_writer().html.load_templates()

    await anyio.sleep(UNDER_WAY_S)
    await anyio.to_thread.run_sync(load)


def _first(group: BaseExceptionGroup[OSError]) -> OSError:
    """The first of the errors in a group of groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
