"""Human-readable numbers and natural sort order. Quick to import."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key with 6.1 before 6.12, and words such as `newest` after numbers."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


LONGEST_S = 1e9
"""An edited run may say anything."""


def duration(seconds: float) -> str:
    """Format seconds: `7.2 s`, `1 min 05 s`, `2 h 03 min`."""
    if seconds < 0.095:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(min(seconds, LONGEST_S)), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def date_of(day: date) -> str:
    """Format a day: `24 November 2026`."""
    return f"{day.day} {day:%B %Y}"


def moment(text: str) -> str:
    """Format a time: `24 Nov 2026, 01:40`, in UTC; an invalid one stays."""
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return f"{when.day} {when:%b %Y, %H:%M}"


def size(count: int) -> str:
    """Format bytes in powers of 1000: `812 B`, `5.4 MB`."""
    return _scaled(count, 1000, ("kB", "MB", "GB"))


def binary_size(count: int) -> str:
    """Format bytes in powers of 1024, as limits are given: `20 GiB`."""
    return _scaled(count, 1024, ("KiB", "MiB", "GiB"))


MOST = 10**18
"""Larger ones, which a saved run may name, count as this."""


def _scaled(count: int, base: int, units: Sequence[str]) -> str:
    if count < base:
        return f"{count} B"
    value = float(min(count, MOST))
    for unit in units:
        value /= base
        if value < base - 0.5 or unit == units[-1]:
            break
    digits = 0 if value >= 99.95 or (base == 1024 and value == int(value)) else 1
    return f"{value:.{digits}f} {unit}"
