"""Everything observed of one boot, from its channels to its end."""

import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import Process

from bootmatrix.boot.collect import CollectLimits, Collector
from bootmatrix.boot.cpu_contention import StarvationMeter, waits_s
from bootmatrix.boot.deadlines import Ending, PhaseClock
from bootmatrix.boot.diagnosis import Diagnosis
from bootmatrix.boot.protocol import Conversation
from bootmatrix.console.log import ConsoleLog, FaultWatch, PanicWatch, TextWatch
from bootmatrix.console.stalls import RECORDED_S, KernelStart, Starvation
from bootmatrix.errors import AgentError
from bootmatrix.guest.client import AgentClient
from bootmatrix.guest.console_link import ConsoleWire
from bootmatrix.guest.wire import SocketWire
from bootmatrix.model import ConsoleProof, Diagnostic, GuestMessage, Machine, Outcome, QmpEvent
from bootmatrix.qemu.host import private_mib
from bootmatrix.qemu.monitor import Monitor, Unanswered
from bootmatrix.qemu.process import exit_words, has_errors, kill, read_stderr
from bootmatrix.qemu.suspension import STEP_S, SuspensionMeter, gap_of, suspension_of, within
from bootmatrix.qemu.transport import PACE_S, Wires, read_ready, read_wire, wait_until_read

QUIET_LIMIT_S = 1.0
"""Limit for the last output of a guest that has left."""
REST_READS = 64
"""Reads of the remaining output; pipes and sockets hold less."""
LEAVE_S = 5.0
"""Limit for QEMU's own end, after a request or after its monitor closed; then it is killed."""

Hold = Callable[[AgentClient, tuple[GuestMessage, ...]], Awaitable[None]]
"""Uses a guest that has failed, by its agent; the messages are those up to its failure."""


