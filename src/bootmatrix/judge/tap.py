"""TAP as containers print it: every line a sub-result."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bootmatrix.judge.printed import Printed
from bootmatrix.judge.tap_lines import TapLine, read_lines
from bootmatrix.model import GuestMessage, SubResult, Verdict
from bootmatrix.model.finding import Finding, piece

MAX_TAP_BYTES = 4 << 20
"""Of one container, unpacked; its guest keeps 20000 lines."""
MAX_NAME = 200
MAX_RESULTS = 1000
"""Sub-results of one container that are kept by name; all of them are judged."""

MAX_DEPTH = 16
"""Of subtests in subtests; what is deeper counts to the last of them."""

GZIP = zlib.MAX_WBITS | 16


class UnreadableTap(ValueError):
    """TAP that did not arrive in one piece."""


@dataclass
class Level:
    """Lines of one depth: the top, or the subtests of the result that follows them.

    `bare` counts results with neither number nor name: a runner such as prove prints one behind the results of a file.
    `is_remark` is true of one that a line with a hash sign began.
    """

    indent: int
    is_remark: bool = False
    results: list[SubResult] = field(default_factory=list)
    planned: int | None = None
    plans: int = 0
    seen: int = 0
    bare: int = 0
    versions: int = 0
    numbers: set[int] = field(default_factory=set)
    repeated: list[int] = field(default_factory=list)

    @property
    def is_fulfilled(self) -> bool:
        """True if as many results came as were planned; what is only a remark and has none of them planned nothing."""
        if self.planned is None or (self.is_remark and not self.seen and not self.versions):
            return True
        return self.seen - self.bare <= self.planned <= self.seen


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


def read_tap(messages: Iterable[GuestMessage]) -> Iterator[Printed]:
    """Sub-results and complaints of each `tap` message."""
    for message in messages:
        if message.kind == "tap":
            yield _read_message(message)


def _read_message(message: GuestMessage) -> Printed:
    container = message.words[0] if message.words else "?"
    try:
        reading = parse(unpack(message.words[1] if len(message.words) > 1 else ""), container)
    except UnreadableTap as error:
        return Printed((), (Finding(Verdict.FAIL, f"the TAP of {container} cannot be read: {error}"),))
    complaints = tuple(
        Finding(Verdict.FAIL, f"{container}: {fault}", (piece("result", fault),)) for fault in reading.faults[:5]
    )
    return Printed(tuple(reading.results[:MAX_RESULTS]), complaints)


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
    reading = Reading(container)
    for line in read_lines(text):
        if not line.is_remark or _opens(reading, line):
            _take(reading, line)
    _end_subtests(reading, 0)
    _close(reading, reading.levels[0], "")
    return reading


def _take(reading: Reading, line: TapLine) -> None:
    level = _level(reading, line)
    if line.kind == "version":
        level.versions += 1
    elif line.kind == "result":
        _take_result(reading, level, line)
    elif line.kind == "bail":
        reading.faults.append(f"bailed out: {line.text}")
    else:
        level.planned = (level.planned or 0) + (line.number or 0)
        level.plans += 1


def _opens(reading: Reading, line: TapLine) -> bool:
    """Whether a line behind `# ` belongs to a test's output: others are remarks, such as one on what was not ok."""
    return line.kind != "result" or any(level.indent == line.indent for level in reading.levels[1:])


def _level(reading: Reading, line: TapLine) -> Level:
    """The level of a line. Deeper ones than it stay open: they belong to the next result of it."""
    levels = reading.levels
    if line.indent > levels[-1].indent and len(levels) < MAX_DEPTH:
        levels.append(Level(line.indent, line.is_remark))
    return next(level for level in reversed(levels) if level.indent <= line.indent)


def _take_result(reading: Reading, level: Level, line: TapLine) -> None:
    name = line.text[:MAX_NAME] or f"test {line.number or level.seen + 1}"
    _end_subtests(reading, level.indent, name)
    verdict, detail = _verdict(line)
    level.results.append(SubResult(name=f"{reading.container}: {name}", verdict=verdict, detail=detail))
    if verdict is Verdict.FAIL:
        reading.faults.append(f"not ok: {name}")
    level.seen += 1
    level.bare += line.ok and line.number is None and not line.text
    if line.number is not None:
        if line.number in level.numbers and not level.repeated:
            level.repeated.append(line.number)
        level.numbers.add(line.number)


def _end_subtests(reading: Reading, indent: int, parent: str = "") -> None:
    """Close the levels below one; their results go up, under the name of the result that they belong to."""
    while reading.levels[-1].indent > indent:
        level = reading.levels.pop()
        _close(reading, level, parent)
        reading.levels[-1].results += [_below(one, reading.container, parent) for one in level.results]


def _below(one: SubResult, container: str, parent: str) -> SubResult:
    if not parent:
        return one
    name = one.name.removeprefix(f"{container}: ")
    return one.model_copy(update={"name": f"{container}: {parent} › {name}"[: 2 * MAX_NAME]})


def _verdict(line: TapLine) -> tuple[Verdict, str]:
    """A failure that was foreseen is none, and what was foreseen to fail and did not is a pass."""
    reason = line.reason[:MAX_NAME]
    if line.directive == "skip":
        return Verdict.SKIP, reason
    if line.directive:
        words = "to do" if line.directive == "todo" else "expected to fail"
        return (Verdict.PASS if line.ok else Verdict.SKIP), f"{words}: {reason}"
    return (Verdict.PASS if line.ok else Verdict.FAIL), ""


def _close(reading: Reading, level: Level, parent: str) -> None:
    name = f"{parent}: " if parent else ""
    if not level.is_fulfilled:
        reading.faults.append(f"{name}{level.seen} results came where {level.planned} were planned")
    elif level.plans == 1 and level.numbers and max(level.numbers) > (level.planned or 0):
        reading.faults.append(f"{name}result {max(level.numbers)} came where {level.planned} were planned")
    # Without a plan, a line that says "ok" may be just a line; one that calls itself TAP must have a plan, unless it is
    # of subtests, which a result follows: KUnit's parameters had none up to Linux 6.16.
    if level.planned is None and level.versions and not parent:
        reading.faults.append(f"{name}its plan is missing, so results may be")
    if level.repeated and level.plans <= 1 and (level.planned is not None or level.versions):
        reading.faults.append(f"{name}result {level.repeated[0]} came twice")
