"""Trend of a cell's verdicts: failing since, flips, usual duration. Pure."""

import statistics
from collections.abc import Sequence
from itertools import pairwise, takewhile

from bootmatrix.history.values import LAST, CellHistory, CellKey, DurationChange, PastVerdict, Standing, Usual

MANY_FLIPS = 4
"""Flips that make a cell flapping whatever its inputs: more than one fault and its fix."""
FEW_RUNS = 5
"""Least number of durations for a meaningful spread."""
MAD_TO_SIGMA = 1.4826
"""Ratio of the standard deviation to the median absolute deviation in a normal distribution."""
SIGMAS = 4.0
LEAST_SHARE = 0.25
LEAST_S = 2.0
"""Least reported change, by all three: deviations, share, seconds. Hosts are noisy."""
UNKNOWN_SHARE = 0.5
UNKNOWN_S = 5.0
"""Least reported change where the spread is unknown."""


def history_of(cell_id: str, key: CellKey, past: Sequence[PastVerdict]) -> CellHistory:
    """Compute a cell's history, oldest first, without skips."""
    tried = [entry for entry in past if entry.standing is not Standing.SKIP]
    last = tried[-LAST:]
    judged = [entry for entry in last if entry.standing is not Standing.FAULT]
    flips = [(entry, following) for entry, following in pairwise(judged) if is_pass(entry) != is_pass(following)]
    unprovoked = sum(bool(entry.inputs) and entry.inputs == following.inputs for entry, following in flips)
    # One change to failure may be for good, whatever brought it about.
    is_first_failure = len(flips) == 1 and not is_pass(judged[-1])
    flapping = (
        (unprovoked > 0 and not is_first_failure) or len(flips) >= MANY_FLIPS or any(entry.flaky for entry in judged)
    )
    passes = [entry for entry in judged if is_pass(entry)]
    return CellHistory(
        id=cell_id,
        key=key,
        past=tuple(last),
        failing_since=failing_since(tried),
        failing_runs=len(_failures(tried)),
        last_green=passes[-1] if passes else None,
        flips=len(flips),
        unprovoked_flips=unprovoked,
        is_flapping=flapping,
        usual=usual(judged),
    )


def is_pass(entry: PastVerdict) -> bool:
    """Return whether the guest passed without being flaky."""
    return entry.verdict == "pass" and not entry.flaky


def failing_since(tried: Sequence[PastVerdict]) -> PastVerdict | None:
    """Return the first failure after the last pass."""
    return next(reversed(_failures(tried)), None)


def _failures(tried: Sequence[PastVerdict]) -> list[PastVerdict]:
    """Return the failures after the last pass, newest first."""
    since = takewhile(lambda entry: not is_pass(entry), reversed(tried))
    return [entry for entry in since if entry.standing is not Standing.FAULT]


def usual(judged: Sequence[PastVerdict]) -> Usual | None:
    """Compute the usual duration of passes on the host of the last run."""
    if not judged:
        return None
    times = [
        entry.seconds for entry in judged if is_pass(entry) and entry.host == judged[-1].host and entry.seconds > 0
    ]
    if not times:
        return None
    median = statistics.median(times)
    return Usual(median, statistics.median(abs(entry - median) for entry in times), len(times))


def duration_change(before: Usual | None, now_s: float) -> DurationChange | None:
    """Compare a duration with the usual one; None if the difference may be noise."""
    if before is None or before.median_s <= 0 or now_s <= 0:
        return None
    if before.runs >= FEW_RUNS:
        limit_s = max(SIGMAS * MAD_TO_SIGMA * before.mad_s, LEAST_SHARE * before.median_s, LEAST_S)
    else:
        limit_s = max(UNKNOWN_SHARE * before.median_s, UNKNOWN_S)
    if abs(now_s - before.median_s) <= limit_s:
        return None
    return DurationChange(before.median_s, now_s, before.runs)
