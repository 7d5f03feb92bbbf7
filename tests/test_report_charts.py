"""The axis of the charts: room for all times, the shortest and the longest too."""

from __future__ import annotations

import pytest

from bootmatrix.report.charts import TICKS_S, Axis


@pytest.mark.parametrize(
    "times_s",
    [(), (0.0,), (0.01,), (TICKS_S[0],), (0.2, 0.3), (5.0, 5.0), (1.0, 3000.0), (TICKS_S[-1],), (TICKS_S[-1] * 9,)],
)
def test_every_time_has_a_place(times_s: tuple[float, ...]) -> None:
    axis = Axis.around(times_s)
    assert len(axis.marks_s) >= 2
    assert all(0 <= axis.place(time_s) <= 100 for time_s in times_s)
    assert (axis.ticks()[0].x, axis.ticks()[-1].x) == (0, 100)
