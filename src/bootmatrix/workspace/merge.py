"""Several runs merged into one: shards, hosts, and repetitions of failed cells."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from bootmatrix.cell.borne_out import checking
from bootmatrix.cell.rejudge import is_expected
from bootmatrix.history.acceptance import covers
from bootmatrix.history.extract import digest_of_inputs, inputs_of
from bootmatrix.history.lookup import baseline_of, past_of_run, read_baseline
from bootmatrix.history.reference import LAST_GOOD, RunLocation
from bootmatrix.judge.attempts import final_judgement
from bootmatrix.model import (
    LOCAL,
    AcceptanceRecord,
    AttemptRecord,
    Cell,
    Part,
    Plan,
    Record,
    Run,
    RunRequest,
    Skip,
    Verdict,
)
from bootmatrix.model.base import as_json, many_made
from bootmatrix.report.product import mixed_products
from bootmatrix.report.writer import publish_reports
from bootmatrix.runs.folder_names import free_name
from bootmatrix.runs.join import join_locks, link_cell, new_folder, write_record
from bootmatrix.runs.run_json import FORMAT, write_run
from bootmatrix.runs.run_store import (
    LOCK_FILE,
    RECORD_FILE,
    RUN_FILE,
    STARTED_FILE,
    cell_folder,
    check_links,
    load_run,
    write_model,
)
from bootmatrix.subset.shard import parse_shard
from bootmatrix.workspace.choice import joined_part, joined_title, part_of, part_title
from bootmatrix.workspace.finished import FinishedRun, RunOptions

MAX_NOTES = 20
"""Notes of one kind; more are counted."""
MAX_ORIGINS = 4
"""Runs that a note names."""


@dataclass(frozen=True)
class MergedRun:
    """A merged run in its folder. `notes` are about duplicates, gaps and differences."""

    folder: Path
    run: Run
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RunSource:
    """A run to merge."""

    folder: Path
    run: Run


@dataclass(frozen=True)
class CellMerge:
    """A cell's record from `origin`, and others merged or left out."""

    record: Record
    origin: RunSource
    others: tuple[tuple[Record, RunSource], ...] = ()
    is_flaky: bool = False
    note: str = ""


@dataclass
class _Notes:
    lines: list[str] = field(default_factory=list)

    def add(self, lines: Iterable[str], noun: str) -> None:
        """Add notes of a kind, bounded in number."""
        listed = list(lines)
        self.lines += listed[:MAX_NOTES]
        if len(listed) > MAX_NOTES:
            self.lines.append(f"and {len(listed) - MAX_NOTES} more {noun}")


def merge_runs(folders: Sequence[Path], target: Path) -> MergedRun:
    """Merge runs into a new folder, which appears when it is complete.

    Raises InputError if a run cannot be read, or the folder exists; OSError if it cannot be written.
    """
    with many_made():
        for folder in folders:
            check_links(folder)
        sources = [RunSource(folder, load_run(folder)) for folder in folders]
        notes = _Notes()
        work = new_folder(target)
        try:
            with checking([(source.run, source.folder) for source in sources]):
                run = _fill(work, sources, target.name, notes)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return MergedRun(target, run, tuple(notes.lines))


def _fill(work: Path, sources: Sequence[RunSource], name: str, notes: _Notes) -> Run:
    """Write the merged run into its folder."""
    chosen = _choose_all(sources, notes)
    lock, differing = join_locks([source.folder for source in sources])
    notes.add((f"{entry}: the runs used different versions" for entry in differing), "different versions")
    run = _merged(sources, chosen, name, notes)
    lines = [as_json(record) for record in run.records]
    for cell, line in zip(chosen, lines, strict=True):
        _take(cell, work)
        write_record(work, cell.record.cell, line + b"\n")  # the file beside it may say otherwise than the run
    if lock:
        write_model(work / LOCK_FILE, lock)
    write_model(work / STARTED_FILE, _as_started(run))
    write_run(work / RUN_FILE, run, lines)
    return run


