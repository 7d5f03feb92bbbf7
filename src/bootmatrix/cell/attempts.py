"""What the attempts at a cell come to: a judgement for whatever went wrong, a record, and the same again from disk."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bootmatrix.boot.phases import guest_phases
from bootmatrix.errors import BuildError, InfraError, InputError, described
from bootmatrix.fsio import write_atomic
from bootmatrix.judge import judge
from bootmatrix.judge.result_files import UnreadableFile, unpack
from bootmatrix.model import (
    AttemptRecord,
    Bootable,
    BootKind,
    Cell,
    Evidence,
    Judgement,
    Kernel,
    Machine,
    Outcome,
    PhaseTime,
    Record,
    ResultFile,
    Run,
    Verdict,
)
from bootmatrix.qemu.command import CommandLine
from bootmatrix.runs.run_store import CONSOLE_FILE, FILES_FOLDER, read_console

NO_COMMAND = CommandLine((), "")
DIAGNOSIS_FOLDER = "diagnosis"
MAX_FILE_NAME = 120
BUILD_ADVICE = "'bootmatrix validate' checks specs and images, and 'bootmatrix build' repeats this step alone."
INFRA_ADVICE = "This says nothing of the guest. See what 'bootmatrix doctor' says, and run the cell again."
"""What to do next where the error does not know better."""


@dataclass(frozen=True)
class Prepared:
    """A cell that is ready to boot. `kernel` is None for a guest that brings its own."""

    kernel: Kernel | None
    bootable: Bootable
    phases: tuple[PhaseTime, ...]
    spec_sha256: str = ""


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a cell came to; what is None was not reached. `console` is a file in the cell's folder."""

    judgement: Judgement
    started_at: datetime
    console: str = CONSOLE_FILE
    prepared: Prepared | None = None
    machine: Machine | None = None
    outcome: Outcome | None = None
    command: tuple[str, ...] = ()
    cmdline: str = ""
    qemu_version: str = ""
    boot: BootKind = "cold"
    cold_reason: str = ""
    verified: bool = False
    differs: bool = False
    is_lasting: bool = False


@dataclass
class AttemptProgress:
    """How far an attempt came, while it is made."""

    started_at: datetime
    prepared: Prepared | None = None
    machine: Machine | None = None
    line: CommandLine = NO_COMMAND
    qemu_version: str = ""
    boot: BootKind = "cold"
    cold_reason: str = ""
    outcome: Outcome | None = None

    def attempt(self, judgement: Judgement) -> Attempt:
        """What it came to."""
        return Attempt(
            judgement=judgement,
            started_at=self.started_at,
            prepared=self.prepared,
            machine=self.machine,
            outcome=self.outcome,
            command=self.line.arguments,
            cmdline=self.line.cmdline,
            qemu_version=self.qemu_version,
            boot=self.boot,
            cold_reason=self.cold_reason,
        )


def judgement_of(error: Exception) -> Judgement:
    """The verdict that an error amounts to. None of them speaks of the guest."""
    if isinstance(error, BuildError | InputError):
        verdict, reason, advice = Verdict.BUILD_ERROR, error.message, error.hint or BUILD_ADVICE
    elif isinstance(error, InfraError):
        verdict, reason, advice = Verdict.INFRA_ERROR, error.message, error.hint or INFRA_ADVICE
    elif isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        verdict, reason = Verdict.INFRA_ERROR, f"the disk is full: {error}"
        advice = "Free some space, or put the cache elsewhere with BOOTMATRIX_CACHE."
    elif isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        verdict, (reason, advice) = Verdict.INFRA_ERROR, described(error)
    else:
        verdict, reason = Verdict.INFRA_ERROR, f"a fault of bootmatrix itself: {type(error).__name__}: {error}"
        advice = "Please report it, with the trace below.\n" + "".join(traceback.format_exception(error))
    return Judgement(
        verdict=verdict,
        reason=reason,
        advice=advice,
        evidence=(Evidence(source="host", text=type(error).__name__),),
    )


def is_worth_another(cell: Cell, attempts: Sequence[Attempt]) -> bool:
    """Whether a cell is to be tried once more: after a fault of ours, or to see if a guest's failure comes again."""
    verdicts = [attempt.judgement.verdict for attempt in attempts]
    if attempts[-1].differs:  # a copy from a cold guest: a second try might hide it
        return False
    if attempts[-1].is_lasting:  # the host lacks something, and will a moment later too
        return False
    if verdicts[-1] is Verdict.INFRA_ERROR:
        return verdicts.count(Verdict.INFRA_ERROR) <= cell.retries
    if verdicts[-1] is Verdict.PASS or not verdicts[-1].is_guests or cell.expect:
        return False
    return sum(verdict.is_guests for verdict in verdicts) <= cell.flaky


def keep_console(folder: Path, number: int) -> str:
    """Put the console of an attempt out of the next one's way; its new name, empty if there is none."""
    console, kept = folder / CONSOLE_FILE, folder / f"console-{number}.log"
    if not console.exists():
        return ""
    console.replace(kept)
    return kept.name


