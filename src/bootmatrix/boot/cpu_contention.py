"""CPU contention: time that a process was ready to run without a host core."""

from contextlib import suppress
from pathlib import Path

LEAST_SHARE = 0.2
"""A limit expires after this many times less, on any host, so that every boot ends."""


STEP_S = 1.0
"""Growth between two points of a meter."""
MAX_POINTS = 500


def waits_s(pid: int, proc: Path = Path("/proc")) -> dict[str, float]:
    """Return each thread's run queue wait in seconds, by thread id.

    The second number of a thread's schedstat, in nanoseconds (the kernel's Documentation/scheduler/sched-stats). Empty
    on a host without it.
    """
    waits = {}
    with suppress(OSError):
        for thread in (proc / str(pid) / "task").iterdir():
            with suppress(OSError, ValueError, IndexError):
                waits[thread.name] = int((thread / "schedstat").read_text("ascii").split()[1]) / 1e9
    return waits


class StarvationMeter:
    """Sum up a process's time without a core from periodic samples, in seconds.

    Between two samples, the most delayed thread counts. `points` are moments, each with `total_s`; their number is
    bounded.
    """

    def __init__(self) -> None:
        self.total_s = 0.0
        self.points: list[tuple[float, float]] = []
        self._waits: dict[str, float] = {}

    def sample(self, waits: dict[str, float], at_s: float) -> None:
        """Add what the threads waited since the sample before."""
        self.total_s += max((wait_s - self._waits.get(name, 0.0) for name, wait_s in waits.items()), default=0.0)
        self._waits = waits or self._waits
        if self.total_s >= (self.points[-1][1] if self.points else 0.0) + STEP_S:
            self.points.append((round(at_s, 2), round(self.total_s, 2)))
            if len(self.points) > MAX_POINTS:
                del self.points[1::2]
