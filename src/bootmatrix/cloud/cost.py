"""The cost of runs on machines by the hour, beside one that is always on. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

HOUR_S = 3600.0


@dataclass(frozen=True)
class Prices:
    """Prices in one currency, by the hour, and by the month if always on.

    `start_s` is the time until a machine works, which is paid; `least_s` the least time that is.
    """

    hour: float
    month: float | None = None
    start_s: float = 60
    least_s: float = 60


@dataclass(frozen=True)
class Cost:
    """A run's wall time, paid machine time and cost; the same for a month.

    `break_even`: with more runs a month than this, a machine that is always on is cheaper; None without one.
    """

    wall_s: float
    paid_s: float
    run: float
    cell: float
    month: float
    break_even: float | None


def cost_of(cells_s: Sequence[float], machines: int, cores: int, prices: Prices, runs: float) -> Cost:
    """Compute the cost of cells with these times on started machines.

    The longest cell is placed first, each where it ends soonest; a machine is paid until its last cell has ended.
    """
    slots = [0.0] * (machines * cores)
    for seconds in sorted(cells_s, reverse=True):
        slots[slots.index(min(slots))] += seconds
    # The slots of one machine are every machines-th, as the first cells go to different machines.
    ends = [max(slots[number::machines], default=0.0) for number in range(machines)]
    paid_s = sum(max(prices.least_s, math.ceil(prices.start_s + end)) for end in ends if end)
    run = paid_s / HOUR_S * prices.hour
    return Cost(
        wall_s=prices.start_s + max(ends, default=0.0) if cells_s else 0.0,
        paid_s=paid_s,
        run=run,
        cell=run / len(cells_s) if cells_s else 0.0,
        month=run * runs,
        break_even=prices.month / run if prices.month is not None and run else None,
    )