def merged_folder(folders: Sequence[Path], reports: Path) -> Path:
    """Return a new folder's path, named like a run of now."""
    title = joined_title([load_run(folder) for folder in folders[:1]])
    return free_name(reports, f"{title}-merged")


def report_merged(merged: MergedRun, options: RunOptions) -> FinishedRun:
    """Write a merged run's reports, compared if options say so.

    Raises InputError if the baseline cannot be read, OSError if it cannot be written.
    """
    place = RunLocation(merged.folder.parent, merged.folder.name)
    baseline_name = options.baseline or (LAST_GOOD if options.regressions else "")
    baseline_place = baseline_of(place, baseline_name) if baseline_name else None
    baseline = read_baseline(baseline_place) if baseline_place else None
    run = merged.run.model_copy(update={"baseline": baseline_place.name}) if baseline_place else merged.run
    if baseline_place:
        write_model(merged.folder / STARTED_FILE, _as_started(run))
        write_run(merged.folder / RUN_FILE, run)
    past = past_of_run(place, run, baseline, compared=bool(baseline_name))
    past = replace(past, regressions_only=options.regressions)
    publish_reports(run, merged.folder, past, options.single_file)
    return FinishedRun(run, merged.folder, past)


def _as_started(run: Run) -> Run:
    empty = {"records": (), "ended_at": "", "wall_s": 0.0, "interrupted": False, "unfinished": ()}
    return run.model_copy(update=empty)


def _choose_all(sources: Sequence[RunSource], notes: _Notes) -> list[CellMerge]:
    by_cell: dict[str, list[tuple[Record, RunSource]]] = {}
    for source in sources:
        for record in source.run.records:
            by_cell.setdefault(record.cell.id, []).append((record, source))
    chosen = [_choose(records) for records in by_cell.values()]
    notes.add((cell.note for cell in chosen if cell.note), "duplicate cells")
    return chosen


def _choose(records: list[tuple[Record, RunSource]]) -> CellMerge:
    """Choose among the records of one cell.

    Verdicts on the guest outrank errors and skips, then the newest counts. The same inputs that passed and failed are
    flaky, never a pass.
    """
    if len(records) == 1:
        return CellMerge(*records[0])
    records = sorted(records, key=lambda pair: pair[0].started_at)
    guests = [pair for pair in records if pair[0].verdict.is_guests]
    tried = guests or [pair for pair in records if pair[0].verdict is not Verdict.SKIP] or records
    newest, origin = tried[-1]
    others = tuple(pair for pair in records if pair[0] is not newest)
    inputs = _inputs(tried[-1]) if _differ(guests) else ""
    same = [pair for pair in guests if inputs and _inputs(pair) == inputs]
    if _differ(same):
        note = f"{newest.cell.id}: passed and failed with the same inputs: flaky ({_origins(same)})"
        decisive, origin = next(pair for pair in same if pair[0].verdict is not Verdict.PASS)
        return CellMerge(decisive, origin, tuple(same), is_flaky=True, note=note)
    if all(record.verdict is Verdict.SKIP for record, _ in others):
        return CellMerge(newest, origin)
    note = f"{newest.cell.id}: {len(records)} results, the one of {origin.run.name} counts ({_origins(records)})"
    return CellMerge(newest, origin, others, note=note)


def _differ(pairs: Iterable[tuple[Record, RunSource]]) -> bool:
    """Return whether some passed and some did not."""
    return len({record.verdict is Verdict.PASS for record, _ in pairs}) > 1


def _inputs(pair: tuple[Record, RunSource]) -> str:
    return digest_of_inputs(inputs_of(pair[0], pair[1].run.tool_version))


def _origins(records: Sequence[tuple[Record, RunSource]]) -> str:
    listed = [f"{record.verdict} in {source.run.name}" for record, source in records[:MAX_ORIGINS]]
    more = len(records) - MAX_ORIGINS
    return ", ".join([*listed, f"and {more} more"] if more > 0 else listed)


