"""Consistency check of a run's files before its sign-off."""

from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.model import Record, Run
from bootmatrix.runs.consoles import console_path
from bootmatrix.runs.run_json import read_run, read_value
from bootmatrix.runs.run_store import CELLS_FOLDER, RECORD_FILE, RUN_FILE, STARTED_FILE, cell_folder

_KEPT = ("name", "title", "tool_version", "started_at", "host", "baseline", "order")
"""Values of a run that `started.json` contains too."""
_HINT = "Run the cells again: a run whose files contradict each other proves nothing."


def check_agreement(folder: Path, run: Run) -> None:
    """Compare `run.json` with the folder, `started.json`, and the records.

    Raises InputError if two of them differ, or one is missing.
    """
    name = folder.resolve().name
    if run.name != name:
        raise InputError(
            f"{folder}: the run's name is {run.name!r}, but its folder's is {name!r}",
            "Rename the folder; a sign-off is for one run.",
        )
    _check_end(folder, run)
    _check_start(folder, run)
    _check_records(folder, run)


def _check_end(folder: Path, run: Run) -> None:
    """Compare `run.json`, if any, with the run rebuilt from its records."""
    file = folder / RUN_FILE
    if not file.exists():
        return
    saved = read_run(file)
    for field in (*_KEPT, "ended_at", "interrupted", "unfinished", "records"):
        if getattr(saved, field) != getattr(run, field):
            raise InputError(f"{file}: {field!r} differs from {CELLS_FOLDER}/ and {STARTED_FILE}", _HINT)


def _check_start(folder: Path, run: Run) -> None:
    file = folder / STARTED_FILE
    if not file.exists():
        raise InputError(f"{file}: missing, so that {RUN_FILE} cannot be compared with it", _HINT)
    started = read_value(file, Run)
    for field in _KEPT:
        if getattr(started, field) != getattr(run, field):
            raise InputError(f"{file}: {field!r} differs from {RUN_FILE}", _HINT)


def _check_records(folder: Path, run: Run) -> None:
    files: set[Path] = set()
    for record in run.records:
        file = cell_folder(folder, record.cell) / RECORD_FILE
        if file in files:
            raise InputError(f"{folder / RUN_FILE}: two records of {record.cell.id}", _HINT)
        files.add(file)
        if not file.is_file():
            raise InputError(f"{file}: missing, but {RUN_FILE} has this cell", _HINT)
        if read_value(file, Record) != record:
            raise InputError(f"{file}: differs from the record of {record.cell.id} in {RUN_FILE}", _HINT)
        _check_files(folder, record)
    for file in sorted((folder / CELLS_FOLDER).rglob(RECORD_FILE)):
        if file not in files and file.stat().st_size:
            raise InputError(f"{file}: not in {RUN_FILE}", _HINT)


def _check_files(folder: Path, record: Record) -> None:
    """Check that the files named in a record exist."""
    consoles = [console_path(folder, record)] if record.console else []
    attempts = record.attempt_records
    consoles += [cell_folder(folder, record.cell) / Path(entry.console).name for entry in attempts if entry.console]
    left = cell_folder(folder, record.cell)
    names = (Path(entry.file) for entry in record.files)
    for file in (*consoles, *(left / name.parent.name / name.name for name in names)):
        if not file.is_file():
            raise InputError(f"{file}: missing, but named in the record of {record.cell.id}", _HINT)
