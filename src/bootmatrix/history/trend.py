"""A cell's verdicts over time: since when it fails, how often it flips, how long it usually takes. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

from bootmatrix.history.values import LAST, CellHistory, CellKey, DurationChange, PastVerdict, Standing, Usual

MANY_FLIPS = 4
"""There and back again twice, whatever the inputs were: more than a fault that came and was mended."""
FEW_RUNS = 5
"""With fewer durations than these their spread says nothing."""
MAD_TO_SIGMA = 1.4826
"""The median absolute deviation times this is the standard deviation of what is normally distributed."""
SIGMAS = 4.0
LEAST_SHARE = 0.25
LEAST_S = 2.0
"""A change is told only if it is over four deviations, over a quarter, and over two seconds: hosts are busy."""
UNKNOWN_SHARE = 0.5
UNKNOWN_S = 5.0
"""Where the spread is not known."""


def history_of(cell_id: str, key: CellKey, past: Sequence[PastVerdict]) -> CellHistory:
    """The history of a cell, from what it came to in each run, oldest first. Skips are no part of it."""
    tried = [one for one in past if one.standing is not Standing.SKIP]
    seen = tried[-LAST:]
    judged = [one for one in seen if one.standing is not Standing.FAULT]
    flips = [(one, other) for one, other in pairwise(judged) if is_pass(one) != is_pass(other)]
    unprovoked = sum(bool(one.inputs) and one.inputs == other.inputs for one, other in flips)
    flaky = unprovoked > 0 or len(flips) >= MANY_FLIPS or any(one.flaky for one in judged)
    passes = [one for one in judged if is_pass(one)]
    return CellHistory(
        id=cell_id,
        key=key,
        past=tuple(seen),
        failing_since=failing_since(tried),
        last_green=passes[-1] if passes else None,
        flips=len(flips),
        unprovoked_flips=unprovoked,
        is_flaky=flaky,
        usual=usual(judged),
    )


def is_pass(one: PastVerdict) -> bool:
    """Whether the guest passed and nothing in it was flaky."""
    return one.verdict == "pass" and not one.flaky


def failing_since(tried: Sequence[PastVerdict]) -> PastVerdict | None:
    """The first failure after the last pass."""
    first = None
    for one in reversed(tried):
        if is_pass(one):
            break
        if one.standing is not Standing.FAULT:
            first = one
    return first


def usual(judged: Sequence[PastVerdict]) -> Usual | None:
    """What a cell usually takes on the host of its last run; a failure's time says nothing of that."""
    if not judged:
        return None
    times = [one.seconds for one in judged if is_pass(one) and one.host == judged[-1].host and one.seconds > 0]
    if not times:
        return None
    middle = statistics.median(times)
    return Usual(middle, statistics.median(abs(one - middle) for one in times), len(times))


def duration_change(before: Usual | None, now_s: float) -> DurationChange | None:
    """How a duration differs from the usual one; None if that may be noise."""
    if before is None or before.median_s <= 0 or now_s <= 0:
        return None
    if before.runs >= FEW_RUNS:
        limit_s = max(SIGMAS * MAD_TO_SIGMA * before.mad_s, LEAST_SHARE * before.median_s, LEAST_S)
    else:
        limit_s = max(UNKNOWN_SHARE * before.median_s, UNKNOWN_S)
    if abs(now_s - before.median_s) <= limit_s:
        return None
    return DurationChange(before.median_s, now_s, before.runs)
