"""Placement: a cell goes to the able worker with the most room."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from bootmatrix.execute.dask.fleet import Fleet
from bootmatrix.model.remote import Offer
from bootmatrix.model.run_config import Needs

AHEAD = 2
"""Cells beyond its cores that a worker has: they fetch their files while others boot."""
WAIT_S = 1.0


class NoHost(Exception):
    """No host can run a cell; the message says why, host by host."""


@dataclass(frozen=True)
class _Wish:
    needs: Needs
    excluded: frozenset[str]
    answer: asyncio.Future[str]


class Placement:
    """Holds the workers' room; a later cell may go first if only it fits.

    Cells that wait here, and not on a worker, can still go to a host that comes later.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._loads = fleet.loads
        self._wishes: list[_Wish] = []
        self._capacity: tuple[dict[str, Offer], int, int] = {}, 0, 0

    @property
    def capacity(self) -> int:
        """Return the number of cells that the workers take at a time."""
        offers, hosts = self._fleet.offers, len(self._fleet.hosts)
        if self._capacity[0] is not offers or self._capacity[1] != hosts:
            self._capacity = offers, hosts, sum(map(self._limit, offers.values()))
        return self._capacity[2]

    async def take(self, needs: Needs, excluded: Iterable[str] = ()) -> str:
        """Wait for a worker's address; `excluded` hosts come last.

        Raises NoHost if there will be none.
        """
        wish = _Wish(needs, frozenset(excluded), asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        try:
            self._assign()
            while not wish.answer.done():
                self._check(needs)
                change = self._fleet.change()
                await asyncio.wait((wish.answer, change), timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
                self._assign()
            return wish.answer.result()
        except BaseException:
            if wish.answer.done():
                self.give_back(wish.answer.result())
            raise
        finally:
            if wish in self._wishes:
                self._wishes.remove(wish)

    def give_back(self, address: str) -> None:
        """Free the room of a cell that has ended."""
        self._loads[address] -= 1
        if self._loads[address] <= 0:
            del self._loads[address]
        self._assign()

    def _check(self, needs: Needs) -> None:
        if not self._fleet.capable(needs):
            reason = self._fleet.hopeless(needs)
            if reason:
                raise NoHost(reason)

    def _limit(self, offer: Offer) -> int:
        """Return how many cells a worker takes, fewer if others would be idle."""
        is_alone = len(self._fleet.offers) == 1 and len(self._fleet.hosts) <= 1
        return offer.slots if is_alone else min(offer.slots, offer.cores + AHEAD)

    def _room(self, address: str) -> float:
        """Return the part of a worker that is free; 0 or less for none."""
        offer = self._fleet.offers.get(address)
        return 1 - self._loads[address] / self._limit(offer) if offer else 0

    def _assign(self) -> None:
        hopeless: set[tuple[Needs, frozenset[str]]] = set()
        for wish in tuple(self._wishes):
            if (wish.needs, wish.excluded) in hopeless:
                continue
            able = self._fleet.capable(wish.needs, wish.excluded)
            best = max(able, key=self._room, default="")
            if not best or self._room(best) <= 0:
                hopeless.add((wish.needs, wish.excluded))
            else:
                self._loads[best] += 1
                self._wishes.remove(wish)
                wish.answer.set_result(best)
