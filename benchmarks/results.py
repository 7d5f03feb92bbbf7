"""What is measured, against what it may be."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Result:
    """One figure. `ok` says whether it is within its target; `details` holds the samples it comes from."""

    name: str
    value: str
    target: str
    ok: bool
    details: dict[str, float | list[float]] = field(default_factory=dict)


def median(samples: Sequence[float]) -> float:
    """The middle one, which a busy moment of the host does not move as it moves the mean."""
    return statistics.median(samples)


def table(results: Iterable[Result]) -> str:
    """The results as lines of text."""
    rows = [("", "measured", "target", "")]
    rows += [(result.name, result.value, result.target, "ok" if result.ok else "MISSED") for result in results]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(results: Iterable[Result]) -> str:
    """The results with all samples."""
    return json.dumps([asdict(result) for result in results], indent=1)
