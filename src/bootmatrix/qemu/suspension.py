"""Suspensions of bootmatrix or QEMU: signals, frozen groups, a sleeping host.

After a suspension the guest's clock jumps: its own limits may expire at once, and its kernel sees stalls. So this time
does not count against limits, and later faults are not blamed on the guest: see judge/termination.py.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio

from bootmatrix.operating_system import slept_s
from bootmatrix.qemu.host import groups

STEP_S = 0.25
"""Between two samples."""
LEAST_GAP_S = 1.0
"""Beyond a step: a gap that is longer is not the event loop's own work."""
TRIES = 12
"""Restarts of a wait that a suspension may have ended. A QEMU that stays stopped is ended at last."""


def suspension_of(pid: int, proc: Path = Path("/proc")) -> str:
    """Return how a process is kept from running, in words; empty if it is not."""
    with suppress(OSError, IndexError):
        state = (proc / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
        if state in {"T", "t"}:
            return "stopped by a signal (SIGSTOP)"
    return "frozen with its control group" if _is_frozen(pid) else ""


def _is_frozen(pid: int) -> bool:
    """True if the process's group or an ancestor is frozen."""
    for folder in groups("freezer", f"{pid}"):
        with suppress(OSError):
            return "frozen 1" in (folder / "cgroup.events").read_text("ascii").splitlines()
        with suppress(OSError):
            if (folder / "freezer.state").read_text("ascii").strip() != "THAWED":
                return True
    return False


class SuspensionMeter:
    """Sum up suspensions from periodic samples, in seconds.

    `qemu_s` is QEMU's alone, while bootmatrix ran; `own_s` is bootmatrix's. `still_s` is the length of the present
    suspension, and `cause` its cause.
    """

    def __init__(self) -> None:
        self.qemu_s = self.own_s = self.still_s = 0.0
        self.cause = ""
        self._last_s, self._last_slept_s = time.monotonic(), slept_s()
        self._last_busy_s = _busy_s()

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.qemu_s + self.own_s

    def sample(self, pid: int) -> None:
        """Look at QEMU, and at what became of us since the sample before."""
        now_s, asleep_s, busy_s = time.monotonic(), slept_s(), _busy_s()
        passed_s = now_s - self._last_s
        gap_s = gap_of(passed_s)
        self.own_s += max(0.0, gap_s - (busy_s - self._last_busy_s))
        if asleep_s - self._last_slept_s > STEP_S:  # less is between the readings of two clocks
            self.own_s += asleep_s - self._last_slept_s
        self._last_s, self._last_slept_s, self._last_busy_s = now_s, asleep_s, busy_s
        cause = suspension_of(pid)
        self.still_s = self.still_s + passed_s - gap_s if cause else 0.0
        self.cause = cause or self.cause
        if cause:
            self.qemu_s += passed_s - gap_s


def gap_of(passed_s: float) -> float:
    """Return the time between steps in which we did not run, if long."""
    return passed_s - STEP_S if passed_s > STEP_S + LEAST_GAP_S else 0.0


async def within(limit_s: float, work: Callable[[], Awaitable[object]], suspended: Callable[[], object]) -> bool:
    """Run restartable work for at most `limit_s`; return whether it finished.

    The limit does not count time in which this process did not run, or something is `suspended`.
    """
    for _ in range(TRIES):
        began_s = time.monotonic()
        with anyio.move_on_after(limit_s):
            await work()
            return True
        if time.monotonic() - began_s < limit_s + LEAST_GAP_S and not suspended():
            return False
    return False


def _busy_s() -> float:
    """Return the time that we ran or waited: not a suspension."""
    waited_s = 0.0
    with suppress(OSError, ValueError, IndexError):
        waited_s = int(Path("/proc/self/schedstat").read_text("ascii").split()[1]) / 1e9
    return time.process_time() + waited_s
