"""Words and orders that all forms of the report share."""

from __future__ import annotations

from collections.abc import Iterable

from bootmatrix.model import Cell, Record, Verdict
from bootmatrix.report.units import natural

SYMBOLS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✗",
    Verdict.PANIC: "!",
    Verdict.HANG: "…",
    Verdict.TIMEOUT: "◷",
    Verdict.FLAKY: "≈",
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
    Verdict.FLAKY,
    Verdict.PASS,
    Verdict.BUILD_ERROR,
    Verdict.INFRA_ERROR,
    Verdict.SKIP,
)


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
