"""Order of package versions in rpm, pacman and apk."""

import re
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any

_PARTS = re.compile(r"[0-9]{1,100}|[A-Za-z]+|~|\^")
_ORDER = {"~": -1, "": 0, "^": 1}
"""A tilde is before the end of a version, and a caret behind it (rpm-version(7))."""


def compare(left: str, right: str) -> int:
    """Compare `[EPOCH:]VERSION[-RELEASE]`; negative if the left is older."""
    for one, other in zip(_fields(left), _fields(right), strict=True):
        if order := _compare_field(one, other):
            return order
    return 0


def _fields(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.rpartition(":")
    number, _, release = rest.partition("-")
    return epoch if colon else "0", number, release


def _compare_field(left: str, right: str) -> int:
    for one, other in zip_longest(_PARTS.findall(left), _PARTS.findall(right), fillvalue=""):
        if one == other:
            continue
        ranks = _rank(one), _rank(other)
        if ranks[0] != ranks[1]:
            return ranks[0] - ranks[1]
        if one.isdigit():
            if int(one) != int(other):
                return int(one) - int(other)
        else:
            return -1 if one < other else 1
    return 0


def _rank(part: str) -> int:
    """Rank of a part's kind: `~`, the end, `^`, letters, digits."""
    return _ORDER.get(part, 3 if part.isdigit() else 2)


version_key: Any = cmp_to_key(compare)
