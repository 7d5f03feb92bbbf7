"""Selection of runs to keep, and removal of the others."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bootmatrix.history.discover import STARTED_FILE, changed_at
from bootmatrix.history.index import LATEST
from bootmatrix.history.values import RunLine

SIGNED_FOLDER = "signoff"
"""Sign-off folder in a run; a test compares it with signoff.manifest."""
LEFT_ALONE_S = 24 * 3600
"""An unfinished run with a write in this time may still be running."""
REMOVING_SUFFIX = ".removing"


def kept(lines: Iterable[RunLine], reports: Path, tags: Mapping[str, str], keep: int) -> dict[str, str]:
    """Return the runs to keep and the reason, by name. `lines` are newest first; `keep` counts per title."""
    reasons: dict[str, str] = {}
    seen: dict[str, int] = {}
    ordered = list(lines)
    for line in ordered:
        seen[line.title] = seen.get(line.title, 0) + 1
        reason = _reason(line, reports, tags) or (f"among the newest {keep}" if seen[line.title] <= keep else "")
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
    return "" if line.ended_at else _life(reports / line.name)


def _life(folder: Path) -> str:
    """Return a sign that an unfinished run is running, or empty."""
    if is_under_way(folder):
        return "running"
    return "may be running" if time.time() - changed_at(folder) < LEFT_ALONE_S else ""


def _latest(reports: Path) -> str:
    with suppress(OSError):
        return (reports / LATEST).readlink().name
    return ""


def _baselines(lines: Iterable[RunLine], kept_names: Mapping[str, str]) -> dict[str, str]:
    """Return the baselines of kept runs, and their baselines. One pass suffices: newest first."""
    baselines: dict[str, str] = {}
    for line in lines:
        if (line.name in kept_names or line.name in baselines) and line.baseline and line.baseline not in kept_names:
            baselines[line.baseline] = f"the baseline of {line.name}"
    return baselines


def is_under_way(folder: Path) -> bool:
    """Return whether a process writes to a run."""
    with _hold(folder) as held:
        return not held


@contextmanager
def _hold(folder: Path) -> Iterator[bool]:
    """Hold the writer's lock of a run; False if another process holds it."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((folder / STARTED_FILE).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:  # no such file, or a file system without locks: no other holder is possible
            yield True
        else:
            yield True


def remove_run(folder: Path) -> bool:
    """Remove a run's folder; return False if a process writes to it.

    The folder is renamed first, so that a killed removal leaves no partial run.

    Raises:
        OSError: the folder cannot be removed.
    """
    doomed = folder.with_name(f".{folder.name}{REMOVING_SUFFIX}")
    if doomed.is_dir():
        shutil.rmtree(doomed)
    with _hold(folder) as held:
        if held:
            folder.rename(doomed)
            shutil.rmtree(doomed)
    return held


def remove_leftovers(reports: Path) -> None:
    """Remove the folders that a killed removal left."""
    for folder in reports.glob(f".*{REMOVING_SUFFIX}"):
        shutil.rmtree(folder, ignore_errors=True)
