"""Attempts at a cell: verdicts for errors, retries, and the final judgement."""

import errno
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from bootmatrix.cell.user_tier import UserCell
from bootmatrix.errors import BuildError, InfraError, InputError, described
from bootmatrix.model import (
    Bootable,
    BootKind,
    Cell,
    CollectedFile,
    Diagnostic,
    Evidence,
    Judgement,
    Kernel,
    Machine,
    Outcome,
    PhaseTime,
    Verdict,
)
from bootmatrix.model.user_tier import UserOutcome
from bootmatrix.runs.result_names import FILES_FOLDER
from bootmatrix.runs.run_store import CONSOLE_FILE

DIAGNOSIS_FOLDER = "diagnosis"
BUILD_ADVICE = "'bootmatrix validate' checks specs and images, and 'bootmatrix build' repeats this step alone."
INFRA_ADVICE = "This says nothing about the guest. Check the output of 'bootmatrix doctor', and run the cell again."
"""Advice for errors without a hint."""
MovedFile = TypeVar("MovedFile", Diagnostic, CollectedFile)
NOT_JUDGED = Judgement(verdict=Verdict.INFRA_ERROR, reason="interrupted")


@dataclass(frozen=True)
class Prepared:
    """A cell ready to boot; `kernel` is None if the guest has its own."""

    kernel: Kernel | None
    bootable: Bootable
    phases: tuple[PhaseTime, ...]
    spec_sha256: str = ""


@dataclass
class Attempt:
    """One attempt at a cell, filled in stage by stage; later stages are None.

    `console` is a file in the cell's folder. `differs`: a cold boot had another judgement. `is_lasting`: a retry would
    fail in the same way.
    """

    started_at: datetime
    judgement: Judgement = NOT_JUDGED
    console: str = CONSOLE_FILE
    prepared: Prepared | None = None
    machine: Machine | None = None
    outcome: Outcome | None = None
    user: UserCell | None = None
    user_outcome: UserOutcome | None = None
    host: str = ""
    command: tuple[str, ...] = ()
    cmdline: str = ""
    qemu_version: str = ""
    boot: BootKind = "cold"
    cold_reason: str = ""
    verified: bool = False
    differs: bool = False
    is_lasting: bool = False


def judge_error(error: Exception) -> Judgement:
    """Convert an error to a judgement, which never blames the guest."""
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
        verdict=verdict, reason=reason, advice=advice, evidence=(Evidence(source="host", text=type(error).__name__),)
    )


def should_retry(cell: Cell, attempts: Sequence[Attempt]) -> bool:
    """Return whether to retry a cell.

    Faults of the host are retried, and failures of the guest are confirmed.
    """
    last = attempts[-1]
    verdicts = [attempt.judgement.verdict for attempt in attempts]
    if last.differs or last.is_lasting:  # a retry could hide the difference, or would fail again
        return False
    if verdicts[-1] is Verdict.INFRA_ERROR:
        return verdicts.count(Verdict.INFRA_ERROR) <= cell.retries
    if verdicts[-1] is Verdict.PASS or not verdicts[-1].is_guests or cell.expect:
        return False
    return sum(verdict.is_guests for verdict in verdicts) <= cell.flaky


def keep_console(folder: Path, number: int) -> str:
    """Rename the console of an attempt; return its new name, empty without one."""
    console, kept = folder / CONSOLE_FILE, folder / f"console-{number}.log"
    if not console.exists():
        return ""
    console.replace(kept)
    return kept.name


def keep_output(folder: Path, number: int, outcome: Outcome | None) -> Outcome | None:
    """Rename diagnosis and fetched files; return the outcome with their names."""
    for name, kind in ((DIAGNOSIS_FOLDER, "diagnostics"), (FILES_FOLDER, "collected")):
        if outcome and (folder / name).is_dir():
            kept = (folder / name).replace(folder / f"{name}-{number}").name
            moved = tuple(_moved(item, kept) for item in getattr(outcome, kind))
            outcome = outcome.model_copy(update={kind: moved})
    return outcome


def _moved(item: MovedFile, folder: str) -> MovedFile:
    return item.model_copy(update={"file": f"{folder}/{Path(item.file).name}"}) if item.file else item