class Observation:
    """Everything observed of one boot."""

    clock: PhaseClock
    state: int | None = None
    agent: AgentClient | None = None
    link: ConsoleWire | None = None
    collector: Collector | None = None

    def __init__(self, machine: Machine, wires: Wires, log: ConsoleLog, talk: Conversation, folder: Path) -> None:
        self.broken: Exception | None = None
        self.bound_fault = ""
        self.dump = False
        self.proof: ConsoleProof | None = None
        self.diagnostics: tuple[Diagnostic, ...] = ()
        self._machine = machine
        self._wires = wires
        self._log = log
        self._talk = talk
        self._panic = PanicWatch()
        self._faults = FaultWatch()
        self._watch: TextWatch | None = None
        self._messages: list[GuestMessage] = []
        self._stderr = bytearray()
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.monotonic()
        self._last_s = self._away_s = 0.0
        self._meter = SuspensionMeter()
        self._monitor = Monitor(wires.monitor, self.now, self._on_event)
        self._diagnosis = Diagnosis(folder, machine, self._monitor, wires.type)
        self._diagnosing = False
        self._ending: Ending | None = None
        self._over, self._gone, self._announced = anyio.Event(), anyio.Event(), anyio.Event()
        self._serve: Hold | None = None
        self._wall_s = 0.0
        self._starved = StarvationMeter()
        self._kernel_start = KernelStart()
        self._private_mib: int | None = None
        self._status: int | None = None

    def now(self) -> float:
        """Return seconds after the start; updates the time that was stopped."""
        at_s = time.monotonic() - self._start
        self._away_s += gap_of(at_s - self._last_s)
        self._last_s = at_s
        self.clock.suspended(self._away_s + self._meter.qemu_s)
        return at_s

    def resume(self, console: bytes, state: int | None, message: bytes) -> None:
        """Continue a snapshot: console, descriptor of its state, wake message."""
        self._log.write(console)
        self.state = state
        self._wires.send(message)

    def connect_agent(self, nonce: str) -> AgentClient:
        """Make the client of the guest's agent, on its port or on the console."""
        if self._wires.agent is None:
            self.link = ConsoleWire(nonce, self._wires.type, self._machine.time_factor)
        wire = SocketWire(self._wires.agent) if self._wires.agent else self.link
        assert wire
        self.agent = AgentClient(wire, nonce, self.clock.hold)
        self.agent.read_console = partial(wait_until_read, self._wires.console.printed)
        return self.agent

    def hold(self, nonce: str, serve: Hold) -> None:
        """Let `serve` use a guest that failed; it goes on when that is done."""
        self.connect_agent(nonce)
        self._serve = serve

    async def _hold(self, client: AgentClient, serve: Hold) -> None:
        with suppress(AgentError):
            await client.ready()
            if not self._announced.is_set():  # else an agent that was started to send files
                await serve(client, tuple(self._messages))
                await client.shutdown()

    def collect(self, nonce: str, folder: Path, limits: CollectLimits) -> None:
        """Fetch result files by the agent, as soon as the guest has announced them."""
        assert self._wires.agent
        self.agent = self.agent or AgentClient(SocketWire(self._wires.agent), nonce)
        self.collector = Collector(self.agent, folder, limits, lambda: self.clock.heard(self.now()))

    async def _collect(self, collector: Collector) -> None:
        await self._announced.wait()
        await collector.run(tuple(self._messages))

    async def follow(self, process: Process) -> None:
        """Read all channels until the boot is over, and end QEMU."""
        async with anyio.create_task_group() as readers:
            readers.start_soon(self._guard, lambda: read_stderr(process, self._stderr))
            for wire, take in self._channels():
                pace_s = PACE_S if wire is self._wires.console.printed else 0
                readers.start_soon(self._guard, partial(read_wire, wire, take, pace_s=pace_s))
            readers.start_soon(self._guard, lambda: self._watch_monitor(process))
            readers.start_soon(self._guard, lambda: self._watch_process(process))
            if self.agent:
                readers.start_soon(self._guard, self.agent.run)
            if self.link:
                readers.start_soon(self._guard, self.link.run)
            if self.agent and self._serve:
                readers.start_soon(self._guard, partial(self._hold, self.agent, self._serve))
            if self.collector:
                readers.start_soon(self._guard, partial(self._collect, self.collector))
            readers.start_soon(self._guard, lambda: self._watch_limits(process))
            await self._over.wait()
            if self._ending and self._ending.ended_by == "guest":
                await self._guard(lambda: self._quiet(process))
            await self._diagnose(process)
            await self._leave(process)
            await self._guard(self._read_rest)
            self._announced.set()  # nothing is fetched any more
            # All of them end by themselves now that QEMU is gone, unless something else holds its ends of the sockets.
            readers.cancel_scope.deadline = anyio.current_time() + LEAVE_S

    def is_stuck(self) -> bool:
        """Return whether the guest hung, panicked, or timed out."""
        ending = self._ending
        if ending is None or ending.ended_by == "error":
            return False
        return self._has_panicked(ending) or (ending.ended_by == "host" and ending.limit not in {"flood", "shown"})

    def _has_panicked(self, ending: Ending) -> bool:
        return ending.is_panic or ending.limit == "panic" or self._panic.seen

    async def _diagnose(self, process: Process) -> None:
        """Diagnose a stuck guest before it ends. The answers are not part of the console."""
        ending = self._ending
        if ending and self.is_stuck() and process.returncode is None:
            self._wall_s = self.now()
            self._diagnosing = True
            self.diagnostics = await self._diagnosis.run(self._has_panicked(ending), self.dump)

    def outcome(self) -> Outcome:
        """Return the outcome of the boot."""
        ending = self._ending or self._unasked()
        starved = self._starvation()
        ready = [message.at_s for message in self._messages if message.kind == "ready"]
        return Outcome(
            exit_status=self._status,
            ended_by=ending.ended_by,
            limit=ending.limit,
            limit_phase=ending.phase,
            host_error=ending.host_error or self._exit_error(ending),
            messages=tuple(self._messages),
            rejected=self._talk.rejected,
            result_fault=self._talk.fault,
            events=tuple(self._monitor.events),
            stderr=self._stderr.decode("utf-8", "replace"),
            started_at=self._started_at,
            wall_s=self._wall_s,
            boot_s=ready[0] if ready else None,
            starved_s=starved.total_s,
            starvation=tuple(starved.points) if starved.total_s >= RECORDED_S else (),
            kernel_start_s=starved.kernel_start_s if starved.total_s >= RECORDED_S else None,
            suspended_s=self._meter.total_s,
            private_mib=self._private_mib,
            console_bytes=self._log.received_bytes,
            console_dropped_bytes=self._log.dropped_bytes,
            diagnostics=self.diagnostics,
            collected=tuple(self.collector.files) if self.collector else (),
        )

    def _end(self, ending: Ending) -> None:
        self._ending = self._ending or ending
        self._over.set()

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task; its error, such as a full disk, ends the boot first."""
        try:
            await task()
        except Exception as error:
            self.broken = self.broken or error
            self._end(Ending("error", host_error=str(error)))

    def _hear(self, take: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def heard(data: bytes) -> None:
            self.clock.heard(self.now())
            take(data)

        return heard

    def _channels(self) -> list[tuple[socket.socket | FileIO, Callable[[bytes], None]]]:
        """The guest's output channels and their handlers."""
        console = (self._wires.console.printed, self._hear(self._from_console))
        return [console, *([(self._wires.result, self._hear(self._from_result))] if self._wires.result else [])]

    def _from_console(self, data: bytes) -> None:
        if self._diagnosing:
            self._diagnosis.hear(data)
            return
        self._log.write(data)
        self._panic.feed(data)
        self._faults.feed(data)
        self._kernel_start.feed(data, self.now())
        if self._panic.seen:
            self.clock.panicked(self.now())
        elif self._faults.is_certain(self._starvation()):
            self.clock.faulted(self.now())
        if self.proof:
            self._look_for(self.proof, data)
        elif self._wires.result is None:
            self._from_result(data)
        if self.link:
            self.link.feed(data)

    def _starvation(self) -> Starvation:
        return Starvation(self._starved.total_s, self._starved.points, self._kernel_start.at_s)

    def _look_for(self, proof: ConsoleProof, data: bytes) -> None:
        self._watch = self._watch or TextWatch(proof.console)
        self._watch.feed(data)
        if self._watch.seen:
            self.clock.shown(self.now())

    def _from_result(self, data: bytes) -> None:
        for message in self._talk.feed(data, self.now()):
            self._messages.append(message.model_copy(update={"starved_s": round(self._starved.total_s, 3)}))
            self.clock.message(message)
            if message.kind == "collect":
                self._announced.set()
        reply = self._talk.take_reply()
        if reply:
            self._wires.send(reply)
        if self._talk.flooded:
            self._end(Ending("host", "flood", self.clock.phase))

    def _on_event(self, event: QmpEvent) -> None:
        if event.name == "GUEST_PANICKED":
            self._end(Ending("guest", is_panic=True))
        elif event.name == "SHUTDOWN":
            if event.data.get("guest") is True:
                self._end(Ending("guest"))
            else:
                reason = str(event.data.get("reason", "unknown"))[:100]
                self._end(Ending("error", host_error=f"QEMU was stopped from outside, not by its guest: {reason}"))

        elif event.name == "BLOCK_IO_ERROR" and event.data.get("action") == "stop":  # which a guest cannot notice
            reason = str(event.data.get("reason", "an unknown error"))[:100]
            self._end(Ending("error", host_error=f"QEMU cannot write the guest's disk to this host's: {reason}"))

    async def _watch_process(self, process: Process) -> None:
        self._status = await process.wait()
        self._wall_s = self._wall_s or self.now()
        self._gone.set()
        self._over.set()
        if self.link:
            self.link.end()

    async def _watch_monitor(self, process: Process) -> None:
        fault = await self._monitor.run(self.state)
        if self._over.is_set():
            return
        if await self._within(LEAVE_S, process.wait, process):
            return
        self._end(Ending("error", host_error=f"lost the connection to QEMU's monitor: {fault or 'closed'}"))

    async def _watch_limits(self, process: Process) -> None:
        while process.returncode is None:
            self._meter.sample(process.pid)
            self._starved.sample(waits_s(process.pid), self.now())
            self.clock.starved(self._starved.total_s)
            if not self._over.is_set():
                self._check_limits()
            with anyio.move_on_after(STEP_S):
                await self._gone.wait()

    def _check_limits(self) -> None:
        expired = self.clock.expired(self.now())
        if self._is_held_still():
            self._end(Ending("error", host_error=f"QEMU was {self._meter.cause}, not by its guest"))
        elif expired and expired.is_starved and expired.limit not in {"shown", "panic", "fault"}:
            error = f"the host had no core for QEMU for {self._starved.total_s:.0f} s"
            self._end(Ending("error", host_error=f"{error}, and the guest did not finish {expired.phase}"))
        elif expired:
            self._end(Ending("host", expired.limit, expired.phase))

    def _is_held_still(self) -> bool:
        """True if QEMU has been stopped for so long that its cell ends by it."""
        return self._meter.still_s >= self.clock.silence_s

    async def _within(self, limit_s: float, work: Callable[[], Awaitable[object]], process: Process) -> bool:
        return await within(limit_s, work, lambda: process.returncode is None and suspension_of(process.pid))

    async def _leave(self, process: Process) -> None:
        """End QEMU by asking, then by force: a stopped one cannot answer."""
        self._private_mib = private_mib(process.pid)

        async def leave() -> None:
            if process.returncode is None:
                await self._monitor.quit()
            await process.wait()

        if not self._is_held_still():
            await self._within(LEAVE_S, leave, process)
        kill(process)
        self._status = await process.wait()
        self._gone.set()
        self._wall_s = self._wall_s or self.now()

    async def _read_rest(self) -> None:
        """Read the remaining output of a QEMU that has ended."""
        for _ in range(REST_READS):
            if not self._read_ready():
                return

    async def _quiet(self, process: Process) -> None:
        """Wait until a paused QEMU has answered twice without further output."""

        async def answered_twice() -> None:
            answers = 0
            while answers < 2:
                await self._monitor.ask("query-status", {})
                answers = 0 if self._read_ready() else answers + 1

        with suppress(Unanswered):
            await self._within(QUIET_LIMIT_S, answered_twice, process)

    def _read_ready(self) -> bool:
        """Read all channels; return whether any had data."""
        received = [(take, read_ready(wire)) for wire, take in self._channels()]
        for take, data in received:
            if data:
                take(data)
        return any(data for _, data in received)

    def _unasked(self) -> Ending:
        """Return the ending of a QEMU that exited unasked.

        A guest leaves by semihosting without an event.
        """
        by_guest = self._machine.exit == "semihosting" and self._status is not None and self._status >= 0
        return Ending("guest") if by_guest and not has_errors(bytes(self._stderr)) else Ending("error")

    def _exit_error(self, ending: Ending) -> str:
        """Return the error of a QEMU that exited without a request by host or guest."""
        if ending.ended_by != "error" or self._status is None:
            return ""
        complaint = self.bound_fault or self._stderr.decode("utf-8", "replace").strip()[-400:]
        detail = f": {complaint}" if complaint else "; it printed nothing"
        return f"{self._machine.qemu} {exit_words(self._status)}{detail}"
