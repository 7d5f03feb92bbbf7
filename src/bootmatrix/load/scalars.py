"""Resolution of plain YAML scalars, by the rules of LinuxKit's reader.

These are the rules of YAML 1.2 with octal numbers of 1.1: `yes`, `on`, `22:22` and dates are text, `0644` is a
number.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INTEGER = re.compile(r"([-+]?)(?:0[xX](?P<x>[0-9a-fA-F]+)|0[bB](?P<b>[01]+)|0[oO]?(?P<o>[0-7]+)|(?P<d>0|[1-9][0-9]*))$")
BASES = {"x": 16, "b": 2, "o": 8, "d": 10}
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")
LIMIT = 2**64


def resolve(text: str) -> Scalar:
    """Resolve an unquoted scalar; infinities and numbers beyond 64 bits become floats."""
    if text in WORDS:
        return WORDS[text]
    if NOT_FINITE.match(text):
        return math.nan if "n" in text.lower()[:2] else math.inf
    number = text.replace("_", "") if text[0] in "+-.0123456789" else ""
    return _integer(number) if INTEGER.match(number) else _float(text, number)


def _integer(text: str) -> int | float:
    match = INTEGER.match(text)
    assert match is not None
    kind, digits = next((kind, digits) for kind, digits in match.groupdict().items() if digits is not None)
    if len(digits) > 64:
        return math.inf
    value = int(digits, BASES[kind]) * (-1 if match[1] == "-" else 1)
    return value if -LIMIT < value < LIMIT else float(value)


def _float(text: str, number: str) -> str | int | float:
    """Parse a float; `1e3` and `2.0` are integers, as LinuxKit converts them to JSON."""
    if not FLOAT.match(number):
        return text
    value = float(number)
    return int(value) if value.is_integer() and abs(value) < LIMIT else value
