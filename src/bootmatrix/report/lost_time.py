"""Time that services cost by ignoring SIGTERM. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bootmatrix.model import Record
from bootmatrix.report.sanitize import one_line

STOP_HINT = "handle SIGTERM, or give it more time by 'bootmatrix.stop'"


def lost_time(record: Record) -> Iterator[str]:
    """Yield `service srv ignores SIGTERM: 2.1 of 29 s` for each such service of a cell."""
    outcome = record.outcome
    for name, seconds in (outcome.ignored_stops if outcome else {}).items():
        yield f"service {one_line(name)} ignores SIGTERM: {seconds:.0f} of {outcome.wall_s:.0f} s" if outcome else ""


def lost_time_of_run(records: Iterable[Record]) -> Iterator[str]:
    """Yield one line for each service that ignores SIGTERM: the cell that lost most, and the number of others."""
    losses: dict[tuple[str, str], list[tuple[float, Record]]] = {}
    for record in records:
        for name, seconds in (record.outcome.ignored_stops if record.outcome else {}).items():
            losses.setdefault((record.cell.spec_name, name), []).append((seconds, record))
    for (_, name), cells in losses.items():
        seconds, worst = max(cells, key=lambda cell: cell[0])
        whole_s = worst.outcome.wall_s if worst.outcome else seconds
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        yield (
            f"service {one_line(name)} ignores SIGTERM: {seconds:.0f} of {whole_s:.0f} s"
            f" in {worst.cell.id}{more}; {STOP_HINT}"
        )
