"""TAP printed by containers: each result line becomes a sub-result."""

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bootmatrix.judge.tap_lines import TapLine, has_more_lines, read_lines
from bootmatrix.model import GuestMessage, SubResult, Verdict
from bootmatrix.model.verdict import Finding, piece

MAX_TAP_BYTES = 4 << 20
"""Limit of one container, unpacked; its guest keeps 20000 lines."""
MAX_NAME = 200
MAX_RESULTS = 1000
"""Sub-results of one container that are recorded; all are judged."""

ALL_TESTS = "all tests"
"""Name of the sub-result of a plan that skips all: `1..0 # SKIP no hardware`."""
MAX_TESTS = 500_000
"""Tests of one report, and lines of its TAP: some bytes each there, and half a kilobyte while it is judged."""
MAX_DEPTH = 16
"""Nesting of subtests; deeper lines count to the last level."""

GZIP = zlib.MAX_WBITS | 16


class ParsedResults(NamedTuple):
    """Results and findings of one TAP stream or file; `notes` change no verdict.

    `judged` is the number of tests that were judged, which are more than the recorded `results`.
    """

    results: tuple[SubResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    judged: int = 0


class UnreadableTap(ValueError):
    """Damaged or oversized TAP."""


@dataclass
class TapLevel:
    """Lines of one indentation: the top level, or a result's subtests.

    `programs` counts plans, those of no tests too; `bare` counts results without number and name: runners such as
    prove print one after the results of a file. `is_remark` is true if its first line begins with a hash sign. `plans`
    are all plans of some tests; `runs` are the lengths of results numbered from 1 on, those of one program each, and
    None if others are between.
    """

    indent: int
    is_remark: bool = False
    results: list[SubResult] = field(default_factory=list)
    planned: int | None = None
    plans: list[int] = field(default_factory=list)
    runs: list[int] | None = field(default_factory=list)
    seen: int = 0
    bare: int = 0
    versions: int = 0
    programs: int = 0
    numbers: set[int] = field(default_factory=set)
    repeated: list[int] = field(default_factory=list)

    @property
    def is_fulfilled(self) -> bool:
        """True if the results match the plan; one in remarks alone does not count.

        Bare results may be a runner's or a script's: they stand for none that the numbers show to be missing.
        """
        if self.planned is None or (self.is_remark and not self.seen and not self.versions):
            return True
        named = self.seen - self.bare
        is_lacking = bool(self.numbers) and max(self.numbers) < self.planned
        return named <= self.planned <= (named if is_lacking else self.seen)

    def count(self, number: int | None) -> None:
        """Count a result of a number for its program's plan."""
        if self.runs is not None and number == 1:
            self.runs.append(1)
        elif self.runs and number == self.runs[-1] + 1:
            self.runs[-1] += 1
        else:
            self.runs = None

    def shortfall(self) -> tuple[int, int] | None:
        """Return the first unfulfilled plan of a program, with its results.

        Sums would hide it: another program may have too many.
        """
        runs = self.runs or []
        pairs = zip(self.plans, runs, strict=True) if len(self.plans) == len(runs) > 1 else ()
        return next((pair for pair in pairs if pair[0] != pair[1]), None)


@dataclass
class ParsedTap:
    """A container's TAP: sub-results and faults; `levels` are the open ones."""

    container: str
    faults: list[str] = field(default_factory=list)
    levels: list[TapLevel] = field(default_factory=lambda: [TapLevel(0)])

    @property
    def results(self) -> list[SubResult]:
        """The sub-results of all levels, in order."""
        return self.levels[0].results

    @property
    def planned(self) -> int | None:
        """The number of results that the top level's plan announces."""
        return self.levels[0].planned


def read_tap(messages: Iterable[GuestMessage]) -> Iterator[ParsedResults]:
    """Parse each `tap` message."""
    for message in messages:
        if message.kind == "tap":
            yield _read_message(message)


def _read_message(message: GuestMessage) -> ParsedResults:
    container = message.words[0] if message.words else "?"
    try:
        tap = parse(unpack(message.words[1] if len(message.words) > 1 else ""), container)
    except UnreadableTap as error:
        return ParsedResults((), (Finding(Verdict.FAIL, f"the TAP of {container} cannot be read: {error}"),))
    findings = tuple(
        Finding(Verdict.FAIL, f"{container}: {fault}", (piece("result", fault),)) for fault in tap.faults[:5]
    )
    return ParsedResults(tuple(tap.results[:MAX_RESULTS]), findings)


def unpack(word: str) -> str:
    """Decode a `tap` message. Raises UnreadableTap if damaged or too large."""
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


def parse(text: str, container: str) -> ParsedTap:
    """Parse TAP, or the kernel's KTAP.

    Subtests need no plan, but must fulfil one that they have; a failed subtest is a fault of the container, and so is
    a text of too many lines, of which none is read.
    """
    tap = ParsedTap(container)
    if has_more_lines(text, MAX_TESTS):
        tap.faults.append(f"more than {MAX_TESTS} lines of TAP")
        return tap
    for line in read_lines(text):
        if not line.is_remark or _opens(tap, line):
            _take(tap, line)
    _end_subtests(tap, 0)
    _close(tap, tap.levels[0], "")
    return tap


def _take(tap: ParsedTap, line: TapLine) -> None:
    level = _level(tap, line)
    if line.kind == "version":
        level.versions += 1
    elif line.kind == "result":
        _take_result(tap, level, line)
    elif line.kind == "bail":
        tap.faults.append(f"bailed out: {line.text}")
    else:
        level.planned = (level.planned or 0) + (line.number or 0)
        level.programs += 1
        level.plans += [line.number] if line.number else []
        if line.directive:
            verdict, detail = _verdict(line)
            level.results.append(SubResult(name=f"{tap.container}: {ALL_TESTS}", verdict=verdict, detail=detail))


def _opens(tap: ParsedTap, line: TapLine) -> bool:
    """Return whether a line after `# ` quotes a test's output."""
    return line.kind in {"plan", "version"} or any(level.indent == line.indent for level in tap.levels[1:])


def _level(tap: ParsedTap, line: TapLine) -> TapLevel:
    """Return a line's level; deeper ones stay open for its next result."""
    levels = tap.levels
    if line.indent > levels[-1].indent and len(levels) < MAX_DEPTH:
        levels.append(TapLevel(line.indent, line.is_remark))
    return next(level for level in reversed(levels) if level.indent <= line.indent)


def _take_result(tap: ParsedTap, level: TapLevel, line: TapLine) -> None:
    name = line.text[:MAX_NAME] or f"test {line.number or level.seen + 1}"
    _end_subtests(tap, level.indent, name)
    verdict, detail = _verdict(line)
    level.results.append(SubResult(name=f"{tap.container}: {name}", verdict=verdict, detail=detail))
    if verdict is Verdict.FAIL:
        tap.faults.append(f"not ok: {name}")
    level.seen += 1
    is_bare = line.ok and line.number is None and not line.text
    level.bare += is_bare
    if not is_bare:
        level.count(line.number)
    if line.number is not None:
        if line.number in level.numbers and not level.repeated:
            level.repeated.append(line.number)
        level.numbers.add(line.number)


def _end_subtests(tap: ParsedTap, indent: int, parent: str = "") -> None:
    """Close deeper levels; their results move up, under the parent's name."""
    while tap.levels[-1].indent > indent:
        level = tap.levels.pop()
        _close(tap, level, parent)
        tap.levels[-1].results += [_below(result, tap.container, parent) for result in level.results]


def _below(result: SubResult, container: str, parent: str) -> SubResult:
    if not parent:
        return result
    name = result.name.removeprefix(f"{container}: ")
    return result.model_copy(update={"name": f"{container}: {parent} › {name}"[: 2 * MAX_NAME]})


def _verdict(line: TapLine) -> tuple[Verdict, str]:
    """Return verdict and detail; an expected failure is a skip."""
    reason = line.reason[:MAX_NAME]
    if line.directive == "skip":
        return Verdict.SKIP, reason
    if line.directive:
        words = "to do" if line.directive == "todo" else "expected to fail"
        return (Verdict.PASS if line.ok else Verdict.SKIP), f"{words}: {reason}"
    return (Verdict.PASS if line.ok else Verdict.FAIL), ""


def _close(tap: ParsedTap, level: TapLevel, parent: str) -> None:
    name = f"{parent}: " if parent else ""
    if not level.is_fulfilled:
        named = level.seen - level.bare
        seen = named if named <= (level.planned or 0) <= level.seen else level.seen
        tap.faults.append(f"{name}expected {level.planned} results, got {seen}")
    elif short := level.shortfall():
        tap.faults.append(f"{name}expected {short[0]} results, got {short[1]}")
    elif len(level.plans) == 1 and level.numbers and max(level.numbers) > (level.planned or 0):
        tap.faults.append(f"{name}expected {level.planned} results, got number {max(level.numbers)}")
    # Without a plan, "ok" may be prose. Output with a version line must have a plan, except that of subtests with a
    # parent result: KUnit's parameters had no plan up to Linux 6.16.
    # Each further version line is another program's, which may have ended before its plan.
    if level.versions > level.programs and not parent:
        tap.faults.append(f"{name}no plan: results may be missing")
    if level.repeated and len(level.plans) <= 1 and (level.planned is not None or level.versions):
        tap.faults.append(f"{name}duplicate result number {level.repeated[0]}")
