"""Symbols and sort orders shared by all report forms."""

from collections.abc import Iterable

from bootmatrix.model import Cell, Record, Verdict
from bootmatrix.report.units import natural

LOOKS = {
    Verdict.PANIC: ("!", "bold magenta"),
    Verdict.HANG: ("…", "bold yellow"),
    Verdict.TIMEOUT: ("◷", "bold yellow"),
    Verdict.FAIL: ("✗", "bold red"),
    Verdict.FLAKY: ("≈", "bold cyan"),
    Verdict.USER_FAIL: ("x", "bold red"),
    Verdict.PASS: ("✓", "green"),
    Verdict.USER_PASS: ("u", "cyan"),
    Verdict.USER_UNSUPPORTED: ("?", "bold blue"),
    Verdict.BUILD_ERROR: ("B", "bold blue"),
    Verdict.INFRA_ERROR: ("I", "bold blue"),
    Verdict.SKIP: ("–", "bright_black"),
}
"""Each verdict's symbol, so that none depends on colour alone, and its style on a terminal; the worst first."""
SYMBOLS = {verdict: symbol for verdict, (symbol, _) in LOOKS.items()}
STYLES = {verdict: style for verdict, (_, style) in LOOKS.items()}
WORST_FIRST = tuple(LOOKS)


def cell_order(cell: Cell) -> tuple[object, ...]:
    """Sort key: spec, architecture with its default machine first, kernel."""
    return cell.spec_name, cell.arch, not cell.machine_is_default, cell.machine, natural(cell.kernel)


def urgency(record: Record) -> tuple[object, ...]:
    """Sort key of unexpected cells: unexpected passes, guests' failures, our faults."""
    surprising = record.verdict is Verdict.PASS
    return not surprising, not record.verdict.is_tested, WORST_FIRST.index(record.verdict), cell_order(record.cell)


def kernels_of(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return the kernel names in order."""
    return tuple(sorted({cell.kernel for cell in cells}, key=natural))


def cell_time(record: Record) -> float:
    """Return the guest's running time in s, or that until a guestless end.

    Excludes waiting for cores and downloads.
    """
    return record.outcome.wall_s if record.outcome else record.wall_s


def headline(records: Iterable[Record], *remarks: str) -> str:
    """Summarise the cells: `3 of 12 cells not as expected, interrupted`.

    Cells whose faults are all ours or the host's are told as not tested: no guest showed anything.
    """
    tried = [record for record in records if record.verdict is not Verdict.SKIP]
    wrong = [record for record in tried if not record.expected]
    share = "The only cell" if len(tried) == 1 else f"{len(wrong)} of {len(tried)} cells"
    if not tried:
        words = "No cell was tested"
    elif wrong and not any(record.verdict.is_tested for record in wrong):
        words = f"{share} could not be tested"
    elif wrong:
        words = f"{share} is not as expected" if len(tried) == 1 else f"{share} not as expected"
    else:
        words = "1 cell as expected" if len(tried) == 1 else f"All {len(tried)} cells as expected"
    return ", ".join([words, *filter(None, remarks)])


def remark(record: Record) -> str:
    """Return `unexpected` for a pass, `expected` for a failure, else empty."""
    if record.verdict is Verdict.PASS:
        return "" if record.expected else "unexpected"
    if record.verdict in {Verdict.SKIP, Verdict.USER_PASS} or not record.expected:
        return ""
    return "expected"
