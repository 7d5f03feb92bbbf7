"""Consoles of records, read without following links."""

import os
from collections.abc import Iterator
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import open_below
from bootmatrix.model import Record
from bootmatrix.runs.run_store import cell_folder

MAX_CONSOLE_BYTES = 64 << 20
"""More than the console of any boot that bootmatrix records; a larger file is not a console."""


def read_console(folder: Path, record: Record) -> bytes:
    """The console of a record, empty if the cell has none.

    Raises InputError if the file is missing, behind a link, or not a plain file of a plausible size.
    """
    if not record.console:
        return b""
    path = console_path(folder, record)
    if any(map(os.path.islink, _below(str(folder), str(path)))):
        raise InputError(
            f"{path}: the console of {record.cell.id} is a link, or leads out of the run",
            "Copy the run with what its links lead to (cp -rL).",
        )
    if not path.is_file():
        raise InputError(f"{path}: the console of {record.cell.id} is missing", "Copy a run with all that is in it.")
    if path.stat().st_size > MAX_CONSOLE_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, expected a console of at most {MAX_CONSOLE_BYTES}")
    with open_below(folder, path.relative_to(folder).parts, MAX_CONSOLE_BYTES) as file:  # a link may come meanwhile
        return file.read()


def _below(folder: str, path: str) -> Iterator[str]:
    """Yield a path below a folder, and each folder between; a Path is slow."""
    while len(path) > len(folder):
        yield path
        path = path.rpartition("/")[0]


def console_path(folder: Path, record: Record) -> Path:
    """Return the path of a record's console: always beside the record."""
    return cell_folder(folder, record.cell) / Path(record.console).name
