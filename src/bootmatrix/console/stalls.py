"""Stalls that a kernel reports, and the time without a core meanwhile."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.console.kernel_messages import stall_of
from bootmatrix.model import KernelFault, Outcome

STARVED_S = 10.0
"""Least time without a core, or half of a shorter stall, that explains one: clocks of guests run on meanwhile."""
RECORDED_S = 5.0
"""Such time in a boot from which its course is recorded: half of the shortest stall that kernels report."""
SLACK_S = 5.0
"""Between the clocks of guest and host: lines arrive late, and a wait for a core is known when it has ended."""
COUNTED = re.compile(r"(?:stuck|blocked|can.t die|in I/O wait) for(?: more than)? (\d{1,6}) ?s", re.ASCII)
"""Seconds of a stall in the kernel's words."""
STAMPED_LINE = re.compile(rb"\n\[ *([0-9]{1,9}\.[0-9]{6})\]")


@dataclass(frozen=True)
class Starvation:
    """Time without a host core for a guest, in seconds.

    `points` are moments after the start, with all such time up to them. `kernel_start_s` is the moment at which the
    kernel's clock was 0, which is before the start for a copied guest; None if unknown.
    """

    total_s: float = 0.0
    points: Sequence[tuple[float, float]] = ()
    kernel_start_s: float | None = None

    def during(self, fault: KernelFault) -> float:
        """Return the time without a core in a stall, or in the whole boot."""
        if fault.at_s is None or self.kernel_start_s is None or not self.points:
            return self.total_s
        end_s = self.kernel_start_s + fault.at_s
        return self._until(end_s + SLACK_S) - self._until(end_s - counted_s(fault) - SLACK_S)

    def _until(self, at_s: float) -> float:
        return max((starved_s for moment_s, starved_s in self.points if moment_s <= at_s), default=0.0)


def starvation_of(outcome: Outcome) -> Starvation:
    """Return what a boot's outcome tells about the host's cores."""
    return Starvation(outcome.starved_s, outcome.starvation, outcome.kernel_start_s)


def counted_s(fault: KernelFault) -> float:
    """Return a stall's length by the kernel, or the least that it reports."""
    counted = COUNTED.search(fault.text)
    return float(counted[1]) if counted else stall_of(fault.name)


def may_be_starved(fault: KernelFault, starvation: Starvation) -> bool:
    """Return whether a host without a core for the guest may have caused a fault.

    It may if the kernel would not have reported the rest of the stall, without the time that the host withheld.
    """
    least_s = stall_of(fault.name)
    if not least_s:
        return False
    starved_s, stall_s = starvation.during(fault), counted_s(fault)
    return starved_s >= min(STARVED_S, least_s / 2) and stall_s - starved_s < min(least_s, stall_s)


class KernelStart:
    """Finds when a kernel's clock was 0, by stamps at lines' beginnings."""

    def __init__(self) -> None:
        self.at_s: float | None = None
        self._last = b"\n"

    def feed(self, data: bytes, at_s: float) -> None:
        """Look at the console until `at_s`; the last line with a stamp counts."""
        whole = self._last + data
        self._last = whole[-1:]
        stamp = STAMPED_LINE.match(whole, max(0, whole.rfind(b"\n[")))
        if stamp:
            start_s = at_s - float(stamp[1])
            self.at_s = start_s if self.at_s is None else min(self.at_s, start_s)
