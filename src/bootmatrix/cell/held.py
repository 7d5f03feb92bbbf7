"""Guests that have failed and are held, for the user to look into them."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bootmatrix.boot.start import Start
from bootmatrix.guest.client import AgentClient
from bootmatrix.model import Bootable, Cell, Evidence, GuestMessage, Judgement, Machine

SECTIONS = ("onboot", "service", "check", "onshutdown")


@dataclass(frozen=True)
class HeldGuest:
    """A failed guest that runs; `container` is the last that failed, if any."""

    cell: Cell
    machine: Machine
    bootable: Bootable
    folder: Path
    client: AgentClient
    container: str


HoldGuest = Callable[[HeldGuest], Awaitable[None]]
"""Uses a held guest. When it returns, the guest goes on to its end."""


@dataclass
class Holding:
    """Holds a cell's guest when it fails, and measures for how long."""

    cell: Cell
    hold: HoldGuest
    held_s: float = 0.0
    _began_s: float = field(default=0.0, init=False)

    def prepared(self, start: Start, bootable: Bootable) -> tuple[Start, Bootable]:
        """Return the start and the bootable of a guest that is held when it fails."""

        async def hold(client: AgentClient, messages: tuple[GuestMessage, ...]) -> None:
            began_s = time.monotonic()
            container = failed_container(messages)
            await self.hold(HeldGuest(self.cell, start.machine, held, start.folder, client, container))
            self.held_s += time.monotonic() - began_s

        held = bootable.model_copy(update={"agent": "hold"})
        return replace(start, hold=hold), held

    def noted(self, judgement: Judgement) -> Judgement:
        """Add to a judgement that the guest was held, after it had failed."""
        if not self.held_s:
            return judgement
        text = f"the guest was held for {self.held_s:.1f} s after it had failed, and may have been changed meanwhile"
        evidence = (*judgement.evidence, Evidence(source="host", text=text))
        return judgement.model_copy(update={"evidence": evidence})


def can_hold(cell: Cell, bootable: Bootable) -> bool:
    """Return whether a guest can be held: our init, unexpected failure."""
    return bootable.reports and not cell.expect


def failed_container(messages: Sequence[GuestMessage]) -> str:
    """Return the name of the container that failed last; empty if none did."""
    return next((message.words[0] for message in reversed(messages) if _is_failure(message)), "")


def _is_failure(message: GuestMessage) -> bool:
    """Return whether a message reports a failure; a service's is its end."""
    _name, *rest = message.words or ("",)
    is_end = message.kind in SECTIONS and rest[:1] == ["exit"]
    return is_end and (message.kind == "service" or rest[1:] != ["0"])
