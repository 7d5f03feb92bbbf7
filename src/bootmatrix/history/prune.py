"""Selection of runs to keep, and removal of the others."""

import errno
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from bootmatrix.history.discover import changed_at
from bootmatrix.history.index import LATEST
from bootmatrix.history.values import NO_RESULT, RunLine
from bootmatrix.runs.hold import hold, is_under_way

SIGNED_FOLDER = "signoff"
"""Sign-off folder in a run; a test compares it with signoff.manifest."""
LEFT_ALONE_S = 24 * 3600
"""An unfinished run with a write in this time may still be running."""
REMOVING_SUFFIX = ".removing"


def kept(
    lines: Iterable[RunLine], reports: Path, tags: Mapping[str, str], keep: int, *, unreadable: bool = False
) -> dict[str, str]:
    """Return the runs to keep and the reason, by name.

    `lines` are newest first; `keep` counts the readable ones per title. The others are kept, unless `unreadable`.
    """
    reasons: dict[str, str] = {}
    seen: dict[str, int] = {}
    ordered = list(lines)
    for line in ordered:
        is_usable = line.state not in NO_RESULT
        seen[line.title] = seen.get(line.title, 0) + is_usable
        among = f"among the newest {keep}" if seen[line.title] <= keep else ""
        reason = _reason(line, reports, tags) or (among if is_usable else "" if unreadable else str(line.state))
        if reason:
            reasons[line.name] = reason
    return reasons | _baselines(ordered, reasons)


def _reason(line: RunLine, reports: Path, tags: Mapping[str, str]) -> str:
    named = [tag for tag, name in tags.items() if name == line.name]
    if named:
        return f"tagged {', '.join(named)}"
    if line.name == _latest(reports):
        return "the latest"
    if (reports / line.name / SIGNED_FOLDER).exists():
        return "signed off"
    return "" if line.ended_at else _life(reports / line.name, is_known=line.state not in NO_RESULT)


def _life(folder: Path, *, is_known: bool) -> str:
    """Return a sign that a run is running, or empty; unreadable ones have none."""
    if is_under_way(folder):
        return "running"
    return "may be running" if is_known and time.time() - changed_at(folder) < LEFT_ALONE_S else ""


def _latest(reports: Path) -> str:
    with suppress(OSError):
        return (reports / LATEST).readlink().name
    return ""


def _baselines(lines: Iterable[RunLine], kept_names: Mapping[str, str]) -> dict[str, str]:
    """Return kept runs' baselines, not theirs: that would have no end."""
    return {
        line.baseline: f"the baseline of {line.name}"
        for line in lines
        if line.name in kept_names and line.baseline and line.baseline not in kept_names
    }


def remove_run(folder: Path) -> bool:
    """Remove a run's folder; return False if a process writes to it.

    The folder is renamed first, so that a killed removal leaves no partial run.

    Raises OSError if the folder cannot be removed; then it is whole, unless the disk failed meanwhile.
    """
    doomed = folder.with_name(f".{folder.name}{REMOVING_SUFFIX}")
    if doomed.is_dir():
        shutil.rmtree(doomed)
    with hold(folder) as is_free:
        if is_free:
            _check_removable(folder)
            folder.rename(doomed)
            shutil.rmtree(doomed)
    return bool(is_free)


def _check_removable(folder: Path) -> None:
    """Check that a run may be changed, on its own disk. Raises OSError."""
    device = folder.stat().st_dev
    for place, names, _ in os.walk(folder, onerror=_raise):
        if names and not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        for name in names:
            path = Path(place, name)
            if not path.is_symlink() and path.stat().st_dev != device:
                raise OSError(errno.EBUSY, "another file system is mounted here", str(path))
        if not os.access(place, os.W_OK | os.X_OK) and any(os.scandir(place)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)


def _raise(error: OSError) -> None:
    raise error


def remove_leftovers(reports: Path) -> None:
    """Remove the folders that a killed removal left."""
    for folder in reports.glob(f".*{REMOVING_SUFFIX}"):
        shutil.rmtree(folder, ignore_errors=True)
