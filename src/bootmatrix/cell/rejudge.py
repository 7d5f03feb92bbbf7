"""Saved runs judged again, without what boots or builds anything."""

from collections.abc import Iterator
from pathlib import Path

from bootmatrix.judge import judge
from bootmatrix.judge.attempts import final_judgement
from bootmatrix.judge.elsewhere import judge_signed
from bootmatrix.model import AttemptRecord, Cell, Judgement, Outcome, Record, Run, Verdict
from bootmatrix.runs.consoles import read_console
from bootmatrix.runs.result_names import file_reader
from bootmatrix.runs.run_store import cell_folder


def is_expected(cell: Cell, verdict: Verdict) -> bool:
    """Return whether the matrix expects a verdict.

    Expected are a pass, or a failure of the guest if the cell has `expect`. A flaky cell is never expected: it neither
    passes nor fails reliably. In the user tier a known failure may pass: it may be one of a kernel.
    """
    if verdict in {Verdict.SKIP, Verdict.USER_PASS}:
        return True
    if verdict is Verdict.USER_FAIL:
        return bool(cell.expect)
    if cell.expect:
        return verdict.is_guests and verdict not in {Verdict.PASS, Verdict.FLAKY}
    return verdict is Verdict.PASS


def rejudge(run: Run, folder: Path) -> Iterator[tuple[Record, Judgement]]:
    """Judge a saved run again. Raises InputError if a console is missing."""
    for record in run.records:
        if record.outcome is None or not _can_judge(record):
            continue
        if record.attempt_records:
            yield record, final_judgement([_rejudge(record, each, folder) for each in record.attempt_records])[1]
        else:
            yield record, _judge(record, record.outcome, read_console(folder, record), folder)


def _can_judge(record: Record) -> bool:
    """Return whether a record has the inputs of its verdict."""
    return record.bootable is not None and (record.machine_profile is not None or record.cell.tier != "system")


def _rejudge(record: Record, attempt: AttemptRecord, folder: Path) -> Judgement:
    """Judge one attempt again. An attempt without a boot keeps its judgement."""
    if attempt.outcome is None or not _can_judge(record):
        return attempt.judgement
    transcript = read_console(folder, record.model_copy(update={"console": attempt.console}))
    return _judge(record, attempt.outcome, transcript, folder)


def _judge(record: Record, outcome: Outcome, transcript: bytes, folder: Path) -> Judgement:
    assert record.bootable
    if record.machine_profile is None:
        return judge_signed(record.cell.kernel, outcome, record.bootable, transcript)
    return judge(
        outcome, record.machine_profile, record.bootable, transcript, file_reader(cell_folder(folder, record.cell))
    )