def keep_diagnosis(folder: Path, number: int, outcome: Outcome | None) -> Outcome | None:
    """Put what is known of a stuck guest out of the next attempt's way; the outcome with the new names."""
    kept = f"{DIAGNOSIS_FOLDER}-{number}"
    if outcome is None or not (folder / DIAGNOSIS_FOLDER).is_dir():
        return outcome
    (folder / DIAGNOSIS_FOLDER).replace(folder / kept)
    moved = (
        one.model_copy(update={"file": f"{kept}/{Path(one.file).name}"}) if one.file else one
        for one in outcome.diagnostics
    )
    return outcome.model_copy(update={"diagnostics": tuple(moved)})


def settle(judgements: Sequence[Judgement]) -> tuple[int, Judgement]:
    """What all attempts come to: the index of the one to be told of, and the judgement.

    Of attempts that came to a guest's end, the others say nothing. A cell that passed and also failed is flaky: never a
    pass, however often it passed.
    """
    spoken = [index for index, one in enumerate(judgements) if one.verdict.is_guests]
    failed = [index for index in spoken if judgements[index].verdict is not Verdict.PASS]
    if not spoken:
        return len(judgements) - 1, judgements[-1]
    if not failed or len(failed) == len(spoken):
        return spoken[0], judgements[spoken[0]]
    return failed[0], _flaky([judgements[index] for index in spoken], judgements[failed[0]])


def _flaky(judgements: Sequence[Judgement], failure: Judgement) -> Judgement:
    verdicts = [one.verdict for one in judgements]
    failed = f"{len(verdicts) - verdicts.count(Verdict.PASS)} of {len(verdicts)} boots failed"
    found = Evidence(source="host", text=f"boots, all of the same files: {', '.join(verdicts)}")
    return failure.model_copy(
        update={
            "verdict": Verdict.FLAKY,
            "reason": f"{failed}, the first one with {failure.verdict}: {failure.reason}",
            "evidence": (found, *failure.evidence),
            "advice": f"The same files passed and failed: a race, or a host that was slow. {failure.advice}".strip(),
        }
    )


def is_expected(cell: Cell, verdict: Verdict) -> bool:
    """Whether a verdict is what the matrix expects: a pass, or a failure of the guest that `expect` names.

    What is flaky never is: it can neither be relied on nor be known to fail.
    """
    if verdict is Verdict.SKIP:
        return True
    if cell.expect:
        return verdict.is_guests and verdict not in {Verdict.PASS, Verdict.FLAKY}
    return verdict is Verdict.PASS


def record_of(cell: Cell, attempts: Sequence[Attempt], folder: Path, started_at: datetime, wall_s: float) -> Record:
    """The record of a cell, about the attempt that its verdict rests on; what the others left is named in it.

    Raises:
        OSError: the files that the guest sent cannot be written.
    """
    told, judgement = settle([attempt.judgement for attempt in attempts])
    attempt = attempts[told]
    prepared, outcome = attempt.prepared, attempt.outcome
    bootable = prepared.bootable if prepared else None
    return Record(
        cell=cell,
        judgement=judgement,
        expected=is_expected(cell, judgement.verdict),
        outcome=outcome,
        kernel=prepared.kernel if prepared else None,
        artefacts=(*bootable.parts().values(), *bootable.images, *bootable.attached) if bootable else (),
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
        tries=tuple(_try(one, folder) for one in attempts) if len(attempts) > 1 else (),
        started_at=started_at.isoformat(timespec="seconds"),
        wall_s=wall_s,
        spec_sha256=prepared.spec_sha256 if prepared else "",
        machine_profile=attempt.machine,
        bootable=bootable,
    )


def _try(attempt: Attempt, folder: Path) -> AttemptRecord:
    return AttemptRecord(
        judgement=attempt.judgement,
        outcome=attempt.outcome,
        console=_console(attempt, folder),
        started_at=attempt.started_at.isoformat(timespec="seconds"),
    )


def _console(attempt: Attempt, folder: Path) -> str:
    """The console's name, if there is one: what has an outcome was judged by it."""
    is_there = attempt.console and (attempt.outcome or (folder / attempt.console).exists())
    return attempt.console if is_there else ""


def save_files(outcome: Outcome, folder: Path) -> tuple[ResultFile, ...]:
    """Write the files that the guest sent below `folder`/files; none of its names becomes a name here as it is."""
    saved = []
    for number, message in enumerate(message for message in outcome.messages if message.kind == "file"):
        with suppress(UnreadableFile):
            sent = unpack(message)
            if sent.data is None:
                continue
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{sent.container}{sent.path}")[-MAX_FILE_NAME:]
            # The number is never cut off: two long paths may end alike.
            path = folder / FILES_FOLDER / f"{number}-{name}"
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, sent.data, durable=False)  # with the record
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
        if record.tries:
            yield record, settle([_again(record, one, folder) for one in record.tries])[1]
        else:
            transcript = read_console(folder, record)
            yield record, judge(record.outcome, record.machine_profile, record.bootable, transcript)


def _again(record: Record, one: AttemptRecord, folder: Path) -> Judgement:
    """The judgement on one attempt of a record; that of an attempt which came to no boot stands."""
    if one.outcome is None or record.machine_profile is None or record.bootable is None:
        return one.judgement
    transcript = read_console(folder, record.model_copy(update={"console": one.console}))
    return judge(one.outcome, record.machine_profile, record.bootable, transcript)
