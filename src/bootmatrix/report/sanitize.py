"""Text of guests made fit to be shown: on a terminal, in HTML and in XML.

Escape sequences are taken out; every other control character stays visible, as a character that does nothing.
"""

from __future__ import annotations

import re

_SEQUENCES = re.compile(
    "\x1b\\[[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, the cursor
    "|\x1b[]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\\\)"  # OSC, DCS, SOS, PM, APC: titles, links, devices
    "|\x1b[ -/]{0,8}[0-OQ-WYZ`-~]"  # two characters and more: character sets, resets
)
"""The forms of ECMA-48, none of them over more than one line, so that none can hide what follows."""


def _replacements() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
    table[0x7F] = "\u2421"
    invisible = (
        *range(0x80, 0xA0),
        0x61C,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2070),
        0xFEFF,
    )
    table |= {code: f"<U+{code:04X}>" for code in invisible}
    # Not characters at all: UTF-8 has no lone surrogates, XML 1.0 (section 2.2) neither these two.
    table |= dict.fromkeys((*range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd")
    return table


TABLE = _replacements()


_COMMANDS = re.compile(r"^([ \t]*):(?=:[A-Za-z])|#(?=#(?:\[|vso\[|teamcity\[))", re.MULTILINE)
"""Beginnings of commands that CI systems look for in what a step prints: GitHub's `::error …` at a line's beginning and
`##[error]` anywhere, Azure's `##vso[…]`, TeamCity's `##teamcity[…]`."""


def disarmed(text: str) -> str:
    """Text in which a CI system finds no command."""
    return _COMMANDS.sub(lambda found: f"{found[0]} ", text)


def sanitize(text: str) -> str:
    """Text of one or more lines that only shows itself. Line numbers stay as they are."""
    # Nothing that this is about is printable to Python, and of a million lines all but a few are.
    if text.isprintable():
        return text
    return _SEQUENCES.sub("", text.replace("\r\n", "\n")).translate(TABLE)


def one_line(text: str, limit: int = 400) -> str:
    """Text on one line, cut in the end to `limit` characters."""
    line = " ".join(sanitize(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
