"""Choose an index's image for a platform (image-spec, image-index.md)."""

import re
from collections.abc import Iterable
from typing import Any

_VARIANT = re.compile(r"v(\d+)(?:\.\d+)*")


def choose(entries: Iterable[Any], target: str) -> Any | None:
    """Choose the entry that suits a platform best; None if no entry fits.

    An entry without a platform is the last choice. Of numbered variants the highest not above the target is chosen. If
    the target has no variant, an image without one is preferred, then that with the lowest.
    """
    entries = [entry for entry in entries if isinstance(entry, dict)]
    ranked = [(rank, -index, entry) for index, entry in enumerate(entries) if (rank := _rank(entry, target))]
    return max(ranked, key=lambda item: item[:2])[2] if ranked else None


def name_of(platform: Any) -> str:
    """Return `linux/ARCHITECTURE[/VARIANT]` of an index or configuration, else ""."""
    if not isinstance(platform, dict) or not platform.get("architecture"):
        return ""
    parts = (platform.get("os") or "linux", platform["architecture"], platform.get("variant"))
    return "/".join(str(part)[:40] for part in parts if part)


def fits(platform: Any, target: str) -> bool:
    """Return whether an image for one platform runs on another."""
    return _rank({"platform": platform}, target) > 0


def _rank(entry: dict[str, Any], target: str) -> int:
    """Return the rank of an image, or 0 if it does not fit."""
    name = name_of(entry.get("platform"))
    if not name:
        return 1
    system, architecture, variant = (*name.split("/"), "")[:3]
    target_system, target_architecture, target_variant = (*target.split("/"), "")[:3]
    if (system, architecture) != (target_system, target_architecture):
        return 0
    if variant == target_variant:
        return 1000
    number, limit = (_number(text) for text in (variant, target_variant))
    if not variant:
        return 2
    if not target_variant:
        return 999 - number
    return 10 + number if number <= limit else 0


def _number(variant: str) -> int:
    match = _VARIANT.fullmatch(variant)
    return min(int(match[1]), 900) if match else 900
