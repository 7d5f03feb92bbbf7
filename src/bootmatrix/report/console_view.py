"""A console as the report shows it: numbered lines, harmless, and only so many. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from markupsafe import Markup, escape

from bootmatrix.model import Record, Verdict
from bootmatrix.report.sanitize import sanitize
from bootmatrix.report.units import size

MAX_LINE_BYTES = 2000
ALARMS = re.compile(
    rb"\b(?:panic|oops|BUG|segfault|segmentation fault|traceback|call trace|out of memory|illegal instruction"
    rb"|\w*error|fail(?:ed|ure|s)?|fatal|exception|abort(?:ed)?|denied|not found|no such file)\b(?![=_-])",
    re.IGNORECASE,
)
"""What draws the eye to a line. No verdict rests on it: it is for jumping, as a search would be."""

BEFORE, AFTER = 3, 6
"""Lines of an excerpt around one that evidence speaks of."""
MAX_WINDOWS = 6
TAIL, PASS_TAIL = 24, 8
"""Last lines of an excerpt."""


class Extent(Enum):
    """How much of a console is shown: lines at its beginning and at its end, for a pass and for all else.

    `EXCERPT` is what evidence speaks of, with its neighbours, and the end. `FOLDED` is for a report that has all in one
    file, `PAGE` for a page of one console: 50,000 lines are some 10 MB, which a browser still scrolls with ease.
    """

    EXCERPT = ((0, PASS_TAIL), (0, TAIL))
    FOLDED = ((150, 350), (500, 1500))
    PAGE = ((20_000, 30_000), (20_000, 30_000))

    def limits(self, verdict: Verdict) -> tuple[int, int]:
        """Lines at the beginning and at the end."""
        plain, other = self.value
        return plain if verdict is Verdict.PASS else other


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `kind` is `evidence` if the verdict rests on it, `alarm` if its words draw the eye, else empty."""

    number: int
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class ConsolePart:
    """Lines that follow each other; `omitted` of them are missing before it."""

    lines: tuple[Line, ...]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class ConsoleView:
    """A console. `href` is its file; `marked` are the numbers of the lines shown that evidence speaks of.

    `first_error` is the line to look at first: the first that evidence speaks of, else the first whose words draw the
    eye.
    """

    href: str
    size: str
    line_count: int
    parts: tuple[ConsolePart, ...]
    marked: frozenset[int]
    first_error: int | None = None
    missing: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether lines are left out."""
        return any(part.omitted for part in self.parts)


def view_console(record: Record, data: bytes | None, href: str, extent: Extent) -> ConsoleView:
    """As much of a console as `extent` says, counting lines from 1."""
    if data is None:
        return ConsoleView(href, "", 0, (), frozenset(), missing=True)
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    wanted = {one.line for one in record.judgement.evidence if one.line is not None and one.line <= len(lines)}
    first = min(wanted, default=None) or (None if record.verdict is Verdict.PASS else _first_alarm(data))
    ranges = _ranges(len(lines), sorted({*wanted, *([first] if first else [])}), extent, record.verdict)
    parts = tuple(_parts(lines, ranges, wanted))
    marked = frozenset(line.number for part in parts for line in part.lines if line.number in wanted)
    return ConsoleView(href, size(len(data)), len(lines), parts, marked, first)


def numbered(lines: Iterable[Line], anchor: str, number_href: str) -> Markup:
    """Lines for a template, which itself would take five times as long, and consoles have thousands.

    Args:
        lines: the lines.
        anchor: how the name of each line's anchor begins.
        number_href: how the address that its number leads to begins.
    """
    name, href = escape(anchor), escape(number_href)
    kinds = {"": "", "alarm": ' class="alarm"', "evidence": ' class="evidence"'}
    made = (
        f'<div id="{name}{line.number}"{kinds[line.kind]}><a href="{href}{line.number}" tabindex="-1">{line.number}</a>'
        f"<code>{escape(line.text) or ' '}</code></div>"
        for line in lines
    )
    return Markup("".join(made))  # noqa: S704


def last_lines(data: bytes, count: int) -> str:
    """The end of a console as text."""
    lines = data.rstrip(b"\n").rsplit(b"\n", count)[-count:] if data else []
    return "\n".join(map(_text, lines))


def _first_alarm(data: bytes) -> int | None:
    found = ALARMS.search(data)
    return data.count(b"\n", 0, found.start()) + 1 if found else None


def _ranges(count: int, wanted: Sequence[int], extent: Extent, verdict: Verdict) -> list[range]:
    """Ranges of line numbers, in order and apart."""
    head, tail = extent.limits(verdict)
    around = [range(max(1, one - BEFORE), min(count, one + AFTER) + 1) for one in wanted[:MAX_WINDOWS]]
    pieces = [range(1, min(head, count) + 1), *around, range(max(1, count - tail + 1), count + 1)]
    merged: list[range] = []
    for piece in sorted((piece for piece in pieces if piece), key=lambda piece: piece.start):
        # A gap of one line would take as much room as that line.
        if merged and piece.start <= merged[-1].stop + 1:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, piece.stop))
        else:
            merged.append(piece)
    return merged


def _parts(lines: Sequence[bytes], ranges: Iterable[range], wanted: set[int]) -> Iterable[ConsolePart]:
    shown = 0
    for piece in ranges:
        yield ConsolePart(
            tuple(_line(number, lines[number - 1], number in wanted) for number in piece), piece.start - shown - 1
        )
        shown = piece.stop - 1


def _line(number: int, data: bytes, wanted: bool) -> Line:
    kind = "evidence" if wanted else "alarm" if ALARMS.search(data, 0, MAX_LINE_BYTES) else ""
    return Line(number, _text(data), kind)


def _text(line: bytes) -> str:
    text = sanitize(line[:MAX_LINE_BYTES].rstrip(b"\r").decode("utf-8", "replace"))
    rest = len(line) - MAX_LINE_BYTES
    return text if rest <= 0 else f"{text} … {rest} more bytes"
