"""Which image of an index is for a platform (opencontainers/image-spec, image-index.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_VARIANT = re.compile(r"v(\d+)(?:\.\d+)*")


def choose(entries: Iterable[Any], wanted: str) -> Any | None:
    """The entry that suits a platform best; one that names no platform only if no other suits. None if there is none.

    Among variants that are numbered, the wanted one runs what is made for it and for earlier ones: the latest of these
    is taken. Where no variant is wanted, an image without one comes first, and then that with the lowest.
    """
    entries = [entry for entry in entries if isinstance(entry, dict)]
    ranked = [(rank, -place, entry) for place, entry in enumerate(entries) if (rank := _rank(entry, wanted))]
    return max(ranked, key=lambda one: one[:2])[2] if ranked else None


def name_of(platform: Any) -> str:
    """`linux/ARCHITECTURE[/VARIANT]` of what an index or a configuration says; empty if it says nothing."""
    if not isinstance(platform, dict) or not platform.get("architecture"):
        return ""
    parts = (platform.get("os") or "linux", platform["architecture"], platform.get("variant"))
    return "/".join(str(part)[:40] for part in parts if part)


def fits(platform: Any, wanted: str) -> bool:
    """Whether what says to be for one platform can be taken for another."""
    return _rank({"platform": platform}, wanted) > 0


def _rank(entry: dict[str, Any], wanted: str) -> int:
    """0 for an image that does not fit, more for a better one."""
    name = name_of(entry.get("platform"))
    if not name:
        return 1
    system, architecture, variant = (*name.split("/"), "")[:3]
    wanted_system, wanted_architecture, wanted_variant = (*wanted.split("/"), "")[:3]
    if (system, architecture) != (wanted_system, wanted_architecture):
        return 0
    if variant == wanted_variant:
        return 1000
    have, most = (_number(text) for text in (variant, wanted_variant))
    if not variant:
        return 2
    if not wanted_variant:
        return 999 - have
    return 10 + have if have <= most else 0


def _number(variant: str) -> int:
    found = _VARIANT.fullmatch(variant)
    return min(int(found[1]), 900) if found else 900
