"""Which phase a guest is in, and when its time is up. Pure: the time is handed in, in seconds after the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bootmatrix.boot.command import scale
from bootmatrix.model import Bootable, GuestMessage, Machine, Phase, Timeouts

CHECKS_MARGIN_S = 15.0
"""Given to the guest, for the fastest machine, to end checks by itself when their own time is up."""
PANIC_GRACE_S = 2.0
"""Given to a kernel that panicked, on the fastest machine, to say the rest and to leave."""


@dataclass(frozen=True)
class Expired:
    """A limit that is over: `silence`, `panic`, or the name of the phase whose time it was."""

    limit: str
    phase: Phase


def phase_limits(machine: Machine, bootable: Bootable, timeouts: Timeouts) -> dict[Phase, float]:
    """Seconds that each phase may last on this machine. Checks may follow each other, so their times add up."""
    factor = machine.time_factor
    checks = sum(bootable.checks.values()) * scale(machine) + CHECKS_MARGIN_S * factor
    return {
        "boot": timeouts.boot * factor,
        "onboot": timeouts.onboot * factor,
        "services": timeouts.services * factor,
        "checks": checks,
        "shutdown": timeouts.shutdown * factor,
    }


class PhaseClock:
    """Follows a guest through its phases by its messages; `on_phase` hears of each one that begins."""

    def __init__(
        self, machine: Machine, bootable: Bootable, timeouts: Timeouts, on_phase: Callable[[Phase], None]
    ) -> None:
        self.phase: Phase = "boot"
        self._on_phase = on_phase
        self._limits = phase_limits(machine, bootable, timeouts)
        self._silence_s = timeouts.silence * machine.time_factor
        # A check that computes in silence is not yet a hang while the time that its spec gives it lasts.
        self._check_silence_s = max([self._silence_s] + [limit * scale(machine) for limit in bootable.checks.values()])
        self._panic_grace_s = PANIC_GRACE_S * machine.time_factor
        self._onboot_left = len(bootable.onboot)
        self._checks_left = len(bootable.checks)
        self._began_s = 0.0
        self._heard_s = 0.0
        self._panic_s: float | None = None
        on_phase("boot")

    def heard(self, at_s: float) -> None:
        """The guest showed a sign of life on some channel."""
        self._heard_s = at_s

    def panicked(self, at_s: float) -> None:
        """The guest's kernel said that it gives up."""
        if self._panic_s is None:
            self._panic_s = at_s

    def message(self, message: GuestMessage) -> None:
        """Enter the phase that a message begins, if it begins one."""
        following = self._following(message.kind, message.words)
        if following and following != self.phase:
            self.phase = following
            self._began_s = message.at_s
            self._on_phase(following)

    def expired(self, at_s: float) -> Expired | None:
        """The limit that is over by now."""
        if self._panic_s is not None and at_s >= self._panic_s + self._panic_grace_s:
            return Expired("panic", self.phase)
        silence_s = self._check_silence_s if self.phase == "checks" else self._silence_s
        if at_s >= self._heard_s + silence_s:
            return Expired("silence", self.phase)
        if at_s >= self._began_s + self._limits[self.phase]:
            return Expired(self.phase, self.phase)
        return None

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
