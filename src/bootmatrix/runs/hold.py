"""Locks of runs: the writer of a run holds its first file. Quick to import."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bootmatrix.fsio import open_plain

STARTED_FILE = "started.json"
"""The file in run_store, repeated because importing the model is slow. A test compares them."""
KILLED = "killed"
"""Interruption of a run whose process wrote no end: SIGKILL, out of memory, a power cut."""
DISK_FULL = "disk full"
FULL_FILE = "disk-full"
"""Empty file of a run whose end found no room: its name mostly needs none."""


def end_cause(folder: Path) -> str:
    """Return why a run wrote no end: `disk full`, or else it was killed."""
    return DISK_FULL if (folder / FULL_FILE).exists() else KILLED


def is_under_way(folder: Path) -> bool:
    """Return whether a process writes to a run."""
    with hold(folder) as held:
        return not held


@contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """Hold the writer's lock of a run; False if another process holds it."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_plain(folder / STARTED_FILE))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:  # no such file, or a file system without locks: no other holder is possible
            yield True
        else:
            yield True
