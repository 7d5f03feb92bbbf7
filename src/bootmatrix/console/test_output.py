"""Failed tests in the output of runners (test_runners.toml), and in TAP."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from bootmatrix.model import SubResult, Verdict
from bootmatrix.packaged import packaged_table

MAX_LINES = 200_000
MAX_LINE = 500
"""Characters of a line that a runner printed. The time for a longer one would grow with its square."""
MAX_NAMED = 5
MAX_NAME = 80
PATTERNS = ("failed", "numbers", "first")


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


@cache
def load_runners() -> tuple[Runner, ...]:
    """Load all runners of test_runners.toml."""
    entries = packaged_table("console/test_runners.toml")["runner"]
    return tuple(Runner(**entry | {name: re.compile(entry[name]) for name in PATTERNS}) for entry in entries)


COUNTS = re.compile(r"(\d+) (?:failed|passed|errors?)\b")


def find_failed_tests(transcript: bytes, container: str) -> FailedTests | None:
    """Return the failed tests that a known runner's output names, or None."""
    prefix = f"{container}| "
    lines = [
        (number, line[len(prefix) :].rstrip())
        for number, line in enumerate(transcript.decode("utf-8", "replace").split("\n")[:MAX_LINES], 1)
        if line.startswith(prefix) and len(line) <= len(prefix) + MAX_LINE
    ]
    return next((failed for runner in load_runners() if (failed := _read(runner, lines))), None)


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
