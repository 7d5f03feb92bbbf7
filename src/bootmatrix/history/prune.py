"""Which runs are kept, and how the others are removed."""

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
"""In a run's folder: what signs it off; a test compares it with the name there."""
LEFT_ALONE_S = 24 * 3600
"""A run without an end may be under way if something was written within this time."""
REMOVING_SUFFIX = ".removing"


def kept(lines: Iterable[RunLine], reports: Path, tags: Mapping[str, str], keep: int) -> dict[str, str]:
    """The runs to keep, by name, with the reason. Of each title the newest `keep`; `lines` are newest first."""
    found: dict[str, str] = {}
    seen: dict[str, int] = {}
    ordered = list(lines)
    for line in ordered:
        seen[line.title] = seen.get(line.title, 0) + 1
        reason = _reason(line, reports, tags) or (f"among the newest {keep}" if seen[line.title] <= keep else "")
        if reason:
            found[line.name] = reason
    return found | _baselines(ordered, found)


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
    """The signs of life of a run without an end: one that is taken up again has none any more."""
    if is_under_way(folder):
        return "under way"
    return "may be under way" if time.time() - changed_at(folder) < LEFT_ALONE_S else ""


def _latest(reports: Path) -> str:
    with suppress(OSError):
        return (reports / LATEST).readlink().name
    return ""


def _baselines(lines: Iterable[RunLine], found: Mapping[str, str]) -> dict[str, str]:
    """What a kept run was compared with, and what that one was compared with: newest first, so that one pass does."""
    wanted: dict[str, str] = {}
    for line in lines:
        if (line.name in found or line.name in wanted) and line.baseline and line.baseline not in found:
            wanted[line.baseline] = f"the baseline of {line.name}"
    return wanted


def is_under_way(folder: Path) -> bool:
    """Whether a process writes to a run."""
    with _hold(folder) as held:
        return not held


@contextmanager
def _hold(folder: Path) -> Iterator[bool]:
    """Keep others from writing to a run: by the lock that its writer has. False if one has it now."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((folder / STARTED_FILE).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:  # no such file, or a file system without locks: nobody could have one
            yield True
        else:
            yield True


def remove_run(folder: Path) -> bool:
    """Remove a run's folder, but not from under one that writes to it: False then.

    It vanishes at once, so that one who is killed meanwhile leaves no half of a run.

    Raises:
        OSError: it cannot be removed.
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
    """What an earlier removal left when it was killed."""
    for folder in reports.glob(f".*{REMOVING_SUFFIX}"):
        shutil.rmtree(folder, ignore_errors=True)
