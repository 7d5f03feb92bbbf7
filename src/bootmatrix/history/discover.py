"""Discovery of runs in a folder, and of their changes."""

import os
import re
from contextlib import suppress
from pathlib import Path

from bootmatrix.runs.cell_folders import cell_folders

# The names in runs.run_store, repeated because importing the model is slow. A test compares them.
RUN_FILE = "run.json"
STARTED_FILE = "started.json"
RECORD_FILE = "record.json"
CELLS_FOLDER = "cells"
OWN_NAMES = frozenset({"latest", "tags"})
"""Names beside runs. A `latest` that is a folder is a copy of another run, by a tool that follows links."""
NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-.+", re.ASCII)
"""Name of a run's folder, as run_store makes it."""

Stamps = dict[str, str]
"""A value per run folder that changes with the run's files."""


def stamps_of(reports: Path) -> Stamps:
    """Return the stamps of a folder's runs, links ignored.

    Raises OSError if the folder cannot be read.
    """
    stamps = {}
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(reports) as entries:
        for entry in entries:
            is_own = entry.name.startswith(".") or entry.name in OWN_NAMES
            if is_own or not entry.is_dir(follow_symlinks=False) or not _is_text(entry.name):
                continue
            stamp = _stamp(entry.path)
            if stamp:
                stamps[entry.name] = stamp
    return stamps


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run, finished or not."""
    return (folder / RUN_FILE).is_file() or (folder / STARTED_FILE).is_file()


def changed_at(folder: Path) -> float:
    """Return an unfinished run's last write, in s since the epoch."""
    times = _record_times(str(folder))
    with suppress(OSError):
        times.append((folder / STARTED_FILE).stat().st_mtime_ns)
    return max(times, default=0) / 1e9


def _stamp(folder: str) -> str:
    """Return a run's stamp, changed by each record; empty if not a run."""
    try:
        return _of_file(os.stat(f"{folder}/{RUN_FILE}"))  # noqa: PTH116
    except PermissionError:
        return "not readable" if NAME.fullmatch(folder.rpartition("/")[2]) else ""
    except OSError:
        pass
    with suppress(OSError):
        began = _of_file(os.stat(f"{folder}/{STARTED_FILE}"))  # noqa: PTH116
        times = _record_times(folder)
        return f"{began} {len(times)} {max(times, default=0)}"
    return ""


def _record_times(folder: str) -> list[int]:
    """Return when each record of a run was written, in ns since the epoch."""
    times = []
    for cell in cell_folders(f"{folder}/{CELLS_FOLDER}"):
        with suppress(OSError):
            times.append(os.stat(f"{cell}/{RECORD_FILE}").st_mtime_ns)  # noqa: PTH116
    return times


def _is_text(name: str) -> bool:
    """Return whether a name is valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_file(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"
