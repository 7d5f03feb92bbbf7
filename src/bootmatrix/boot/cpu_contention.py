"""How long a process wanted to run and the host had no core for it: that time is not the guest's fault."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

LEAST_SHARE = 0.2
"""A limit is over after this many times less, however busy the host is, so that every boot comes to an end."""


def starved_s(pid: int, proc: Path = Path("/proc")) -> float:
    """Seconds that the worst-off thread of a process waited in a queue for a core, ready to run, since it began.

    The second number of a thread's schedstat, in nanoseconds (the kernel's Documentation/scheduler/sched-stats). A host
    that does not keep it gives 0.
    """
    waits = [0]
    with suppress(OSError):
        for thread in (proc / str(pid) / "task").iterdir():
            with suppress(OSError, ValueError, IndexError):
                waits.append(int((thread / "schedstat").read_text("ascii").split()[1]))
    return max(waits) / 1e9
