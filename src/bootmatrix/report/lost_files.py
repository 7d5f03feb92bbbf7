"""Result files that a run has not saved whole, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bootmatrix.model import Record
from bootmatrix.model.record import ResultFile
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import size


def lost_files_of_run(records: Iterable[Record]) -> Iterator[str]:
    """Yield one line for each file that is not whole: the first cell, and the number of others."""
    losses: dict[tuple[str, str], list[tuple[Record, ResultFile]]] = {}
    for record in records:
        for file in record.files:
            if file.is_cut or file.notes:
                losses.setdefault((record.cell.spec_name, file.path), []).append((record, file))
    for (_, path), found in losses.items():
        record, file = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        cause = file.notes[0] if file.notes else f"only a part of its {size(file.size_bytes)} was saved (--get-limit)"
        yield f"{one_line(path)} in {record.cell.id}{more}: {one_line(cause)}"
