"""Records of cells, built from attempts."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from bootmatrix.boot.phases import guest_phases
from bootmatrix.cell.rejudge import is_expected
from bootmatrix.cell.retry import Attempt
from bootmatrix.fsio import write_atomic
from bootmatrix.judge.attempts import final_judgement
from bootmatrix.judge.result_files import SentFile, UnreadableFile, unpack, without_fetched
from bootmatrix.model import Artefact, AttemptRecord, Cell, CollectedFile, Outcome, Record, ResultFile
from bootmatrix.runs.result_names import FILES_FOLDER, harmless_name, plain_name


def build_record(cell: Cell, attempts: Sequence[Attempt], folder: Path, started_at: datetime, wall_s: float) -> Record:
    """Build the record of a cell from its decisive attempt.

    Raises OSError if it cannot write the files that the guest sent.
    """
    decisive, judgement = final_judgement([attempt.judgement for attempt in attempts])
    attempt = attempts[decisive]
    prepared, outcome = attempt.prepared, attempt.outcome
    bootable = prepared.bootable if prepared else None
    return Record(
        cell=cell,
        judgement=judgement,
        expected=is_expected(cell, judgement.verdict),
        outcome=without_fetched(outcome) if outcome else None,
        kernel=prepared.kernel if prepared else None,
        artefacts=_artefacts(attempt),
        phases=(*(prepared.phases if prepared else ()), *(guest_phases(outcome) if outcome else ())),
        command=attempt.command,
        cmdline=attempt.cmdline,
        qemu_version=attempt.qemu_version,
        console=_console(attempt, folder),
        files=save_files(outcome, folder) if outcome else (),
        notes=bootable.notes if bootable else (),
        boot=attempt.boot,
        cold_reason=attempt.cold_reason,
        verified=attempt.verified,
        attempts=len(attempts),
        attempt_records=tuple(_attempt_record(each, folder) for each in attempts) if len(attempts) > 1 else (),
        started_at=started_at.isoformat(timespec="seconds"),
        wall_s=wall_s,
        spec_sha256=prepared.spec_sha256 if prepared else attempt.user.spec_sha256 if attempt.user else "",
        user_outcome=attempt.user_outcome,
        machine_profile=attempt.machine,
        bootable=bootable,
        host=attempt.host,
    )


def _artefacts(attempt: Attempt) -> tuple[Artefact, ...]:
    if attempt.user:
        return attempt.user.artefacts
    bootable = attempt.prepared.bootable if attempt.prepared else None
    return (*bootable.parts().values(), *bootable.images, *bootable.attached) if bootable else ()


def _attempt_record(attempt: Attempt, folder: Path) -> AttemptRecord:
    return AttemptRecord(
        judgement=attempt.judgement,
        outcome=without_fetched(attempt.outcome) if attempt.outcome else None,
        console=_console(attempt, folder),
        started_at=attempt.started_at.isoformat(timespec="seconds"),
    )


def _console(attempt: Attempt, folder: Path) -> str:
    """Return the console's name; empty without one or without an outcome."""
    exists = attempt.console and (attempt.outcome or (folder / attempt.console).exists())
    return attempt.console if exists else ""


def save_files(outcome: Outcome, folder: Path) -> tuple[ResultFile, ...]:
    """Write a guest's files to `folder`/files, sanitized; add fetched ones."""
    fetched = {(file.container, file.asked) for file in outcome.collected if file.file}
    saved = []
    for number, message in enumerate(message for message in outcome.messages if message.kind == "file"):
        with suppress(UnreadableFile):
            sent = unpack(message)
            if sent.data is not None and (sent.container, sent.path) not in fetched:
                saved.append(_save_file(sent, sent.data, number, folder))
    return (*saved, *(_fetched(file) for file in outcome.collected if file.file))


def _save_file(sent: SentFile, data: bytes, number: int, folder: Path) -> ResultFile:
    # The number stays whole: the ends of two long paths may be equal.
    path = folder / FILES_FOLDER / f"{number}-{harmless_name(plain_name(sent.container, sent.path))}"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, data, durable=False)  # with the record
    return ResultFile(
        container=sent.container,
        path=sent.path,
        file=f"{FILES_FOLDER}/{path.name}",
        size_bytes=sent.size_bytes,
        is_cut=sent.is_cut,
    )


def _fetched(file: CollectedFile) -> ResultFile:
    return ResultFile(
        container=file.container,
        path=file.path,
        file=file.file,
        size_bytes=file.size_bytes,
        is_cut=bool(file.cut),
        is_tree=file.is_tree,
        files=file.files,
        notes=(*((file.cut,) if file.cut else ()), *file.notes),
    )
