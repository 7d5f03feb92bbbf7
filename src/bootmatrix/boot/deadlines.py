"""Phases, deadlines and the cause of an end; times are s after start. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from bootmatrix.boot.cpu_contention import LEAST_SHARE
from bootmatrix.model import Bootable, GuestMessage, Machine, Phase, Timeouts
from bootmatrix.qemu.command import scale

CHECKS_MARGIN_S = 15.0
"""Margin for the guest, on the fastest machine, to end checks by itself when their own time is up."""
TALKATIVE_SHARE = 0.5
"""Share of the silence limit in phases in which a sound guest is never silent for long."""
SETTLE_S = 2.0
"""Time in which a guest that stays up may still fail, on the fastest machine."""
PANIC_GRACE_S = 2.0
"""Time in which a kernel that panicked prints the rest and leaves, on the fastest machine."""
COLLECT_S = 900.0
"""Limit for fetching result files, on the fastest machine; the guest waits as long."""
FAULT_GRACE_S = 10.0
"""Time in which a guest prints the trace of a kernel fault, and ends if it can, on the fastest machine."""


@dataclass(frozen=True)
class Expired:
    """An expired limit: `silence`, `panic`, `fault`, `shown`, or a phase.

    `is_starved`: the limit would not have expired, had the host had a core for the guest.
    """

    limit: str
    phase: Phase
    is_starved: bool = False


@dataclass(frozen=True)
class _Mark:
    """A moment: `ran_s` seconds of guest time, `open_s` seconds without suspension."""

    ran_s: float
    open_s: float

    def is_past_all_patience(self, since: _Mark, limit_s: float) -> bool:
        """True after so long that a busy host is to blame; this ends every boot."""
        return self.open_s >= since.open_s + limit_s / LEAST_SHARE


def phase_limits(machine: Machine, bootable: Bootable, timeouts: Timeouts) -> dict[Phase, float]:
    """Return the time limit of each phase on this machine, in seconds.

    Checks may run one after the other, so their times add up. A guest with another init reports no phases: all of it is
    `boot`, up to the text of its proof.
    """
    factor = machine.time_factor
    if bootable.proof:
        whole = timeouts.boot + timeouts.onboot + timeouts.services
        return {"boot": whole * factor, "shutdown": timeouts.shutdown * factor}
    checks = sum(bootable.checks.values()) * scale(machine) + CHECKS_MARGIN_S * factor
    return {
        "boot": timeouts.boot * factor,
        "onboot": timeouts.onboot * factor,
        "services": timeouts.services * factor,
        "checks": checks,
        "shutdown": timeouts.shutdown * factor + _stop_s(machine, bootable),
    }


def _stop_s(machine: Machine, bootable: Bootable) -> float:
    """Return the longest time that the spec gives a service to end."""
    return max(bootable.stops.values(), default=0.0) * scale(machine)


def silence_limits(machine: Machine, bootable: Bootable, timeouts: Timeouts) -> dict[Phase, float]:
    """Return the silence limit of each phase, in seconds.

    A kernel prints while it boots; services need not.
    """
    whole = timeouts.silence * machine.time_factor
    talkative = whole if bootable.proof else whole * TALKATIVE_SHARE
    # A check that computes in silence is not yet a hang while the time that its spec gives it lasts.
    checks = max([whole] + [limit * scale(machine) for limit in bootable.checks.values()])
    shutdown = talkative + _stop_s(machine, bootable)
    return {"boot": talkative, "onboot": whole, "services": whole, "checks": checks, "shutdown": shutdown}


class PhaseClock:
    """Follow a guest through its phases by its messages; calls `on_phase` for each."""

    def __init__(
        self, machine: Machine, bootable: Bootable, timeouts: Timeouts, on_phase: Callable[[Phase], None]
    ) -> None:
        self.phase: Phase = "boot"
        self._on_phase = on_phase
        self._limits = phase_limits(machine, bootable, timeouts)
        self._silences = silence_limits(machine, bootable, timeouts)
        self._stays = bootable.proof is not None and bootable.proof.stays
        self._settle_s = SETTLE_S * machine.time_factor
        self._panic_grace_s = PANIC_GRACE_S * machine.time_factor
        self._onboot_left = len(bootable.onboot)
        self._checks_left = len(bootable.checks)
        self._began = self._heard = _Mark(0.0, 0.0)
        self._waited_s = self._suspended_s = 0.0
        self._fault_grace_s = FAULT_GRACE_S * machine.time_factor
        self._panic: _Mark | None = None
        self._is_held = self._is_collecting = False
        self._collect_s = COLLECT_S * machine.time_factor
        self._fault: _Mark | None = None
        on_phase("boot")

    def starved(self, waited_s: float) -> None:
        """Record the total time without a host core; it does not count against the guest."""
        self._waited_s = max(self._waited_s, waited_s)

    def suspended(self, suspended_s: float) -> None:
        """Record the time in which QEMU or bootmatrix was stopped."""
        self._suspended_s = suspended_s

    @property
    def silence_s(self) -> float:
        """The silence limit of this phase, in seconds."""
        return self._silences[self.phase]

    def _at(self, at_s: float) -> _Mark:
        open_s = at_s - self._suspended_s
        return _Mark(open_s - self._waited_s, open_s)

    def heard(self, at_s: float) -> None:
        """Record output of the guest on any channel."""
        self._heard = self._at(at_s)

    def panicked(self, at_s: float) -> None:
        """Record a panic of the guest's kernel."""
        if self._panic is None:
            self._panic = self._at(at_s)

    def faulted(self, at_s: float) -> None:
        """Record a fault that the guest's kernel reported."""
        if self._fault is None:
            self._fault = self._at(at_s)

    def shown(self, at_s: float) -> None:
        """Record the text that proves a pass."""
        self._enter("shutdown", at_s)

    def hold(self) -> None:
        """Suspend the limits while the host uses the guest, except for a panic.

        Nothing is suspended while result files are fetched in its end.
        """
        self._is_held = not self._is_collecting

    def _release(self, at_s: float) -> None:
        self._is_held = False
        self._began = self._heard = self._at(at_s)

    def message(self, message: GuestMessage) -> None:
        """Enter the phase that a message begins, if it begins one."""
        if self._is_held and message.kind == "shutdown":
            self._release(message.at_s)
        if message.kind == "collect" or self._is_collecting:
            self._is_collecting = message.kind == "collect"
            self._release(message.at_s)
        following = self._following(message.kind, message.words)
        if following:
            self._enter(following, message.at_s)

    def _enter(self, phase: Phase, at_s: float) -> None:
        if phase != self.phase:
            self.phase = phase
            self._began = self._at(at_s)
            self._on_phase(phase)

    def expired(self, at_s: float) -> Expired | None:
        """Return the limit that has expired by now."""
        now = self._at(at_s)
        limits = list(self._running_limits())
        for limit, since, limit_s in limits:
            if now.ran_s >= since.ran_s + limit_s:
                return Expired(limit, self.phase)
        over = (limit for limit, since, limit_s in limits if now.is_past_all_patience(since, limit_s))
        return next((Expired(limit, self.phase, is_starved=True) for limit in over), None)

    def _running_limits(self) -> Iterator[tuple[str, _Mark, float]]:
        """Yield the limits in force, each with its beginning and its length in seconds."""
        if self._stays and self.phase == "shutdown":
            yield "shown", self._began, self._settle_s
        if self._panic is not None:
            yield "panic", self._panic, self._panic_grace_s
            return
        if self._fault is not None:
            yield "fault", self._fault, self._fault_grace_s
        if self._is_held:
            return
        yield "silence", self._heard, self._silences[self.phase]
        yield self.phase, self._began, self._collect_s if self._is_collecting else self._limits[self.phase]

    def _following(self, kind: str, words: tuple[str, ...]) -> Phase | None:
        if kind in {"shutdown", "onshutdown", "end"}:
            return "shutdown"
        if kind == "ready":
            return "onboot" if self._onboot_left else "services"
        if kind == "services":
            return "checks" if self._checks_left else "shutdown"
        return self._after_exit(kind) if words[1:2] == ("exit",) else None

    def _after_exit(self, kind: str) -> Phase | None:
        if kind == "onboot":
            self._onboot_left -= 1
            return None if self._onboot_left else "services"
        if kind == "check":
            self._checks_left -= 1
            return None if self._checks_left else "shutdown"
        return None


EndedBy = Literal["guest", "host", "error"]


@dataclass(frozen=True)
class Ending:
    """The cause of a boot's end."""

    ended_by: EndedBy
    limit: str = ""
    phase: Phase | None = None
    host_error: str = ""
    is_panic: bool = False
