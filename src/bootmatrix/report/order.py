"""Words and orders that all forms of the report share."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bootmatrix.model import Cell, Record, Verdict

SYMBOLS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✗",
    Verdict.PANIC: "!",
    Verdict.HANG: "…",
    Verdict.TIMEOUT: "◷",
    Verdict.BUILD_ERROR: "B",
    Verdict.INFRA_ERROR: "I",
    Verdict.SKIP: "–",
}
"""So that a verdict is never told by its colour alone."""

WORST_FIRST = (
    Verdict.PANIC,
    Verdict.HANG,
    Verdict.TIMEOUT,
    Verdict.FAIL,
    Verdict.PASS,
    Verdict.BUILD_ERROR,
    Verdict.INFRA_ERROR,
    Verdict.SKIP,
)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which 6.1 comes before 6.12, and words such as `newest` after numbers."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def cell_order(cell: Cell) -> tuple[object, ...]:
    """Sort key: spec, architecture with its own machine first, kernel."""
    return cell.spec_name, cell.arch, not cell.machine_is_default, cell.machine, natural(cell.kernel)


def urgency(record: Record) -> tuple[object, ...]:
    """Sort key of what is not as expected: passes that nobody expected, then what guests did, then our faults."""
    surprising = record.verdict is Verdict.PASS
    return not surprising, not record.verdict.is_guests, WORST_FIRST.index(record.verdict), cell_order(record.cell)


def kernels_of(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Kernel names, in order."""
    return tuple(sorted({cell.kernel for cell in cells}, key=natural))


def cell_time(record: Record) -> float:
    """How long the guest ran, in seconds; for a cell without one, how long it took to come to nothing.

    What a cell waits for cores and downloads says nothing of it.
    """
    return record.outcome.wall_s if record.outcome else record.wall_s


def duration(seconds: float) -> str:
    """`7.2 s`, `1 min 05 s`, `2 h 03 min`."""
    if seconds < 0.095:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """Bytes as `812 B`, `5.4 MB`; thousands, as packages are measured."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def headline(records: Iterable[Record], interrupted: bool) -> str:
    """`All 8 cells as expected`, `3 of 12 cells not as expected`."""
    tried = [record for record in records if record.verdict is not Verdict.SKIP]
    wrong = sum(not record.expected for record in tried)
    if not tried:
        words = "No cell was run"
    elif wrong:
        words = f"{wrong} of {len(tried)} cells not as expected"
    else:
        words = "The one cell is as expected" if len(tried) == 1 else f"All {len(tried)} cells as expected"
    return f"{words}, and interrupted" if interrupted else words


def remark(record: Record) -> str:
    """What a verdict alone does not say: `unexpected`, or `expected` for a failure that was foreseen."""
    if record.verdict is Verdict.PASS:
        return "" if record.expected else "unexpected"
    if record.verdict is Verdict.SKIP or not record.expected:
        return ""
    return "expected"
