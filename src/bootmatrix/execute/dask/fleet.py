"""The workers that the scheduler knows, and the hosts that are expected."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from distributed import Client
from pydantic import ValidationError

from bootmatrix.execute.dask.offers import shortfall, unmet, version_fault
from bootmatrix.execute.dask.task import PLUGIN
from bootmatrix.model.remote import Offer
from bootmatrix.model.run_config import Needs

POLL_S = 5.0
"""Interval of questions beside the scheduler's events."""
FIRST_POLL_S = 0.1
RETURN_S = 60.0
"""Time that a lost host has to come back before the cells that only it can run are given up."""
START_S = 90.0
"""Time for a host to connect, take the tool and start its worker."""
HostState = Literal["pending", "up", "lost", "failed"]


@dataclass
class HostStatus:
    """A host of the cluster.

    `since_s` is monotonic; `reason` and `hint` are of a failure.
    """

    state: HostState = "pending"
    since_s: float = 0.0
    reason: str = ""
    hint: str = ""


class Fleet:
    """Knows the workers and their offers; tells the executor of each change."""

    def __init__(self, client: Client, note: Callable[[str], None]) -> None:
        self._client, self._note = client, note
        self.offers: dict[str, Offer] = {}
        """By the worker's address. A change replaces it."""
        self._able_of: tuple[dict[str, Offer], dict[Needs, list[str]]] = self.offers, {}
        self.hosts: dict[str, HostStatus] = {}
        """Hosts that a run supervises; empty for other clusters."""
        self.known: dict[str, Offer] = {}
        """Last offers, by host: of lost ones too."""
        self.awaits_workers_s = 0.0
        """Time for the first worker of a cluster without known hosts."""
        self.offsets: dict[str, float] = {}
        """Clocks of hosts less ours, in seconds, if they differ noticeably."""
        self._ended: set[str] = set()
        self.seen: dict[str, Offer] = {}
        """Every offer of this run, by instance."""
        self.loads: Counter[str] = Counter()
        """Cells on workers, by address."""
        self.retired: set[str] = set()
        """Hosts that are about to end, and get no more cells."""
        self.is_growing = False
        """True while more hosts like the known ones are started as they are needed."""
        self.demand = 0
        """Cells without a record yet, for clusters that grow with them."""
        self._begun_s = time.monotonic()
        self._left_s: dict[str, float] = {}
        """Times, by host, at which workers left: a supervisor may notice that later."""
        self.refused: dict[str, str] = {}
        """Workers of other versions: why, by host or, for others, by address."""
        self._change: asyncio.Future[None] | None = None
        self._news = asyncio.Event()
        client.subscribe_topic("all", lambda _event: self._news.set())

    def set_host(self, name: str, state: HostState, reason: str = "", hint: str = "") -> None:
        """Report a host's state; attempts to come back do not change its time."""
        before = self.hosts.get(name)
        since_s = before.since_s if before and before.state == state else time.monotonic()
        self.hosts[name] = HostStatus(state, since_s, reason, hint)
        self.changed()

    def load_of(self, host: str) -> int:
        """Return the number of cells on a host."""
        return sum(self.loads[address] for address, offer in self.offers.items() if offer.host == host)

    def changed(self) -> None:
        """Wake all who wait for a change."""
        if self._change and not self._change.done():
            self._change.set_result(None)

    def change(self) -> asyncio.Future[None]:
        """Return a future of the next change. All who wait share it."""
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    async def wait(self, timeout_s: float) -> None:
        """Wait for a change, or the time."""
        await asyncio.wait((self.change(),), timeout=timeout_s)

    def capable(self, needs: Needs, excluded: Iterable[str] = ()) -> list[str]:
        """Return workers for a cell; those of `excluded` hosts come last.

        They come after hosts that are starting, too.
        """
        able = [address for address in self._able(needs) if self.offers[address].host not in self.retired]
        names = set(excluded)
        left = [address for address in able if self.offers[address].host not in names] if names else able
        return left or ([] if names and self.starting() - names else able)

    def starting(self) -> set[str]:
        """Return hosts from which an offer may come soon."""
        now_s, offered = time.monotonic(), {offer.host for offer in self.offers.values()}
        return {
            name
            for name, host in self.hosts.items()
            if host.state in {"pending", "up"} and name not in offered and name not in self.refused
            if now_s - max(host.since_s, self._left_s.get(name, 0)) < START_S
        }

    def _able(self, needs: Needs) -> list[str]:
        """Return the workers that meet the needs of a cell, which many share."""
        if self._able_of[0] is not self.offers:
            self._able_of = self.offers, {}
        known = self._able_of[1]
        if needs not in known:
            known[needs] = [address for address, offer in self.offers.items() if not unmet(needs, offer)]
        return known[needs]

    def hopeless(self, needs: Needs) -> str:
        """Return why no worker will ever run a cell; empty while there is hope."""
        known = self.known.values()
        if self.is_growing and (not known or any(not unmet(needs, offer) for offer in known)):
            return ""
        now_s = time.monotonic()
        if self.starting():
            return ""
        lost = [name for name, host in self.hosts.items() if host.state == "lost"]
        for name in lost:
            offer = self.known.get(name)
            fits = offer is None or not unmet(needs, offer)
            if fits and now_s - self.hosts[name].since_s < RETURN_S:
                return ""
        if not self.hosts and not self.known and now_s - self._begun_s < self.awaits_workers_s:
            return ""
        failures = [f"{name}: {host.reason}" for name, host in self.hosts.items() if host.state == "failed"]
        failures += [f"{name} {fault}" for name, fault in self.refused.items()]
        failures += [f"{name} was lost" for name in lost]
        if self.offers or not failures:
            failures.append(shortfall(needs, self.offers.values() or self.known.values()))
        return "; ".join(failures)

    @property
    def hints(self) -> str:
        """Return the remedies for the hosts that failed, or one for all."""
        found = dict.fromkeys(host.hint for host in self.hosts.values() if host.state == "failed" and host.hint)
        return " ".join(found) or "Add a host that can run it, or leave the cell out."

    async def follow(self) -> None:
        """Keep the offers up to date, for ever."""
        while True:
            await self.refresh()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S if self.offers else FIRST_POLL_S):
                    await self._news.wait()
            self._news.clear()

    async def refresh(self) -> None:
        """Ask the scheduler for its workers."""
        scheduler: Any = self._client.scheduler
        info: dict[str, Any] = await scheduler.identity(n_workers=-1)
        offers = {}
        for address, worker in info["workers"].items():
            offer = self.offers.get(address) or self._offer(address, worker)
            if offer and offer.instance not in self._ended:
                offers[address] = offer
        self._update(offers)

    def forget(self, instance: str) -> None:
        """Take a worker for lost before the scheduler does: its connection has ended."""
        self._ended.add(instance)
        self._update({address: offer for address, offer in self.offers.items() if offer.instance != instance})

    def _update(self, offers: dict[str, Offer]) -> None:
        if offers != self.offers:
            gone = self.offers.keys() - offers.keys()
            self._left_s |= {self.offers[address].host: time.monotonic() for address in gone}
            self.offers = offers
            self.seen |= {offer.instance: offer for offer in offers.values()}
            self.known |= {offer.host: offer for offer in offers.values()}
            self.changed()

    def _offer(self, address: str, worker: dict[str, Any]) -> Offer | None:
        """Return a worker's offer; a worker that does not fit is refused in words, once."""
        try:
            offer = Offer.model_validate_json(worker.get(PLUGIN, ""))
            fault = version_fault(offer)
        except ValidationError:
            offer, fault = None, "is not a worker of bootmatrix, or of another version"
        if offer and not fault:
            return offer
        name = offer.host if offer else str(worker.get("name", address))
        key = offer.host if offer else address
        if key not in self.refused:
            self.refused[key] = fault
            self._note(f"the worker {name[:100]} is not used: it {fault}")
        return None
