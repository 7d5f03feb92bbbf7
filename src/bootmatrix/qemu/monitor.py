"""QEMU's monitor (QMP), through QEMU's own client library. No event is lost."""

import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
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
"""A guest can cause some kinds of event without limit; events that end it are always kept."""
MONITOR_ERRORS = (ConnectError, QMPError, ExecuteError, ExecInterruptedError, EOFError, OSError)
"""Errors of a broken connection or a refused command."""
LEAVING = frozenset({"SHUTDOWN", "GUEST_PANICKED"})

MAX_LINE_BYTES = 1 << 20
"""Longest line that the library may buffer."""

LOAD_TICK_S = 0.002
"""Interval of checks for a loaded state, which takes some milliseconds."""

DISCONNECT_S = 2.0
"""Limit for closing a connection, also one to a QEMU that is stuck."""

# The library logs what it also raises.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class Unanswered(Exception):
    """A question that QEMU did not answer; the message says why."""


class Monitor:
    """The connection to one QEMU.

    `now` returns seconds after the start; `on_event` receives each event.
    """

    def __init__(self, end: socket.socket, now: Callable[[], float], on_event: Callable[[QmpEvent], None]) -> None:
        self.events: list[QmpEvent] = []
        self._end = end
        self._now = now
        self._on_event = on_event
        self._client = QMPClient("bootmatrix", readbuflen=MAX_LINE_BYTES)
        # A filter sees every event before the library does anything with it; refusing all keeps its queue empty.
        self._client.register_listener(EventListener(event_filter=self._take))

    async def run(self, state: int | None = None) -> str:
        """Connect, start the guest, follow it to its end; return the fault.

        A copy starts once its `state`, the number of a file that QEMU has open, is loaded.
        """
        try:
            await self._client.connect(self._end)
            if state is not None:
                await self._load(state)
            await self._client.execute("cont")
            while self._client.runstate == Runstate.RUNNING:
                await self._client.runstate_changed()
        except MONITOR_ERRORS as error:
            return _words(error)
        finally:
            fault = await self._disconnect()
        return fault

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connect for commands of the caller. Raises QMPError if it cannot connect."""
        await self._client.connect(self._end)
        try:
            yield
        finally:
            await self._disconnect()

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> object:
        """Have QEMU carry out a command; its answer.

        Raises QMPError, ExecuteError if it cannot.
        """
        return await self._client.execute(command, arguments)

    async def migration_status(self) -> str:
        """Return the migration status; `completed` and `failed` are final."""
        answer = await self._client.execute("query-migrate")
        return str(answer.get("status", "none")) if isinstance(answer, dict) else "none"

    def send_descriptor(self, descriptor: int) -> None:
        """Hand over an open file, which the next `getfd` names."""
        self._client.send_fd_scm(descriptor)

    async def ignore_shared(self) -> None:
        """Have migrations leave out the guest's memory, which is in a file of its own."""
        capability = {"capability": "x-ignore-shared", "state": True}
        await self._client.execute("migrate-set-capabilities", {"capabilities": [capability]})

    async def _load(self, state: int) -> None:
        await self.ignore_shared()
        await self._client.execute("migrate-incoming", {"uri": f"fd:{state}"})
        while True:
            answer = await self._client.execute("query-status")
            if not isinstance(answer, dict) or answer.get("status") != "inmigrate":
                return
            await anyio.sleep(LOAD_TICK_S)

    async def ask(self, command: str, arguments: Mapping[str, object]) -> object:
        """Return QEMU's answer. Raises Unanswered if refused, or closed."""
        try:
            return await self._client.execute(command, arguments)
        except (QMPError, ExecInterruptedError, EOFError, OSError) as error:
            raise Unanswered(f"{command}: {error}"[:500]) from error

    async def pass_descriptor(self, name: str, descriptor: int) -> None:
        """Give QEMU an open file under a name. Raises Unanswered as `ask` does."""
        try:
            self._client.send_fd_scm(descriptor)
        except (QMPError, OSError) as error:
            raise Unanswered(f"a file cannot be passed to QEMU: {error}") from error
        await self.ask("getfd", {"fdname": name})

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
