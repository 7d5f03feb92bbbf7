"""Expected durations of cells, from earlier runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from bootmatrix.model import Cell

DEFAULT_PACE_S = 8.0
"""Seconds of a cell on the fastest machine when no run is known: a service that is used and restarted."""


def expected_s(
    cells: Sequence[Cell], factor_of: Callable[[Cell], float], usual_s: Mapping[str, float]
) -> dict[str, float]:
    """Return the expected seconds of each cell by id.

    `usual_s` has durations of earlier runs by cell id. A new cell counts as slow as the known cells, for its machine.
    """
    factors = {cell.id: factor_of(cell) for cell in cells}
    paces = [usual_s[cell.id] / factors[cell.id] for cell in cells if cell.id in usual_s]
    pace_s = statistics.median(paces) if paces else DEFAULT_PACE_S
    return {name: usual_s.get(name, pace_s * factor) for name, factor in factors.items()}
