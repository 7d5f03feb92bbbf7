"""Lines of TAP (versions 12 to 14) and of the kernel's KTAP, by themselves: what each says, and which are no TAP.

https://testanything.org/tap-version-14-specification.html and https://docs.kernel.org/dev-tools/ktap.html.

tap.py, which the tests read reports with, takes prose after `1..3` for a plan, ends a name at any hash sign, knows no
XFAIL, and needs the whole of a YAML block, of which a guest keeps no more than its marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_LINE = 1000

PREFIX = re.compile(r"(?:[ \t]|# )*")
"""Before the lines of a subtest: blanks, or `# ` where a runner prints the whole output of a test."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Around a result, by a program that takes its output for a terminal."""
LINE_END = re.compile(r"\r\n|\n|\r")
RESULT = re.compile(r"(?P<bad>not )?ok(?=\s|$)\s*(?:(?P<number>[0-9]{1,9})(?=[\s-]|$))?\s*(?P<rest>.*)")
PLAN = re.compile(r"1\.\.(?P<planned>[0-9]{1,9})\s*(?:#.*)?$|1\.\.(?P<none>0)\s+skip", re.IGNORECASE)
"""Nothing but a remark may follow a plan's number: `1..10 is the range` is prose."""
VERSION = re.compile(r"K?TAP version [0-9]{1,4}$")
BAIL = re.compile(r"Bail out!\s*(?P<reason>.*)")
DIRECTIVE = re.compile(
    r"(?:^|(?<=\s))#\s*(?P<word>skip(?:ped)?|todo|xfail)(?![\w-])[:\s]*(?P<reason>.*)", re.IGNORECASE
)
"""A hash sign with a blank before it and none of `\\` begins one."""
REMARK = re.compile(r"(?:^|\s)#(?:\s.*)?$")
"""Behind a name, such as `# time=12ms`."""
ESCAPED = re.compile(r"\\([\\#])")
BLOCK_BEGINS, BLOCK_ENDS = "---", "..."
"""Marks of a YAML block, which tells more of the result before it, and whose lines are none of TAP."""

LineKind = Literal["result", "plan", "version", "bail"]


@dataclass(frozen=True)
class TapLine:
    """A line of TAP at its depth. `text` is a result's name, or why it bailed out; `directive` is in lower case.

    `number` is a result's, or the count of a plan. `is_remark` says that the line begins with a hash sign.
    """

    kind: LineKind
    indent: int
    is_remark: bool
    ok: bool = True
    number: int | None = None
    text: str = ""
    directive: Literal["", "skip", "todo", "xfail"] = ""
    reason: str = ""


@dataclass(frozen=True)
class _Raw:
    """A line without its prefix, which is `indent` columns wide."""

    indent: int
    text: str
    is_remark: bool


def read_lines(text: str) -> Iterator[TapLine]:
    """Lines of TAP in a text, in order, without those in YAML blocks."""
    lines = [_raw(line[:MAX_LINE].rstrip()) for line in LINE_END.split(COLOUR.sub("", text))]
    blocks = _Blocks(lines)
    result_indent: int | None = None
    at = 0
    while at < len(lines):
        if lines[at].text == BLOCK_BEGINS and result_indent is not None and lines[at].indent > result_indent:
            at = blocks.end(at)
            continue
        found = _parse(lines[at])
        at += 1
        if found:
            result_indent = found.indent if found.kind == "result" else None
            yield found


def _raw(line: str) -> _Raw:
    prefix = PREFIX.match(line)
    end = prefix.end() if prefix else 0
    return _Raw(len(line[:end].expandtabs()), line[end:], line.startswith("#"))


class _Blocks:
    """Ends of YAML blocks. One without an end is no block: what follows its mark is read as if there were no mark."""

    def __init__(self, lines: Sequence[_Raw]) -> None:
        self._lines = lines
        self._open: dict[int, int] = {}
        """By indent: up to where it is known that no block of it ends, so that no line is looked at again and again."""

    def end(self, start: int) -> int:
        """The number of the line after the block that begins at one; that after its mark if it has no end."""
        indent = self._lines[start].indent
        if start < self._open.get(indent, 0):
            return start + 1
        for at in range(start + 1, len(self._lines)):
            line = self._lines[at]
            if line.indent == indent and line.text == BLOCK_ENDS:
                return at + 1
            if line.text and line.indent < indent:
                break
        else:
            at = len(self._lines)
        self._open[indent] = at
        return start + 1


def _parse(line: _Raw) -> TapLine | None:
    """None for what is no TAP."""
    if found := RESULT.match(line.text):
        return _result(line, found)
    if VERSION.match(line.text):
        return TapLine("version", line.indent, line.is_remark)
    if found := PLAN.match(line.text):
        return TapLine("plan", line.indent, line.is_remark, number=int(found["planned"] or 0))
    if found := BAIL.match(line.text):
        return TapLine("bail", line.indent, line.is_remark, text=found["reason"])
    return None


def _result(line: _Raw, found: re.Match[str]) -> TapLine:
    rest = found["rest"]
    directive = DIRECTIVE.search(rest)
    word = directive["word"].lower() if directive else ""
    name = rest[: directive.start()] if directive else REMARK.sub("", rest)
    return TapLine(
        "result",
        line.indent,
        line.is_remark,
        ok=not found["bad"],
        number=int(found["number"]) if found["number"] else None,
        text=ESCAPED.sub(r"\1", name.strip().removeprefix("-").strip()),
        directive="skip" if word.startswith("skip") else "todo" if word == "todo" else "xfail" if word else "",
        reason=directive["reason"] if directive else "",
    )
