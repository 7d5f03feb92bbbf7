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

from bootmatrix.judge.complaint import Complaint, piece
from bootmatrix.model import GuestMessage, SubResult, Verdict

MAX_TAP_BYTES = 4 << 20
"""Of one container, unpacked; its guest keeps 20000 lines."""
MAX_LINE = 1000
MAX_NAME = 200
MAX_RESULTS = 1000
"""Sub-results of one container that are kept by name; all of them are judged."""

RESULT = re.compile(r"^\s*(not )?ok(\s|$)")
GZIP = zlib.MAX_WBITS | 16


class UnreadableTap(ValueError):
    """TAP that did not arrive in one piece."""


@dataclass
class Reading:
    """What the TAP of one container comes to. `faults` are in plain words; the rest counts top-level lines."""

    results: list[SubResult] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    planned: int | None = None
    plans: int = 0
    seen: int = 0
    versions: int = 0
    numbers: set[int] = field(default_factory=set)


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
    """Read lines of TAP. Indented lines are those of subtests: they need no plan, but may not fail either."""
    reading, parser = Reading(), Parser()
    for line in text.splitlines():
        _take(reading, parser, line[:MAX_LINE].rstrip(), container)
    _close(reading)
    return reading


def _take(reading: Reading, parser: Parser, line: str, container: str) -> None:
    nested = line[:1].isspace()
    try:
        parsed = parser.parse_line(line.lstrip())
    except ValueError as error:
        reading.faults.append(f"{line}: {error}")
        return
    if parsed.category == "test":
        if RESULT.match(line):
            _take_result(reading, parsed, nested, container)
    elif parsed.category == "bail":
        reading.faults.append(f"bailed out: {parsed.reason}")
    elif parsed.category == "version":
        reading.versions += 1
    elif parsed.category == "plan" and not nested:
        reading.planned = (reading.planned or 0) + parsed.expected_tests
        reading.plans += 1


def _take_result(reading: Reading, result: Result, nested: bool, container: str) -> None:
    description = result.description.removeprefix("- ").strip() or f"test {result.number or reading.seen + 1}"
    verdict, detail = _verdict(result)
    reading.results.append(SubResult(name=f"{container}: {description[:MAX_NAME]}", verdict=verdict, detail=detail))
    if verdict is Verdict.FAIL:
        reading.faults.append(f"not ok: {description[:MAX_NAME]}")
    if nested:
        return
    reading.seen += 1
    if result.number is not None:
        if result.number in reading.numbers and reading.plans <= 1:
            reading.faults.append(f"result {result.number} came twice")
        reading.numbers.add(result.number)


def _verdict(result: Result) -> tuple[Verdict, str]:
    reason = (result.directive.reason or "")[:MAX_NAME]
    if result.skip:
        return Verdict.SKIP, reason
    if result.todo:
        return (Verdict.PASS if result.ok else Verdict.SKIP), f"to do: {reason}"
    return (Verdict.PASS if result.ok else Verdict.FAIL), ""


def _close(reading: Reading) -> None:
    if reading.planned is not None and reading.seen != reading.planned:
        reading.faults.append(f"{reading.seen} results came where {reading.planned} were planned")
    # Without a plan, a line that says "ok" may be just a line; one that calls itself TAP must have a plan.
    if reading.planned is None and reading.versions:
        reading.faults.append("its plan is missing, so results may be")
