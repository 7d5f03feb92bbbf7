"""Durations as people write them."""

import re

from bootmatrix.errors import InputError

DURATION = re.compile(r"(?:(\d{1,3})h)?(?:(\d{1,5})m(?!s))?(?:(\d{1,6}(?:\.\d{1,3})?)s)?(?:(\d{1,6})ms)?", re.ASCII)
MAX_S = 24 * 3600.0


def duration_s(text: str, option: str = "") -> float:
    """Parse `60s`, `2m`, `1m30s`, `1h` or `500ms` as seconds: above 0, a day at most.

    Error messages begin with `option`.

    Raises InputError if the text is not such a duration.
    """
    match = DURATION.fullmatch(text)
    parts = [float(part or 0) for part in match.groups()] if match else [0.0]
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1, 0.001), strict=False))
    if not 0 < seconds <= MAX_S:
        quoted = text if len(text) <= 40 else text[:37] + "…"
        raise InputError(
            f"{option} {quoted!r} is not a duration such as '60s', '2m' or '1m30s', of a day at most".lstrip()
        )
    return seconds