def _final(chosen: CellMerge) -> Record:
    """Return the record to keep; of a flaky cell with all boots as attempts."""
    if not chosen.is_flaky:
        return chosen.record
    attempts = [attempt for _, attempt, _ in _attempts(chosen)]
    _, judgement = final_judgement([attempt.judgement for attempt in attempts])
    index = next(index for index, attempt in enumerate(attempts) if attempt.judgement.verdict is not Verdict.PASS)
    return chosen.record.model_copy(
        update={
            "judgement": judgement,
            "expected": is_expected(chosen.record.cell, judgement.verdict),
            "attempts": len(attempts),
            "attempt_records": tuple(attempts),
            "console": attempts[index].console,
        }
    )


def _attempts(chosen: CellMerge) -> list[tuple[RunSource, AttemptRecord, str]]:
    """List a flaky cell's boots: run, attempt renamed, its console there."""
    boots = []
    for record, source in chosen.others:
        own = record.attempt_records or (
            AttemptRecord(
                judgement=record.judgement, outcome=record.outcome, console=record.console, started_at=record.started_at
            ),
        )
        boots += [(source, attempt) for attempt in own]
    return [
        (
            source,
            attempt.model_copy(update={"console": f"console-{number}.log" if attempt.console else ""}),
            attempt.console,
        )
        for number, (source, attempt) in enumerate(boots, 1)
    ]


def _take(chosen: CellMerge, work: Path) -> None:
    """Put a cell's files into the merged run."""
    cell = chosen.record.cell
    if not chosen.is_flaky:
        link_cell(chosen.origin.folder, work, cell)
        return
    consoles = _attempts(chosen)
    kept = {Path(record.console).name for record, _ in chosen.others} | {RECORD_FILE, "cell.html"}
    link_cell(chosen.origin.folder, work, cell, _without(chosen.origin.folder, cell, kept))
    for source, attempt, console in consoles:
        if console:
            link_cell(source.folder, work, cell, {Path(console).name: attempt.console})


def _without(folder: Path, cell: Cell, left_out: set[str]) -> dict[str, str]:
    place = cell_folder(folder, cell)
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    return {name: name for name in names if name not in left_out and not name.startswith("console")}


def _merged(sources: Sequence[RunSource], chosen: Sequence[CellMerge], name: str, notes: _Notes) -> Run:
    runs = [source.run for source in sources]
    versions = list(dict.fromkeys(run.tool_version for run in runs))
    if len(versions) > 1:
        notes.add([f"the runs are of different versions of bootmatrix: {', '.join(versions)}"], "versions")
    records = tuple(_final(cell) for cell in chosen)
    notes.add((f"{words}: different products" for words in mixed_products(records)), "different products")
    order = _order(runs, records, notes)
    ends = [_seconds(run.ended_at) for run in runs if run.ended_at]
    started = min(run.started_at for run in runs)
    return Run(
        format=FORMAT,
        name=name,
        title=part_title(joined_title(runs), order.plan),
        tool_version=" + ".join(versions),
        started_at=started,
        ended_at=max(run.ended_at for run in runs) or max(record.started_at for record in records),
        wall_s=max([max(ends) - _seconds(started), *(run.wall_s for run in runs)] if ends else [0.0]),
        interrupted=any(run.interrupted for run in runs) and _is_lacking(order.plan, records),
        interruption=_interruption(runs) if _is_lacking(order.plan, records) else "",
        host=_hosts(runs),
        branch=next((run.branch for run in runs if run.branch), ""),
        accepted=tuple(_acceptances(chosen)),
        records=records,
        unfinished=_gaps(runs, records, notes),
        order=order,
    )


def _acceptances(chosen: Iterable[CellMerge]) -> Iterator[AcceptanceRecord]:
    """Yield each cell's acceptance by its own run, not those of other matrices."""
    for cell in chosen:
        name = cell.record.cell.id
        held = [entry for entry in cell.origin.run.accepted if name not in entry.passed]
        found = [entry for entry in held if covers(entry.cell, name)]
        yield from (entry.model_copy(update={"cell": name, "passed": ()}) for entry in found[-1:])


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _interruption(runs: Sequence[Run]) -> str:
    return "; ".join(dict.fromkeys(run.interruption for run in runs if run.interruption))


