"""Excerpts of a console: numbered, sanitized lines. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from markupsafe import Markup, escape

from bootmatrix.model import Evidence, Record, Verdict
from bootmatrix.report.sanitize import sanitize
from bootmatrix.report.units import size

MAX_LINE_BYTES = 2000
ALARMS = re.compile(
    rb"\b(?:panic|oops|BUG|segfault|segmentation fault|traceback|call trace|out of memory|illegal instruction"
    rb"|\w*error|fail(?:ed|ure|s)?|fatal|exception|abort(?:ed)?|denied|not found|no such file)\b(?![=_-])",
    re.IGNORECASE,
)
"""Words that mark a line as suspicious, for navigation only: no verdict depends on them."""

BEFORE, AFTER = 3, 6
"""Context lines around a line of evidence."""
MAX_WINDOWS = 6
TAIL, PASS_TAIL = 24, 8
"""Last lines of an excerpt, and of a pass."""


class Extent(Enum):
    """Limits of a console's lines: beginning, end, by verdict.

    `EXCERPT` has the evidence with its context, and the end. `FOLDED` is for a report in one file. `PAGE` is for a cell
    page: a browser scrolls 50,000 lines, some 10 MB, with ease.
    """

    EXCERPT = ((0, PASS_TAIL), (0, TAIL))
    FOLDED = ((150, 350), (500, 1500))
    PAGE = ((20_000, 30_000), (20_000, 30_000))

    def limits(self, verdict: Verdict) -> tuple[int, int]:
        """Return the numbers of lines at the beginning and at the end."""
        plain, other = self.value
        return plain if verdict is Verdict.PASS else other


@dataclass(frozen=True, slots=True)
class Line:
    """A line. `kind` is `evidence`, `alarm` (suspicious words), or empty."""

    number: int
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class ConsolePart:
    """Consecutive lines; `omitted` lines are left out before them."""

    lines: tuple[Line, ...]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class ConsoleView:
    """A console; `href` is its file, `marked` the lines of evidence.

    `first_error` is the line that the reason quotes, or that of the first evidence, else the first with suspicious
    words.
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
        """True if lines are left out."""
        return any(part.omitted for part in self.parts)


def view_console(record: Record, data: bytes | None, href: str, extent: Extent) -> ConsoleView:
    """Make the view of a console, limited to `extent`; lines count from 1."""
    if data is None:
        return ConsoleView(href, "", 0, (), frozenset(), missing=True)
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    evidence = {
        entry.line for entry in record.judgement.evidence if entry.line is not None and entry.line <= len(lines)
    }
    telling = most_telling(record, [piece for piece in record.judgement.evidence if piece.line in evidence])
    first = telling.line if telling else None if record.verdict is Verdict.PASS else _first_alarm(data)
    ranges = _ranges(len(lines), sorted({*evidence, *([first] if first else [])}), extent, record.verdict)
    parts = tuple(_parts(lines, ranges, evidence))
    marked = frozenset(line.number for part in parts for line in part.lines if line.number in evidence)
    return ConsoleView(href, size(len(data)), len(lines), parts, marked, first)


def numbered(lines: Iterable[Line], anchor: str, number_href: str) -> Markup:
    """Render lines as HTML, five times faster than the template engine.

    Args:
        lines: the lines.
        anchor: prefix of each line's id.
        number_href: prefix of the link of each line number.
    """
    name, href = escape(anchor), escape(number_href)
    kinds = {"": "", "alarm": ' class="alarm"', "evidence": ' class="evidence"'}
    rows = (
        f'<div id="{name}{line.number}"{kinds[line.kind]}><a href="{href}{line.number}" tabindex="-1">{line.number}</a>'
        f"<code>{escape(line.text) or ' '}</code></div>"
        for line in lines
    )
    return Markup("".join(rows))  # noqa: S704


def last_lines(data: bytes, count: int) -> str:
    """Return the end of a console as text."""
    lines = data.rstrip(b"\n").rsplit(b"\n", count)[-count:] if data else []
    return "\n".join(map(_text, lines))


def most_telling(record: Record, pieces: Sequence[Evidence]) -> Evidence | None:
    """Return the first piece of evidence that the reason quotes, else the first one."""
    reason = record.judgement.reason
    quoted = (piece for piece in pieces if (text := piece.text.rpartition("| ")[2].strip()) and text in reason)
    return next(quoted, pieces[0] if pieces else None)


def _first_alarm(data: bytes) -> int | None:
    match = ALARMS.search(data)
    return data.count(b"\n", 0, match.start()) + 1 if match else None


def _ranges(count: int, numbers: Sequence[int], extent: Extent, verdict: Verdict) -> list[range]:
    """Return the line ranges to display: sorted, not adjacent."""
    head, tail = extent.limits(verdict)
    around = [range(max(1, number - BEFORE), min(count, number + AFTER) + 1) for number in numbers[:MAX_WINDOWS]]
    pieces = [range(1, min(head, count) + 1), *around, range(max(1, count - tail + 1), count + 1)]
    merged: list[range] = []
    for piece in sorted((piece for piece in pieces if piece), key=lambda piece: piece.start):
        # A gap of one line would take as much room as that line.
        if merged and piece.start <= merged[-1].stop + 1:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, piece.stop))
        else:
            merged.append(piece)
    return merged


def _parts(lines: Sequence[bytes], ranges: Iterable[range], evidence: set[int]) -> Iterable[ConsolePart]:
    last = 0
    for piece in ranges:
        yield ConsolePart(
            tuple(_line(number, lines[number - 1], number in evidence) for number in piece), piece.start - last - 1
        )
        last = piece.stop - 1


def _line(number: int, data: bytes, is_evidence: bool) -> Line:
    kind = "evidence" if is_evidence else "alarm" if ALARMS.search(data, 0, MAX_LINE_BYTES) else ""
    return Line(number, _text(data), kind)


def _text(line: bytes) -> str:
    text = sanitize(line[:MAX_LINE_BYTES].rstrip(b"\r").decode("utf-8", "replace"))
    rest = len(line) - MAX_LINE_BYTES
    return text if rest <= 0 else f"{text} … {rest} more bytes"
