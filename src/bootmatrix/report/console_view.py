"""A console as the report shows it: numbered lines, harmless, and only so many. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.model import Record, Verdict
from bootmatrix.report.harmless import harmless
from bootmatrix.report.units import size

HEAD_LINES, TAIL_LINES = 500, 1500
PASS_HEAD_LINES, PASS_TAIL_LINES = 150, 350
"""Of a pass less is of interest, and most cells should be one."""
MAX_LINE_BYTES = 2000


@dataclass(frozen=True)
class Line:
    """One line; `marked` if evidence speaks of it."""

    number: int
    text: str
    marked: bool


@dataclass(frozen=True)
class Part:
    """Lines that follow each other; `omitted` of them are missing before it."""

    lines: tuple[Line, ...]
    omitted: int = 0

    @property
    def numbers(self) -> str:
        """Line numbers, one a line."""
        return "\n".join(str(line.number) for line in self.lines)


@dataclass(frozen=True)
class ConsoleView:
    """A console. `marked` are the numbers of the lines shown that evidence speaks of."""

    href: str
    size: str
    line_count: int
    parts: tuple[Part, ...]
    marked: frozenset[int]
    missing: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether lines are left out."""
        return len(self.parts) > 1


def view_console(record: Record, data: bytes | None, href: str) -> ConsoleView:
    """The beginning and the end of a console, counting lines from 1."""
    if data is None:
        return ConsoleView(href, "", 0, (), frozenset(), missing=True)
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    wanted = {one.line for one in record.judgement.evidence if one.line is not None}
    plain = record.verdict is Verdict.PASS
    head, tail = (PASS_HEAD_LINES, PASS_TAIL_LINES) if plain else (HEAD_LINES, TAIL_LINES)
    parts = tuple(_parts(lines, wanted, head, tail))
    marked = frozenset(line.number for part in parts for line in part.lines if line.marked)
    return ConsoleView(href, size(len(data)), len(lines), parts, marked)


def _parts(lines: Sequence[bytes], wanted: set[int], head: int, tail: int) -> list[Part]:
    if not lines:
        return []
    if len(lines) <= head + tail:
        return [Part(_lines(lines, 1, wanted))]
    omitted = len(lines) - head - tail
    first = Part(_lines(lines[:head], 1, wanted))
    return [first, Part(_lines(lines[-tail:], head + omitted + 1, wanted), omitted)]


def _lines(lines: Sequence[bytes], start: int, wanted: set[int]) -> tuple[Line, ...]:
    return tuple(Line(number, _text(line), number in wanted) for number, line in enumerate(lines, start))


def _text(line: bytes) -> str:
    text = harmless(line[:MAX_LINE_BYTES].rstrip(b"\r").decode("utf-8", "replace"))
    rest = len(line) - MAX_LINE_BYTES
    return text if rest <= 0 else f"{text} … {rest} more bytes"
