"""TAP as containers print it: every line a sub-result. Parsed by tap.py, which knows the directives."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tap.line import Result
from tap.parser import Parser

from bootmatrix.model import GuestMessage, SubResult, Verdict
from bootmatrix.model.finding import Complaint, piece

MAX_TAP_BYTES = 4 << 20
"""Of one container, unpacked; its guest keeps 20000 lines."""
MAX_LINE = 1000
MAX_NAME = 200
MAX_RESULTS = 1000
"""Sub-results of one container that are kept by name; all of them are judged."""

MAX_DEPTH = 16
"""Of subtests in subtests; what is deeper counts to the last of them."""

PREFIX = re.compile(r"(?:[ \t]|# )*")
"""What marks the lines of a subtest: blanks, or `# ` where a runner prints the whole output of a test."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What a program that takes its output for a terminal puts around a result."""
RESULT = re.compile(r"(not )?ok(\s|$)")
VERSION = re.compile(r"K?TAP version [0-9]{1,4}$")
PLAN = re.compile(r"1\.\.[0-9]")
GZIP = zlib.MAX_WBITS | 16


class UnreadableTap(ValueError):
    """TAP that did not arrive in one piece."""


@dataclass
class Level:
    """Lines of one depth: the top, or the subtests of the result that follows them."""

    indent: int
    results: list[SubResult] = field(default_factory=list)
    planned: int | None = None
    plans: int = 0
    seen: int = 0
    versions: int = 0
    numbers: set[int] = field(default_factory=set)


@dataclass
class Reading:
    """What the TAP of one container comes to: sub-results, and faults in plain words. `levels` are those still open."""

    container: str
    faults: list[str] = field(default_factory=list)
    levels: list[Level] = field(default_factory=lambda: [Level(0)])

    @property
    def results(self) -> list[SubResult]:
        """Sub-results of all levels, in order."""
        return self.levels[0].results

    @property
    def planned(self) -> int | None:
        """How many results the top level announced."""
        return self.levels[0].planned


def read_tap(messages: Iterable[GuestMessage]) -> Iterator[tuple[tuple[SubResult, ...], tuple[Complaint, ...]]]:
    """Sub-results and complaints of each `tap` message."""
    for message in messages:
        if message.kind == "tap":
            yield _read_message(message)


def _read_message(message: GuestMessage) -> tuple[tuple[SubResult, ...], tuple[Complaint, ...]]:
    container = message.words[0] if message.words else "?"
    try:
        reading = parse(unpack(message.words[1] if len(message.words) > 1 else ""), container)
    except UnreadableTap as error:
        return (), (Complaint(Verdict.FAIL, f"the TAP of {container} cannot be read: {error}"),)
    complaints = tuple(
        Complaint(Verdict.FAIL, f"{container}: {fault}", (piece("result", fault),)) for fault in reading.faults[:5]
    )
    return tuple(reading.results[:MAX_RESULTS]), complaints