def _is_lacking(plan: Plan, records: Iterable[Record]) -> bool:
    return bool({cell.id for cell in plan.cells} - {record.cell.id for record in records})


def _hosts(runs: Sequence[Run]) -> dict[str, str]:
    names = dict.fromkeys(name for run in runs for name in run.host)
    return {name: "; ".join(dict.fromkeys(run.host[name] for run in runs if name in run.host)) for name in names}


def _order(runs: Sequence[Run], records: Sequence[Record], notes: _Notes) -> RunRequest:
    """Join the requests: a cell that one run skipped and another ran is not skipped."""
    orders = [run.order for run in runs if run.order]
    skipped = {record.cell.id for record in records if record.verdict is Verdict.SKIP}
    cells: dict[str, Cell] = {}
    skips: dict[str, Skip] = {}
    for order in orders:
        for cell in order.plan.cells:
            cells.setdefault(cell.id, cell)
        for skip in order.plan.skips:
            skips.setdefault(skip.cell.id, skip)
    cells.update((record.cell.id, record.cell) for record in records if record.cell.id in cells)
    inputs: dict[str, str] = {}
    for name, value in (pair for order in orders for pair in order.inputs.items()):
        if inputs.setdefault(name, value) != value:
            notes.add([f"{name}: changed between the runs"], "changed inputs")
    images = dict.fromkeys(image for order in orders for image in order.plan.images)
    plan = Plan(
        cells=tuple(cell for name, cell in cells.items() if name not in skipped),
        skips=tuple(skip for name, skip in skips.items() if name in skipped),
        images=tuple(images),
        part=joined_part(runs),
    )
    elsewhere = (order for order in orders if order.executor != LOCAL or order.cluster)
    place = next(elsewhere, orders[0] if orders else RunRequest(plan=plan))
    return RunRequest(
        plan=plan,
        inputs=inputs,
        locked=bool(orders) and all(order.locked for order in orders),
        allow_empty=bool(orders) and all(order.allow_empty for order in orders) and not _wholes(runs),
        executor=place.executor,
        cluster=place.cluster,
        archive=place.archive,
        offline=place.offline,
        allow_older_release=place.allow_older_release,
        commit=" + ".join(dict.fromkeys(order.commit for order in orders)),
    )


def _wholes(runs: Iterable[Run]) -> dict[tuple[str, ...], list[tuple[Part, Run]]]:
    """Return shards by the cells of all of their shards."""
    wholes: dict[tuple[str, ...], list[tuple[Part, Run]]] = {}
    for run in runs:
        part = part_of(run)
        if part and part.shard:
            wholes.setdefault(tuple(sorted(part.whole)), []).append((part, run))
    return wholes


def _gaps(runs: Sequence[Run], records: Iterable[Record], notes: _Notes) -> tuple[str, ...]:
    """Return cells begun without a record, or of no shard, as noted."""
    have = {record.cell.id for record in records}
    wholes = _wholes(runs)
    counts = {parse_shard(part.shard).count for shards in wholes.values() for part, _ in shards}
    if len(wholes) > 1 or len(counts) > 1:
        notes.add(["the shards are of different plans: their cells differ, or the number of shards"], "plans")
    lacking: dict[str, None] = {}
    for whole, shards in wholes.items():
        numbers = {parse_shard(part.shard).number for part, _ in shards}
        count = parse_shard(shards[0][0].shard).count
        absent = [f"shard {number}/{count} is missing" for number in range(1, count + 1) if number not in numbers]
        notes.add(absent, "missing shards")
        gaps = [name for name in whole if name not in have]
        notes.add((f"{name}: no run has a result of it" for name in gaps), "cells without a result")
        lacking.update(dict.fromkeys(gaps))
    missing = (name for run in runs for name in run.missing if name not in have)
    return tuple(dict.fromkeys((*lacking, *missing)))
