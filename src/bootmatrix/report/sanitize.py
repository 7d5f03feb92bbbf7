"""Sanitize text from guests for a terminal, HTML and XML.

Escape sequences are removed; other control characters become visible replacements.
"""

import re

_SEQUENCES = re.compile(
    "\x1b\\[[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, the cursor
    "|\x1b[]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\\\)"  # OSC, DCS, SOS, PM, APC: titles, links, devices
    "|\x1b[ -/]{0,8}[0-OQ-WYZ`-~]"  # two characters and more: character sets, resets
)
"""Sequences of ECMA-48, each within one line so that none can hide the text that follows."""


_BLANK_LETTERS = (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xE0100, 0xE01F0))
"""Printable by Unicode's categories, and without a glyph: fillers of Hangul and Khmer, joiners, variation selectors."""


def _replacements() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
    table[0x7F] = "\u2421"
    invisible = (
        *range(0x80, 0xA0),
        *(0xAD, 0x61C, 0x180E),
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2070),
        *(0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080)),
        *_BLANK_LETTERS,
    )
    table |= {code: f"<U+{code:04X}>" for code in invisible}
    # UTF-8 has no lone surrogates; XML 1.0 (section 2.2) excludes the other two.
    table |= dict.fromkeys((*range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd")
    return table


TABLE = _replacements()
_BLANKS = frozenset(map(chr, _BLANK_LETTERS))


_ANYWHERE = r"#(?=#(?:\[|vso\[|teamcity\[))"
_HASHES = re.compile(_ANYWHERE, re.IGNORECASE)
_COMMANDS = re.compile(rf"^([^\S\n]*):(?=:[A-Za-z])|{_ANYWHERE}", re.MULTILINE | re.IGNORECASE)
"""Commands that CI systems look for in a step's output: GitHub's `::error …` at the start of a line, behind any of
Unicode's blanks, and `##[error]` anywhere, Azure's `##vso[…]`, TeamCity's `##teamcity[…]`."""


def disarmed(text: str) -> str:
    """Break up a CI system's commands in text."""
    return _COMMANDS.sub(lambda match: f"{match[0]} ", text)


_OWN_ELEMENTS = re.compile(r"(<(style|script)\b.*?</\2>)", re.DOTALL)


def disarmed_json(text: str) -> str:
    """Break up a CI system's commands in JSON, which keeps its meaning."""
    return _HASHES.sub(r"\\u0023", text)


def disarmed_form(name: str, text: str) -> str:
    """Break up a CI system's commands in a report of this form, for a log.

    JSON, XML and HTML keep their meaning. GitHub's own commands stay.
    """
    if text.startswith(("{", "[")):
        return disarmed_json(text)
    if text.startswith("<"):
        pieces = _OWN_ELEMENTS.split(text)  # text, element, its name, text, …: a page's policy has digests of these
        pieces[::3] = [_COMMANDS.sub(_as_reference, piece) for piece in pieces[::3]]
        return "".join(piece for number, piece in enumerate(pieces) if number % 3 < 2)
    return _HASHES.sub("# ", text) if name == "github" else disarmed(text)


def _as_reference(match: re.Match[str]) -> str:
    return f"{match[0][:-1]}&#{ord(match[0][-1])};"


def sanitize(text: str) -> str:
    """Sanitize text of one or more lines. Line numbers do not change."""
    # Fast path: nearly all lines are printable, and printable text needs no change.
    if text.isprintable() and (text.isascii() or _BLANKS.isdisjoint(text)):
        return text
    return _SEQUENCES.sub("", text.replace("\r\n", "\n")).translate(TABLE)


def one_line(text: str, limit: int = 400) -> str:
    """Sanitize text, join its lines, and cut it to `limit` characters."""
    line = " ".join(sanitize(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
