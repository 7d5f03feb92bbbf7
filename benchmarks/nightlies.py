"""A year of nightly runs on machines that are started for them: recorded cells, replayed in simulated time.

Each night tests some packages of the survey (benchmarks/survey), or all cells of one of the runs that `--of` names. A
cell takes as long as it took when it was recorded. Machines come and go by the rules of `--cluster ec2.yml`.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.results import Result, median
from bootmatrix.cloud.cost import HOUR_S, Prices, cost_of
from bootmatrix.execute.dask.hosts.machines import IDLE_S, POLL_S
from bootmatrix.runs.run_store import load_run

SURVEY = Path(__file__).parent / "survey/list.results.jsonl"
NIGHTS, SEED = 365, 23
PRICES = Prices(hour=0.72, month=194.72)
"""The mission's example: a machine by the hour, beside one that is always on."""
MACHINES, CORES, CELLS = 4, 4, 8
ERROR = 0.10
"""By so much the estimate of `bootmatrix cost` may differ from the sum of the nights."""


@dataclass(frozen=True)
class Pool:
    """Machines as in ec2.yml: one for each `cells` cells without a record. Each is ready after `start_s`."""

    machines: int = MACHINES
    cores: int = CORES
    cells: int = CELLS
    start_s: float = PRICES.start_s


@dataclass(eq=False)
class Machine:
    """A machine of a night. `idle_since_s` is None while it has cells or starts."""

    begun_s: float
    running: int = 0
    is_up: bool = False
    idle_since_s: float | None = None
    ended_s: float | None = None


@dataclass
class Night:
    """A run in simulated time."""

    pool: Pool
    waiting: list[float]
    machines: list[Machine] = field(default_factory=list)
    demand: int = 0
    now_s: float = 0.0
    events: list[tuple[float, int, int, bool]] = field(default_factory=list)
    """Times at which a machine is up, or a cell of one has ended: a heap of (s, number, machine, is a cell's end)."""

    @property
    def live(self) -> list[Machine]:
        """The machines that are paid for."""
        return [machine for machine in self.machines if machine.ended_s is None]

    @property
    def paid_s(self) -> float:
        """Seconds of all machines together, each with the least time that is paid."""
        spent_s = ((machine.ended_s or self.now_s) - machine.begun_s for machine in self.machines)
        return sum(max(PRICES.least_s, math.ceil(each_s)) for each_s in spent_s)

    def run(self) -> Night:
        """Go from event to event, and to the next look at the demand, until all cells have a record."""
        self.demand = len(self.waiting)
        self.waiting.sort()
        while self.demand:
            self._scale()
            self._place()
            idle = [machine.idle_since_s + IDLE_S for machine in self.live if machine.idle_since_s is not None]
            self.now_s = min([*(event[0] for event in self.events[:1]), *(each for each in idle if each > self.now_s)])
            while self.events and self.events[0][0] <= self.now_s:
                _, _, number, is_end = heapq.heappop(self.events)
                self.machines[number].is_up = True
                self.machines[number].running -= is_end
                self.demand -= is_end
        for machine in self.live:
            machine.ended_s = self.now_s
        return self

    def _scale(self) -> None:
        wanted = min(self.pool.machines, math.ceil(self.demand / self.pool.cells))
        while len(self.live) < wanted:
            self.machines.append(Machine(self.now_s))
            self._later(self.pool.start_s + POLL_S, len(self.machines) - 1, is_end=False)
        for machine in self.live:
            if not machine.is_up or machine.running or self.waiting:
                machine.idle_since_s = None
            elif machine.idle_since_s is None:
                machine.idle_since_s = self.now_s
            elif self.now_s - machine.idle_since_s >= IDLE_S and len(self.live) > wanted:
                machine.ended_s = self.now_s

    def _place(self) -> None:
        """Give waiting cells, the longest first, to the machine with the most room."""
        while self.waiting:
            free = [machine for machine in self.live if machine.is_up and machine.running < self.pool.cores]
            if not free:
                return
            machine = min(free, key=lambda each: each.running)
            machine.running += 1
            self._later(self.waiting.pop(), self.machines.index(machine), is_end=True)

    def _later(self, seconds: float, machine: int, *, is_end: bool) -> None:
        heapq.heappush(self.events, (self.now_s + seconds, len(self.events), machine, is_end))


def survey_nights(nights: int, path: Path = SURVEY) -> Iterator[list[float]]:
    """Yield each night's seconds of cells: those of some packages, as if they had changed."""
    cells: dict[str, list[float]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        cell = json.loads(line)
        cells[cell["package"]].append(cell["wall_s"])
    chance = random.Random(SEED)
    for _ in range(nights):
        changed = chance.sample(sorted(cells), chance.randint(1, len(cells)))
        yield [seconds for package in changed for seconds in cells[package]]


def saved_nights(nights: int, runs: Sequence[Path]) -> Iterator[list[float]]:
    """Yield the seconds of the cells of one run after the other."""
    found = [[record.wall_s for record in load_run(run).records if record.wall_s] for run in runs]
    for night in range(nights):
        yield found[night % len(found)]


@dataclass(frozen=True)
class Year:
    """The nights with their cells, and what `bootmatrix cost` says of the same."""

    cells: int
    nights: list[Night]
    estimated_s: float

    @property
    def paid_s(self) -> float:
        """Seconds of all machines."""
        return sum(night.paid_s for night in self.nights)

    @property
    def cost(self) -> float:
        """The price of them."""
        return self.paid_s / HOUR_S * PRICES.hour

    @property
    def break_even(self) -> float:
        """From so many such runs a month on, a machine that is always on is cheaper."""
        assert PRICES.month
        return PRICES.month / (self.cost / len(self.nights))


def replay(nights: Iterator[list[float]], pool: Pool) -> Year:
    """Replay nights."""
    cells, done, estimated_s = 0, [], 0.0
    for cells_s in nights:
        cells += len(cells_s)
        done.append(Night(pool, [*cells_s]).run())
        wanted = min(pool.machines, math.ceil(len(cells_s) / pool.cells))
        estimated_s += cost_of(cells_s, wanted, pool.cores, PRICES, 1).paid_s
    return Year(cells, done, estimated_s)


def year(args: argparse.Namespace) -> Iterator[Result]:
    """A year's cost beside a machine that is always on, and beside the estimate."""
    nights = saved_nights(NIGHTS, args.of) if args.of else survey_nights(NIGHTS)
    found = replay(nights, Pool())
    assert PRICES.month
    always, error = 12 * PRICES.month, found.estimated_s / found.paid_s - 1
    walls = [night.now_s for night in found.nights]
    yield Result(
        name=f"{NIGHTS} nights, {found.cells} recorded cells, up to {MACHINES} machines of {CORES} cores",
        value=f"{found.cost:.2f} a year ({found.paid_s / HOUR_S:.0f} h), always on {always:.2f}, which is cheaper from "
        f"{found.break_even:.0f} such nights a month on; median {median(walls) / 60:.0f} min",
        target="cheaper than always on",
        ok=found.cost < always,
        details={"wall_s": walls, "paid_s": [night.paid_s for night in found.nights]},
    )
    yield Result(
        name="`bootmatrix cost` beside the same nights",
        value=f"{error:+.1%}",
        target=f"±{ERROR:.0%}",
        ok=abs(error) <= ERROR,
        details={"estimated_s": found.estimated_s, "paid_s": found.paid_s},
    )
