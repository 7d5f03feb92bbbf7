"""Which runs a folder holds, and whether they changed since they were read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootmatrix.history.values import RunResults

# The names of runs.py, which takes a model with it that is too long in coming for a quick answer. A test compares them.
RUN_FILE = "run.json"
STARTED_FILE = "started.json"
RECORD_FILE = "record.json"
CELLS_FOLDER = "cells"

Stamps = dict[str, str]
"""By the name of a run's folder: something that changes whenever what is written there does."""


def stamps_of(reports: Path) -> Stamps:
    """All runs in a folder; none if there is no such folder. Links, such as `latest`, are no runs of their own.

    Raises:
        OSError: it cannot be read.
    """
    found = {}
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(reports) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False) or not _is_text(entry.name):
                continue
            stamp = _stamp(entry.path)
            if stamp:
                found[entry.name] = stamp
    return found


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, ended or not."""
    return (folder / RUN_FILE).is_file() or (folder / STARTED_FILE).is_file()


def changed_at(folder: Path) -> float:
    """When something was last written to a run that has not ended, as a time of the epoch."""
    files = [folder / STARTED_FILE, *(folder / CELLS_FOLDER).glob(f"*/*/*/*/{RECORD_FILE}")]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def _stamp(folder: str) -> str:
    """Empty for what is no run. One that has not ended yet changes with each of its records."""
    with suppress(OSError):
        return _of_file(os.stat(f"{folder}/{RUN_FILE}"))  # noqa: PTH116
    with suppress(OSError):
        began = _of_file(os.stat(f"{folder}/{STARTED_FILE}"))  # noqa: PTH116
        records = [file.stat() for file in Path(folder, CELLS_FOLDER).glob(f"*/*/*/*/{RECORD_FILE}")]
        newest = max((one.st_mtime_ns for one in records), default=0)
        return f"{began} {len(records)} {newest}"
    return ""


def _is_text(name: str) -> bool:
    """Whether a name can be kept: one that is no UTF-8 is none of ours."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_file(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"


def read_run(folder: Path) -> RunResults | str:
    """A run, or why it cannot be read."""
    from bootmatrix.errors import InputError
    from bootmatrix.history.extract import results_of
    from bootmatrix.runs.run_store import load_run

    try:
        return results_of(load_run(folder), folder.name)
    except InputError as error:
        return error.message
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
