"""Check that all files of a run say the same, before it is signed off."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.model import Record, Run
from bootmatrix.runs.run_json import read_run, read_value
from bootmatrix.runs.run_store import (
    CELLS_FOLDER,
    FILES_FOLDER,
    RECORD_FILE,
    RUN_FILE,
    STARTED_FILE,
    cell_folder,
    console_path,
)

_KEPT = ("name", "title", "tool_version", "started_at", "host", "baseline", "order")
"""What a run keeps from its beginning, as `started.json` has it."""
_HINT = "Run the cells again: a run whose files contradict each other proves nothing."


def check_agreement(folder: Path, run: Run) -> None:
    """Hold `run.json` against the folder's name, `started.json`, and each cell's record with its files.

    Raises:
        InputError: two of them differ, or one is missing.
    """
    name = folder.resolve().name
    if run.name != name:
        raise InputError(
            f"{folder}: the run says that its name is {run.name!r}, and its folder's is {name!r}",
            "Give the folder its name back; a sign-off is of one run.",
        )
    _check_end(folder, run)
    _check_start(folder, run)
    _check_records(folder, run)


def _check_end(folder: Path, run: Run) -> None:
    """Hold `run.json`, if there is one, against the run, which of a killed one is put together from its records."""
    file = folder / RUN_FILE
    if not file.exists():
        return
    found = read_run(file)
    for field in (*_KEPT, "ended_at", "interrupted", "unfinished", "records"):
        if getattr(found, field) != getattr(run, field):
            raise InputError(f"{file}: {field!r} differs from what {CELLS_FOLDER}/ and {STARTED_FILE} come to", _HINT)


def _check_start(folder: Path, run: Run) -> None:
    file = folder / STARTED_FILE
    if not file.exists():
        raise InputError(f"{file}: is missing, and {RUN_FILE} cannot be held against it", _HINT)
    started = read_value(file, Run)
    for field in _KEPT:
        if getattr(started, field) != getattr(run, field):
            raise InputError(f"{file}: {field!r} differs from that of {RUN_FILE}", _HINT)


def _check_records(folder: Path, run: Run) -> None:
    known: set[Path] = set()
    for record in run.records:
        file = cell_folder(folder, record.cell) / RECORD_FILE
        if file in known:
            raise InputError(f"{folder / RUN_FILE}: has two records of {record.cell.id}", _HINT)
        known.add(file)
        if not file.is_file():
            raise InputError(f"{file}: is missing, and {RUN_FILE} has this cell", _HINT)
        if read_value(file, Record) != record:
            raise InputError(f"{file}: differs from the record of {record.cell.id} in {RUN_FILE}", _HINT)
        _check_files(folder, record)
    for file in sorted((folder / CELLS_FOLDER).rglob(RECORD_FILE)):
        if file not in known and file.stat().st_size:
            raise InputError(f"{file}: {RUN_FILE} has no such cell", _HINT)


def _check_files(folder: Path, record: Record) -> None:
    """See that the evidence which a record names is there."""
    consoles = [console_path(folder, record)] if record.console else []
    consoles += [
        cell_folder(folder, record.cell) / Path(one.console).name for one in record.attempt_records if one.console
    ]
    left = cell_folder(folder, record.cell) / FILES_FOLDER
    for file in (*consoles, *(left / Path(one.file).name for one in record.files)):
        if not file.is_file():
            raise InputError(f"{file}: is missing, and the record of {record.cell.id} names it", _HINT)
