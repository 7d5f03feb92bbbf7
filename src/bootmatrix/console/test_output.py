"""Failed tests in the output of test runners: those of RUNNERS, and TAP."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bootmatrix.model import SubResult, Verdict

MAX_LINES = 200_000
MAX_NAMED = 5
MAX_NAME = 80


@dataclass(frozen=True)
class FailedTests:
    """Failed tests of a runner; `total` may be 0, `line` is the first sign."""

    runner: str
    names: tuple[str, ...]
    total: int = 0
    line: int | None = None

    def __str__(self) -> str:
        share = f"{len(self.names)} of {self.total}" if self.total >= len(self.names) else f"{len(self.names)}"
        names = ", ".join(name[:MAX_NAME] for name in self.names[:MAX_NAMED])
        more = f" and {len(self.names) - MAX_NAMED} more" if len(self.names) > MAX_NAMED else ""
        return f"{f'{self.runner}: ' if self.runner else ''}{share} failed: {names}{more}"


@dataclass(frozen=True)
class Runner:
    """Patterns of a runner: a failed test, its summary, the first sign.

    With `needs_summary`, the lines on failed tests could be anybody's, and count beside a summary only.
    """

    name: str
    failed: re.Pattern[str]
    numbers: re.Pattern[str]
    first: re.Pattern[str]
    needs_summary: bool = False


RUNNERS = (
    Runner(
        "pytest",
        re.compile(r"(?:FAILED|ERROR) \S*?::(?P<name>[^\s\[]+(?:\[.*?\])?)(?: - |$)"),
        re.compile(r"=+ .*?(?=\d+ (?:failed|passed|error)).* in [\d.]+s.* =+$"),
        re.compile(r"(?:_{3,} .*\S _{3,}$|E   |FAILED |ERROR )"),
    ),
    Runner(
        "unittest",
        re.compile(r"(?:FAIL|ERROR): (?P<name>\w+) \([\w.]+\)"),
        re.compile(r"Ran (?P<total>\d+) tests? in "),
        re.compile(r"(?:FAIL|ERROR): "),
    ),
    Runner(
        "go test",
        re.compile(r"\s*--- FAIL: (?P<name>\S+)"),
        re.compile(r"\s*--- (?:PASS|FAIL): "),
        re.compile(r"\s*--- FAIL: "),
    ),
    Runner(
        "cargo test",
        re.compile(r"test (?P<name>\S+)(?: - .*)? \.\.\. FAILED$"),
        re.compile(r"test result: \w+\. .*passed; .*failed"),
        re.compile(r"(?:thread '.*' panicked|test \S+ \.\.\. FAILED)"),
    ),
    Runner(
        "GoogleTest",
        re.compile(r"\[  FAILED  \] (?P<name>\w+[./]\S+?)(?:,.*)? \(\d+ ms\)$"),
        re.compile(r"\[=+\] (?P<total>\d+) tests? from .* ran\."),
        re.compile(r"(?:.*: Failure$|\[  FAILED  \])"),
    ),
    Runner(
        "CTest",
        re.compile(r"\s*\d+/\d+ Test +#\d+: (?P<name>\S+) \.+\*\*\*"),
        re.compile(r"\d+% tests passed, \d+ tests? failed out of (?P<total>\d+)"),
        re.compile(r"\s*\d+/\d+ Test .*\*\*\*"),
    ),
    Runner(
        "Meson",
        re.compile(r"\s*\d+/\d+ (?P<name>\S.*?) +(?:FAIL|TIMEOUT|ERROR|UNEXPECTEDPASS|INTERRUPT) +[\d.]+ ?s\b"),
        re.compile(r"\s*\d+/(?P<total>\d+) \S.* [\d.]+ ?s\b"),
        re.compile(r"\s*\d+/\d+ \S.* (?:FAIL|TIMEOUT|ERROR|UNEXPECTEDPASS|INTERRUPT) "),
    ),
    Runner(
        "Automake",
        re.compile(r"(?:FAIL|XPASS|ERROR): (?P<name>[^\s:]+)(?: .*)?$"),
        re.compile(r"# TOTAL: (?P<total>\d+)$"),
        re.compile(r"(?:FAIL|XPASS|ERROR): "),
        needs_summary=True,
    ),
    Runner(
        "prove",
        re.compile(r"(?P<name>\S+) +\(Wstat: \d.* Tests: \d+ Failed: \d+\)$"),
        re.compile(r"Files=(?P<total>\d+), Tests=\d+"),
        re.compile(r"(?:Failed \d+/\d+ subtests|Dubious, test returned)"),
        needs_summary=True,
    ),
)
COUNTS = re.compile(r"(\d+) (?:failed|passed|errors?)\b")


def find_failed_tests(transcript: bytes, container: str) -> FailedTests | None:
    """Return the failed tests that a known runner's output names, or None."""
    prefix = f"{container}| "
    lines = [
        (number, line[len(prefix) :].rstrip())
        for number, line in enumerate(transcript.decode("utf-8", "replace").split("\n")[:MAX_LINES], 1)
        if line.startswith(prefix)
    ]
    return next((failed for runner in RUNNERS if (failed := _read(runner, lines))), None)


def _read(runner: Runner, lines: list[tuple[int, str]]) -> FailedTests | None:
    found = dict.fromkeys(match["name"] for _, text in lines if (match := runner.failed.match(text)))
    if not found or (runner.needs_summary and not any(runner.numbers.match(text) for _, text in lines)):
        return None
    names = [name for name in found if not any(other.startswith(f"{name}/") for other in found)]
    first = next((number for number, text in lines if runner.first.match(text)), None)
    return FailedTests(runner.name, tuple(names), _total(runner, [text for _, text in lines]), first)


def _total(runner: Runner, texts: list[str]) -> int:
    """Count the tests by the runner's last summary, or by its lines on each test."""
    matches = [match for text in texts if (match := runner.numbers.match(text))]
    if not matches:
        return 0
    if "total" in runner.numbers.groupindex:
        return int(matches[-1]["total"][:9])
    counted = sum(int(number[:9]) for number in COUNTS.findall(matches[-1].string))
    return counted or len(matches)


def failed_results(container: str, results: Iterable[SubResult]) -> FailedTests | None:
    """Return the failed sub-results of a container's TAP or JUnit; None without any."""
    prefix = f"{container}: "
    mine = [result for result in results if result.name.startswith(prefix) and result.verdict is not Verdict.SKIP]
    failed = [result.name.removeprefix(prefix) for result in mine if result.verdict is not Verdict.PASS]
    return FailedTests("", tuple(failed), len(mine)) if failed else None


def is_telling(text: str) -> bool:
    """Return whether a line may report a failure: no dashes, no echoed command."""
    return bool(re.search(r"\w", text)) and not re.match(r"[+$#>] ", text)
