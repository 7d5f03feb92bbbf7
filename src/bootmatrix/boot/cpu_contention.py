"""CPU contention: time that a process was ready to run without a host core."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

LEAST_SHARE = 0.2
"""A limit expires after this many times less, on any host, so that every boot ends."""


def starved_s(pid: int, proc: Path = Path("/proc")) -> float:
    """Return the run queue wait of a process's most delayed thread, in seconds.

    The second number of a thread's schedstat, in nanoseconds (the kernel's Documentation/scheduler/sched-stats). 0 on a
    host without it.
    """
    waits = [0]
    with suppress(OSError):
        for thread in (proc / str(pid) / "task").iterdir():
            with suppress(OSError, ValueError, IndexError):
                waits.append(int((thread / "schedstat").read_text("ascii").split()[1]))
    return max(waits) / 1e9
