"""Parser of single lines of TAP (versions 12 to 14) and of the kernel's KTAP.

https://testanything.org/tap-version-14-specification.html and https://docs.kernel.org/dev-tools/ktap.html.

The library tap.py takes prose after `1..3` for a plan, ends a name at any hash sign, does not know XFAIL, and needs
whole YAML blocks, of which a guest sends the marks only.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

PREFIX = re.compile(r"(?:\s|# )*")
"""Indentation of a subtest: blanks, or `# ` from a runner that quotes the output of a test."""
INVISIBLE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-DI-_a-ceg-~]|\x1b[]PX^_k][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-CF-LN-Z^-bd-~\\]"
    "|[\0\xad\u200b-\u200f\u2060\ufeff\ufffd]"
)
"""Colours and titles; characters without a width; what is left of UTF-16."""
LINE_END = re.compile("(?:\x1b\\[[0-?]*[ -/]*[E-Hdf`]|\x1b[DEMc]|[\1-\b\n-\x1f\x7f-\x9f\u2028\u2029])+")
"""A terminal begins anew after a control character or a move of the cursor."""
RESULT = re.compile(r"(?:(?P<bad>not\s+ok\b)|ok(?=\s|$))\s*(?:(?P<number>[0-9]{1,9})(?=[\s-]|$))?\s*(?P<rest>.*)")
"""`not ok` ends with the word, as for prove; `ok, then` is prose."""
MAX_DIGITS = 18
"""A plan of more is cut: no output fulfils it either way."""
PLAN = re.compile(
    r"1\.\.(?P<planned>[0-9]+)\s*(?:#\s*(?P<skip>skip\w*)?[:\s]*(?P<reason>.*))?$|1\.\.(?P<none>0)\s+skip\S*\s*(?P<why>.*)",
    re.IGNORECASE,
)
"""Only a remark may follow a plan's number: `1..10 is the range` is prose."""
VERSION = re.compile(r"K?TAP\s+version\s+[0-9]{1,4}(?:\s*#.*)?$", re.IGNORECASE)
BAIL = re.compile(r"Bail out!\s*(?P<reason>.*)", re.IGNORECASE)
DIRECTIVE = re.compile(
    r"(?:^|(?<=\s))#\s*(?P<word>skip(?:ped)?|todo|xfail)(?![\w-])[:\s]*(?P<reason>.*)", re.IGNORECASE
)
"""Begins with a hash sign after a blank that no `\\` escapes."""
REMARK = re.compile(r"(?:^|\s)#(?:\s.*)?$")
"""After a name, for example `# time=12ms`."""
ESCAPED = re.compile(r"\\([\\#])")
BLOCK_BEGINS, BLOCK_ENDS = "---", "..."
"""Marks of a YAML block: details of the result before it. Its lines are not TAP."""

LineKind = Literal["result", "plan", "version", "bail"]


@dataclass(frozen=True)
class TapLine:
    """A line of TAP.

    `text` is a result's name or a bail-out's reason, `number` a result's number or a plan's count.
    `indent` counts columns. `is_remark` is true if the line begins with a hash sign.
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
    """A line without its prefix of `indent` columns."""

    indent: int
    text: str
    is_remark: bool


def read_lines(text: str) -> Iterator[TapLine]:
    """Yield the lines of TAP in a text, without those in YAML blocks."""
    lines = [_raw(line.rstrip()) for line in LINE_END.split(INVISIBLE.sub("", text))]
    blocks = _Blocks(lines)
    result_indent: int | None = None
    at = 0
    while at < len(lines):
        if lines[at].text == BLOCK_BEGINS and result_indent is not None and lines[at].indent > result_indent:
            at = blocks.end(at)
            continue
        tap = _parse(lines[at])
        at += 1
        if tap:
            result_indent = tap.indent if tap.kind == "result" else None
            yield tap


def has_more_lines(text: str, most: int) -> bool:
    """Return whether a text has more lines than these."""
    return any(number >= most for number, _ in enumerate(LINE_END.finditer(text)))


def is_tap(text: str) -> bool:
    """Return whether a line, as shown, is TAP or a mark of a YAML block."""
    lines = [_raw(line.rstrip()) for line in LINE_END.split(INVISIBLE.sub("", text))]
    return any(line.text in {BLOCK_BEGINS, BLOCK_ENDS} or _parse(line) for line in lines)


def _raw(line: str) -> _Raw:
    prefix = PREFIX.match(line)
    end = prefix.end() if prefix else 0
    return _Raw(len(line[:end].expandtabs()), line[end:], line.startswith("#"))


class _Blocks:
    """Ends of YAML blocks. A mark without an end is ignored."""

    def __init__(self, lines: Sequence[_Raw]) -> None:
        self._lines = lines
        self._open: dict[int, int] = {}
        """By indent: the line up to which no block ends, so that no line is searched twice."""

    def end(self, start: int) -> int:
        """Return the number of the line after a block; after its mark if it has no end."""
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
    """Parse a line; None if it is not TAP."""
    if match := RESULT.match(line.text):
        return _result(line, match)
    if VERSION.match(line.text):
        return TapLine("version", line.indent, line.is_remark)
    if match := PLAN.match(line.text):
        return _plan(line, match)
    if match := BAIL.match(line.text):
        return TapLine("bail", line.indent, line.is_remark, text=match["reason"])
    return None


def _plan(line: _Raw, match: re.Match[str]) -> TapLine:
    """Return a plan; one of no tests is a skip of all, perhaps with its reason."""
    number = int((match["planned"] or "").lstrip("0")[:MAX_DIGITS] or 0)
    is_skip = not number
    reason = (match["reason"] or match["why"] or "").strip() if is_skip else ""
    return TapLine(
        "plan", line.indent, line.is_remark, number=number, directive="skip" if is_skip else "", reason=reason
    )


def _result(line: _Raw, match: re.Match[str]) -> TapLine:
    rest = match["rest"]
    directive = DIRECTIVE.search(rest)
    word = directive["word"].lower() if directive else ""
    name = rest[: directive.start()] if directive else REMARK.sub("", rest)
    return TapLine(
        "result",
        line.indent,
        line.is_remark,
        ok=not match["bad"],
        number=int(match["number"]) if match["number"] else None,
        text=ESCAPED.sub(r"\1", name.strip().removeprefix("-").strip()),
        directive="skip" if word.startswith("skip") else "todo" if word == "todo" else "xfail" if word else "",
        reason=directive["reason"] if directive else "",
    )
