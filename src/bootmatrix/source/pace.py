"""Limits on the pace of downloads: a least rate, and a total time."""

import os
import time
from dataclasses import dataclass, field

from bootmatrix.errors import InputError

RATE_VARIABLE, TIME_VARIABLE = "BOOTMATRIX_DOWNLOAD_MIN_RATE", "BOOTMATRIX_DOWNLOAD_MAX_TIME"
LEAST_BYTES_PER_S = 1000
MOST_S = 3600.0
WINDOW_S = 20.0
"""The rate is measured over this time: a short pause of a server is not a fault."""


@dataclass(frozen=True)
class PaceLimits:
    """Limits of one download: bytes per second, and seconds. 0 means none."""

    bytes_per_s: int = LEAST_BYTES_PER_S
    most_s: float = MOST_S
    window_s: float = WINDOW_S


def pace_limits() -> PaceLimits:
    """Return the limits. Raises InputError if a variable is not a number."""
    return PaceLimits(_number(RATE_VARIABLE, LEAST_BYTES_PER_S), _number(TIME_VARIABLE, int(MOST_S)))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not (text.isascii() and text.isdecimal() and len(text) < 13):
        raise InputError(f"{name}={text!r}: expected a number; 0 means no limit")
    return int(text) if text else default


class TooSlow(Exception):
    """A download below the least rate, or beyond its time."""


@dataclass
class Pace:
    """The pace of one download."""

    limits: PaceLimits
    begun: float = field(default_factory=time.monotonic)
    _since: float = 0.0
    _bytes: int = 0

    def __post_init__(self) -> None:
        self._since = self.begun

    def add(self, count: int, now: float | None = None) -> None:
        """Count received bytes. Raises TooSlow if a limit is exceeded."""
        now = time.monotonic() if now is None else now
        self._bytes += count
        if self.limits.most_s and now - self.begun > self.limits.most_s:
            raise TooSlow(f"it took more than {self.limits.most_s:g} s ({TIME_VARIABLE})")
        took_s = now - self._since
        if took_s < self.limits.window_s:
            return
        rate = self._bytes / took_s
        if rate < self.limits.bytes_per_s:
            raise TooSlow(
                f"{rate:.0f} bytes/s for {took_s:.0f} s, expected {self.limits.bytes_per_s} or more ({RATE_VARIABLE})"
            )
        self._since, self._bytes = now, 0
