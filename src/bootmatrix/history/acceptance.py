"""Accepted failures: a reason, a person, a last day. Quick to import."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import open_plain, write_atomic
from bootmatrix.history.values import CellHistory

ACCEPTED_FILE = "accepted.json"
FORMAT = 1
MAX_BYTES = 4 << 20
_KEYS = ("cell", "reason", "by", "at", "until", "title")


@dataclass(frozen=True, slots=True)
class AcceptedFailure:
    """A failure's acceptance; `cell` may be a pattern, `until` the last day.

    `at` is the time of the acceptance. An empty `title` means the runs of all matrices. `passed` are cells for which it
    is over, since they passed; `is_over` means that its last day has gone by.
    """

    cell: str
    reason: str
    by: str
    at: str
    until: str
    title: str = ""
    passed: tuple[str, ...] = ()
    is_over: bool = False

    def covers(self, cell: str) -> bool:
        """Return whether it holds for a cell."""
        return not self.is_over and cell not in self.passed and covers(self.cell, cell)

    def end_words(self, cell: str) -> str:
        """Describe the end of an acceptance that once held for a cell."""
        over = f"acceptance by {self.by} ended {_day_words(self.until)}: {self.reason}"
        return f"{over if self.is_over else f'was {self}'}{'; it has passed since' if cell in self.passed else ''}"

    def __str__(self) -> str:
        return f"accepted by {self.by} until {_day_words(self.until)}: {self.reason}"


def covers(pattern: str, cell: str) -> bool:
    """Return whether an acceptance's cell, maybe a pattern, means a cell."""
    return pattern == cell or fnmatchcase(cell, pattern)


def _day_words(until: str) -> str:
    """Format a day as `24 November 2026`; another text stays."""
    try:
        day = date.fromisoformat(until)
    except ValueError:
        return until
    return f"{day.day} {day:%B %Y}"


def read_accepted(reports: Path) -> tuple[AcceptedFailure, ...]:
    """Read a folder's acceptances. Raises InputError if they are damaged."""
    file = reports / ACCEPTED_FILE
    try:
        with open_plain(file.resolve(), MAX_BYTES) as stream:  # it may be a link to a list elsewhere
            data = stream.read()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        value = json.loads(data)
        if value["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}")
        return tuple(_entry(entry) for entry in value["accepted"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        hint = "Repair it, or remove it and accept the failures again."
        raise InputError(f"{file}: damaged: {error}", hint) from error


def _entry(value: dict[str, str]) -> AcceptedFailure:
    if set(value) != set(_KEYS) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError(f"an entry must have the texts {', '.join(_KEYS)}")
    if date.fromisoformat(value["until"]).isoformat() != value["until"]:  # days are compared as texts
        raise ValueError(f"{value['until'][:20]!r} must be a day such as 2026-12-31")
    cell, reason, by, at, until, title = (value[key] for key in _KEYS)
    return AcceptedFailure(cell, reason, by, at, until, title)


def write_accepted(reports: Path, accepted: Iterable[AcceptedFailure]) -> None:
    """Write the accepted failures. Raises OSError if the file cannot be written."""
    value = {"format": FORMAT, "accepted": [fields_of(entry) for entry in accepted]}
    write_atomic(reports / ACCEPTED_FILE, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def fields_of(entry: AcceptedFailure) -> dict[str, str]:
    """Return what a person accepted, by name."""
    return {key: getattr(entry, key) for key in _KEYS}


def today() -> date:
    """Return the current day in UTC."""
    return datetime.now(UTC).date()


def of_title(accepted: Iterable[AcceptedFailure], title: str, day: date | None = None) -> tuple[AcceptedFailure, ...]:
    """Select the acceptances for the runs of a title; those over are marked."""
    on = (day or today()).isoformat()
    return tuple(replace(entry, is_over=entry.until < on) for entry in accepted if entry.title in {"", title})


def without_passed(
    accepted: Iterable[AcceptedFailure], histories: Collection[CellHistory]
) -> tuple[AcceptedFailure, ...]:
    """End acceptances in cells that passed since: their failure is a new one.

    A pass of a flapping cell ends nothing.
    """
    again = [cell for cell in histories if cell.failing_since and cell.last_green and not cell.is_flapping]
    return tuple(replace(entry, passed=tuple(_passed(entry, again))) for entry in accepted)


def _passed(entry: AcceptedFailure, again: Iterable[CellHistory]) -> Iterator[str]:
    for cell in again:
        if cell.last_green and cell.last_green.started_at > entry.at and covers(entry.cell, cell.id):
            yield cell.id


def ended_acceptance_of(cell: str, accepted: Sequence[AcceptedFailure]) -> AcceptedFailure | None:
    """Return the latest acceptance of a cell that its day or a pass ended."""
    entries = (entry for entry in reversed(accepted) if covers(entry.cell, cell))
    return next((entry for entry in entries if entry.is_over or cell in entry.passed), None)


def acceptance_of(cell: str, accepted: Sequence[AcceptedFailure]) -> AcceptedFailure | None:
    """Return the latest acceptance that covers a cell."""
    return next((entry for entry in reversed(accepted) if entry.covers(cell)), None)
