"""QEMU's monitor, through QEMU's own client library. Its events are evidence: none is missed."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
from qemu.qmp import (
    ConnectError,
    EventListener,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    QMPError,
    Runstate,
)

from bootmatrix.model import QmpEvent

MAX_EVENTS = 1000
"""A guest can cause some kinds of event as often as it likes; those that end it are kept in any case."""
LEAVING = frozenset({"SHUTDOWN", "GUEST_PANICKED"})

MAX_LINE_BYTES = 1 << 20
"""Longest line that the library may buffer."""

DISCONNECT_S = 2.0
"""For the library to wind up a connection, also one to a QEMU that is stuck."""

# The library logs what it also raises.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class Monitor:
    """The connection to one QEMU. `now` gives seconds after the start; `on_event` hears of each event as it comes."""

    def __init__(self, end: socket.socket, now: Callable[[], float], on_event: Callable[[QmpEvent], None]) -> None:
        self.events: list[QmpEvent] = []
        self._end = end
        self._now = now
        self._on_event = on_event
        self._client = QMPClient("bootmatrix", readbuflen=MAX_LINE_BYTES)
        # A filter sees every event before the library does anything with it; refusing all keeps its queue empty.
        self._client.register_listener(EventListener(event_filter=self._take))

    async def run(self) -> str:
        """Connect, let the guest go, and follow the connection to its end. Returns what went wrong, if anything did."""
        try:
            await self._client.connect(self._end)
            await self._client.execute("cont")
            while self._client.runstate == Runstate.RUNNING:
                await self._client.runstate_changed()
        except (ConnectError, QMPError, ExecuteError, ExecInterruptedError, EOFError, OSError) as error:
            return _words(error)
        finally:
            fault = await self._disconnect()
        return fault

    async def quit(self) -> None:
        """Ask QEMU to leave."""
        with suppress(QMPError, ExecInterruptedError, EOFError, OSError):
            await self._client.execute("quit")

    async def _disconnect(self) -> str:
        with anyio.move_on_after(DISCONNECT_S, shield=True):
            try:
                await self._client.disconnect()
            except EOFError:
                return ""
            except Exception as error:  # whatever ended the connection is raised here once more
                return _words(error)
        return ""

    def _take(self, event: Message) -> bool:
        name, data = event.get("event"), event.get("data", {})
        if isinstance(name, str) and (len(self.events) < MAX_EVENTS or name in LEAVING):
            details: dict[str, Any] = dict(data) if isinstance(data, dict) else {}
            taken = QmpEvent(name=name, data=details, at_s=self._now())
            self.events.append(taken)
            self._on_event(taken)
        return False


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
