"""Verdicts of a saved run, compared with their own evidence."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

from bootmatrix.cell.rejudge import is_expected, rejudge
from bootmatrix.errors import InputError
from bootmatrix.model import Cell, Judgement, Record, Run, Verdict
from bootmatrix.operating_system import core_count
from bootmatrix.runs.run_store import RECORD_FILE, RUN_FILE, cell_folder

HINT = f"If it was changed or damaged, remove it and {RUN_FILE}: --resume then runs the cell again."
COMPARED = ("verdict", "is_weak", "privileged")
"""Parts of a judgement on which readers of a summary rely."""
MANY_CELLS = 1000
"""From so many on, judging takes longer than starting processes for it."""


@contextmanager
def checking(runs: Sequence[tuple[Run, Path]]) -> Iterator[None]:
    """Check the verdicts of runs; many on all cores while the block runs.

    Raises InputError as `check_verdicts` does, before the block or at its end.
    """
    workers = min(core_count(), len(runs))
    is_large = sum(len(run.records) for run, _ in runs) >= MANY_CELLS
    # A lock of another thread would stay locked in a child.
    if not is_large or workers == 1 or threading.active_count() > 1:
        _check_each(runs)
        yield
        return
    with _children([runs[number::workers] for number in range(workers)]) as have_passed:
        yield
        if not have_passed():
            _check_each(runs)


def _check_each(runs: Iterable[tuple[Run, Path]]) -> None:
    for run, folder in runs:
        check_verdicts(run, folder)


@contextmanager
def _children(shares: Sequence[Sequence[tuple[Run, Path]]]) -> Iterator[Callable[[], bool]]:
    """Check each share in a process; forked ones have the runs already."""
    fork = get_context("fork")
    passed = [fork.Event() for _ in shares]
    children = [fork.Process(target=_check_share, args=pair, daemon=True) for pair in zip(shares, passed, strict=True)]

    def have_passed() -> bool:
        for child in children:
            child.join()
        return all(event.is_set() for event in passed)

    try:
        for child in children:
            child.start()
        yield have_passed
    finally:
        for child in children:
            child.kill()
            child.join()


def _check_share(share: Sequence[tuple[Run, Path]], passed: Event) -> None:
    """Tell of a pass only: the parent finds and tells any fault by itself."""
    with suppress(Exception, KeyboardInterrupt):
        _check_each(share)
        passed.set()


def check_verdicts(run: Run, folder: Path) -> None:
    """Judge all cells of a saved run again, and compare.

    Guards against damage and edited verdicts, and not against somebody who edits the evidence as well.

    Raises InputError if a verdict is not what its evidence says, or a console is missing.
    """
    planned = {cell.id: cell for cell in run.order.plan.cells} if run.order else {}
    twice = next((name for name, times in Counter(record.cell.id for record in run.records).items() if times > 1), "")
    if twice:
        raise InputError(f"{folder}: two records of {twice}", HINT)
    again = {record.cell.id: judgement for record, judgement in rejudge(run, folder)}
    for record in run.records:
        fault = next(_faults(record, planned.get(record.cell.id), again.get(record.cell.id)), "")
        if fault:
            raise InputError(f"{cell_folder(folder, record.cell) / RECORD_FILE}: {fault}", HINT)


def _differences(planned: Cell, cell: Cell) -> Iterator[str]:
    return (name for name in Cell.model_fields if getattr(planned, name) != getattr(cell, name))


def _faults(record: Record, planned: Cell | None, again: Judgement | None) -> Iterator[str]:
    verdict = record.verdict
    if record.expected != is_expected(record.cell, verdict):
        word = "as expected" if record.expected else "unexpected"
        yield f"it says that its verdict, {verdict}, is {word}, and its cell does not"
    is_booted_skip = verdict is Verdict.SKIP and record.outcome is not None  # its tests found what they need missing
    if planned and verdict is Verdict.SKIP and not is_booted_skip:
        yield "it says that its cell was skipped, and the run's plan does not"
    if planned and planned.expect != record.cell.expect:
        yield "its known failures (xfail) are not those of the run's plan"
    elif planned and planned != record.cell:
        yield f"its cell is not as the run's plan has it: {', '.join(_differences(planned, record.cell))} differs"
    yield from _faults_of_tier(record)
    if not (verdict.is_guests or is_booted_skip) and (record.cell.tier == "user" or not verdict.is_tested):
        return  # what blames us is no claim about the guest, and never as expected
    bare = [
        attempt for attempt in record.attempt_records if attempt.judgement.verdict.is_guests and attempt.outcome is None
    ]
    if again is None or bare:
        yield f"it says {verdict}, without the boot that this would rest on"
    elif again.verdict is not verdict:
        yield f"it says {verdict}, and its evidence {again.verdict}: {' '.join(again.reason.split())[:200]}"
    elif any(getattr(again, name) != getattr(record.judgement, name) for name in COMPARED):
        yield f"it says {verdict} without the reservations that its evidence gives: {again.reason[:200]}"


def _faults_of_tier(record: Record) -> Iterator[str]:
    """Yield why a verdict does not fit the tier of its cell."""
    verdict, tier = record.verdict, record.cell.tier
    observed = record.user_outcome if tier == "user" else record.outcome
    if verdict.is_user_tier and (tier == "system" or (verdict.is_tested and observed is None)):
        yield f"it says {verdict}, without a run in the user tier"
    if verdict.is_guests and tier != "system":
        yield f"it says {verdict}, and the {tier} tier boots no guest"