def unpack(word: str) -> str:
    """Text of a `tap` message's base64 and gzip.

    Raises:
        UnreadableTap: it is damaged, or too large.
    """
    try:
        packed = base64.b64decode(word, validate=True)
        stream = zlib.decompressobj(GZIP)
        data = stream.decompress(packed, MAX_TAP_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise UnreadableTap(str(error)) from error
    if stream.unconsumed_tail:
        raise UnreadableTap(f"it is larger than {MAX_TAP_BYTES} bytes")
    if not stream.eof:
        raise UnreadableTap("its end is missing")
    return data.decode("utf-8", "replace")


def parse(text: str, container: str) -> Reading:
    """Read lines of TAP, or of the kernel's KTAP.

    Subtests may go without a plan, but not without what a plan announces; a failure among them is one of the whole.
    """
    reading, parser = Reading(container), Parser()
    for line in COLOUR.sub("", text).splitlines():
        _take(reading, parser, line[:MAX_LINE].rstrip())
    _end_subtests(reading, 0)
    _close(reading, reading.levels[0], "")
    return reading


def _take(reading: Reading, parser: Parser, whole: str) -> None:
    prefix = PREFIX.match(whole)
    indent = len(prefix[0].expandtabs()) if prefix else 0
    line = whole[prefix.end() if prefix else 0 :]
    if not _is_tap(line) or (whole.startswith("#") and not _opens(reading, indent, line)):
        return
    level = _level(reading, indent)
    try:
        parsed = parser.parse_line(line)
    except ValueError as error:
        reading.faults.append(f"{line}: {error}")
        return
    if VERSION.match(line):
        level.versions += 1
    elif parsed.category == "test":
        _take_result(reading, level, parsed)
    elif parsed.category == "bail":
        reading.faults.append(f"bailed out: {parsed.reason}")
    elif parsed.category == "plan":
        level.planned = (level.planned or 0) + parsed.expected_tests
        level.plans += 1


def _is_tap(line: str) -> bool:
    return any(form.match(line) for form in (RESULT, PLAN, VERSION)) or line.startswith("Bail out!")


def _opens(reading: Reading, indent: int, line: str) -> bool:
    """Whether a line behind `# ` belongs to a test's output: others are remarks, such as one on what was not ok."""
    known = any(level.indent == indent for level in reading.levels[1:])
    return known or RESULT.match(line) is None


def _level(reading: Reading, indent: int) -> Level:
    """The level of an indent. Deeper ones than it stay open: they belong to the next result of it."""
    levels = reading.levels
    if indent > levels[-1].indent and len(levels) < MAX_DEPTH:
        levels.append(Level(indent))
    return next(level for level in reversed(levels) if level.indent <= indent)


def _take_result(reading: Reading, level: Level, result: Result) -> None:
    name = result.description.removeprefix("- ").strip()[:MAX_NAME] or f"test {result.number or level.seen + 1}"
    _end_subtests(reading, level.indent, name)
    verdict, detail = _verdict(result)
    level.results.append(SubResult(name=f"{reading.container}: {name}", verdict=verdict, detail=detail))
    if verdict is Verdict.FAIL:
        reading.faults.append(f"not ok: {name}")
    level.seen += 1
    if result.number is not None:
        if result.number in level.numbers and level.plans <= 1:
            reading.faults.append(f"result {result.number} came twice")
        level.numbers.add(result.number)


def _end_subtests(reading: Reading, indent: int, parent: str = "") -> None:
    """Close the levels below one; their results go up, under the name of the result that they belong to."""
    while reading.levels[-1].indent > indent:
        level = reading.levels.pop()
        _close(reading, level, f"{parent}: " if parent else "")
        reading.levels[-1].results += [_below(one, reading.container, parent) for one in level.results]


def _below(one: SubResult, container: str, parent: str) -> SubResult:
    if not parent:
        return one
    name = one.name.removeprefix(f"{container}: ")
    return one.model_copy(update={"name": f"{container}: {parent} › {name}"[: 2 * MAX_NAME]})


def _verdict(result: Result) -> tuple[Verdict, str]:
    reason = (result.directive.reason or "")[:MAX_NAME]
    if result.skip:
        return Verdict.SKIP, reason
    if result.todo:
        return (Verdict.PASS if result.ok else Verdict.SKIP), f"to do: {reason}"
    return (Verdict.PASS if result.ok else Verdict.FAIL), ""


def _close(reading: Reading, level: Level, name: str) -> None:
    if level.planned is not None and level.seen != level.planned:
        reading.faults.append(f"{name}{level.seen} results came where {level.planned} were planned")
    elif level.plans == 1 and level.numbers and max(level.numbers) > (level.planned or 0):
        reading.faults.append(f"{name}result {max(level.numbers)} came where {level.planned} were planned")
    # Without a plan, a line that says "ok" may be just a line; one that calls itself TAP must have a plan.
    if level.planned is None and level.versions:
        reading.faults.append(f"{name}its plan is missing, so results may be")
