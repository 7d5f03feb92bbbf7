"""The connection to a guest's agent: many commands on one channel."""

from __future__ import annotations

import itertools
import secrets
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import anyio

from bootmatrix.errors import AgentError
from bootmatrix.guest.frames import (
    CREDIT,
    EXIT,
    HELLO,
    PAYLOAD_BYTES,
    SIGNAL,
    SIZE,
    VERSION,
    AgentFault,
    ExitKind,
    Frame,
    FrameReader,
    FrameType,
    StreamNumber,
    greeting_token,
    kind_of,
    unpack,
)
from bootmatrix.guest.requests import GuestRequest, TerminalSize
from bootmatrix.guest.streams import Incoming, Outbox, Outgoing

MAX_WINDOW = 16 << 20
FIRST_CHANNELS = 1 << 31
"""Channels are numbered from a random one on: what a program wrote to the port before the agent had it answers none."""
MAX_GREETINGS = 5
"""An agent that was killed is started again, at most so often."""


class Wire(Protocol):
    """A reliable stream of bytes to the agent."""

    async def receive(self) -> bytes:
        """Return what came; empty at the end."""

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError if the other end is closed."""


@dataclass(frozen=True)
class CommandEnd:
    """A command's end; a `FAULT` has an errno and what failed."""

    kind: ExitKind
    number: int
    text: str = ""

    @property
    def status(self) -> int:
        """The status as a shell has it: 128 and the signal; 126, 127."""
        if self.kind is ExitKind.STATUS:
            return self.number & 0xFF
        if self.kind is ExitKind.SIGNAL:
            return 128 + min(self.number, 127)
        return 127 if self.number == 2 else 126  # ENOENT


class AgentChannel:
    """One command under way in the guest."""

    def __init__(self, number: int, client: AgentClient, window: int) -> None:
        self.number = number
        self.end: CommandEnd | None = None
        self._client = client
        self._fault: AgentError | None = None
        self._out = {StreamNumber.OUT: Incoming(window), StreamNumber.ERR: Incoming(window)}
        self._in = Outgoing(window)
        self._ended = anyio.Event()

    async def send(self, data: bytes) -> bool:
        """Send to its standard input; return whether it still takes any."""
        view = memoryview(data)
        while view:
            size = await self._in.reserve(min(len(view), PAYLOAD_BYTES - 1))
            if not size:
                return False
            await self._client.send(FrameType.DATA, self.number, b"\0" + view[:size])
            view = view[size:]
        return not self._ended.is_set()

    async def send_end(self) -> None:
        """Close its standard input."""
        if not self._ended.is_set():
            await self._client.send(FrameType.END, self.number, bytes([StreamNumber.IN]))

    async def receive(self, stream: StreamNumber = StreamNumber.OUT) -> bytes:
        """Return the next output; empty at its end."""
        data = await self._out[stream].take()
        credit = self._out[stream].credit()
        if credit and not self._ended.is_set():
            await self._client.send(FrameType.CREDIT, self.number, CREDIT.pack(stream, credit))
        return data

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        if not self._ended.is_set():
            await self._client.send(FrameType.SIGNAL, self.number, SIGNAL.pack(number))

    async def resize(self, size: TerminalSize) -> None:
        """Tell the size of the terminal."""
        if not self._ended.is_set():
            await self._client.send(FrameType.RESIZE, self.number, SIZE.pack(size.rows, size.columns))

    async def wait(self) -> CommandEnd:
        """Wait for its end. Raises AgentError if the guest or the agent ended before it."""
        await self._ended.wait()
        if self._fault:
            raise self._fault
        assert self.end
        return self.end

    async def close(self) -> None:
        """End it, and forget it."""
        if not self._ended.is_set():
            with anyio.CancelScope(shield=True):
                await self._client.send(FrameType.CLOSE, self.number)
            self.lose(AgentError("the command was cancelled"))
        self._client.forget(self.number)

    def take(self, frame: Frame) -> None:
        """Take a frame of the agent. Raises AgentFault if it breaks the protocol."""
        if frame.type in {FrameType.DATA, FrameType.END}:
            stream = self._out.get(_stream_of(frame.payload))
            if stream is None:
                raise AgentFault("an unknown stream")
            stream.feed(frame.payload[1:]) if frame.type is FrameType.DATA else stream.end()
        elif frame.type is FrameType.CREDIT:
            self._in.add(unpack(CREDIT, frame.payload)[1])
        elif frame.type is FrameType.EXIT:
            kind, number = unpack(EXIT, frame.payload[: EXIT.size])
            text = frame.payload[EXIT.size : EXIT.size + 200].decode("utf-8", "replace")
            self._finish(CommandEnd(kind_of(ExitKind, kind, "an end of kind"), number, text))
        else:
            raise AgentFault(f"a frame {frame.type.name} for a command")

    def lose(self, fault: AgentError) -> None:
        """End it without its own end."""
        if not self._ended.is_set():
            self._fault = fault
            self._finish(None)

    def _finish(self, end: CommandEnd | None) -> None:
        self.end = end
        self._ended.set()
        self._in.end()
        for stream in self._out.values():
            stream.end()


def _stream_of(payload: bytes) -> StreamNumber:
    return StreamNumber(payload[0]) if payload and payload[0] in (1, 2) else StreamNumber.IN


async def _nothing_to_read() -> None:
    """Wait for nothing: the console is not ours."""


class AgentClient:
    """The host's end; `run` runs as long as it is used, `on_ready` greets.

    `nonce` is the secret of the boot, by which the agent's greeting is known. `read_console` waits until what the guest
    has printed on its console so far is known.
    """

    def __init__(self, wire: Wire, nonce: str, on_ready: Callable[[], None] = lambda: None) -> None:
        self.facts = ""
        self.greetings = 0
        self.read_console: Callable[[], Awaitable[None]] = _nothing_to_read
        self._wire, self._on_ready = wire, on_ready
        self._reader = FrameReader(greeting_token(nonce))
        self._channels: dict[int, AgentChannel] = {}
        self._numbers = itertools.count(1 + secrets.randbelow(FIRST_CHANNELS))
        self._window = 0
        self._ready, self._ended = anyio.Event(), anyio.Event()
        self._outbox = Outbox()
        self._fault: AgentError | None = None

    async def run(self, why: Callable[[], str] = lambda: "") -> None:
        """Read the agent until its channel is closed; `why` tells the end."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write)
            await self._read(why)
            tasks.cancel_scope.cancel()

    async def _read(self, why: Callable[[], str]) -> None:
        try:
            while data := await self._wire.receive():
                for frame in self._reader.feed(data):
                    await self._take(frame)
            self.lose(f"the guest has ended{f': {text}' if (text := why()) else ''}")
        except (AgentFault, struct.error) as error:
            self.lose(f"the guest's agent does not keep to its protocol: {error}")
        except OSError as error:
            self.lose(f"the connection to the guest's agent is broken: {error.strerror}")
        finally:
            self.lose("the guest was stopped")

    async def _write(self) -> None:
        with suppress(OSError):  # the other end is closed, which reading tells too, with the cause
            while data := await self._outbox.take():
                await self._wire.send(data)
        self._outbox.end()

    async def ready(self) -> None:
        """Wait for the agent. Raises AgentError if it is not there any more."""
        await self._ready.wait()
        if self._fault:
            raise self._fault

    async def open(self, request: GuestRequest) -> AgentChannel:
        """Begin a command; close its channel in the end.

        Raises AgentError if the agent is not there any more, InputError if the request is too large.
        """
        await self.ready()
        channel = AgentChannel(next(self._numbers), self, self._window)
        frames = list(request.frames(channel.number))
        self._channels[channel.number] = channel
        await self._outbox.put(b"".join(frame.encoded() for frame in frames))
        return channel

    async def send(self, kind: FrameType, channel: int, payload: bytes = b"") -> None:
        """Send a frame; channels learn otherwise that the agent is gone."""
        await self._outbox.put(Frame(kind, channel, payload).encoded())

    async def shutdown(self) -> None:
        """Shut the guest down; a later agent may greet to send result files."""
        await self.send(FrameType.SHUTDOWN, 0)
        if self._fault is None:
            self._ready = anyio.Event()

    async def ended(self) -> None:
        """Wait until the agent's channel is closed."""
        await self._ended.wait()

    def forget(self, number: int) -> None:
        """Ignore further frames of a channel."""
        self._channels.pop(number, None)

    def lose(self, text: str) -> None:
        """End all commands; only the first reason counts."""
        self._fault = self._fault or AgentError(text)
        self._lose_channels(self._fault)
        self._outbox.end()
        self._ready.set()
        self._ended.set()

    def _lose_channels(self, fault: AgentError) -> None:
        for channel in self._channels.values():
            channel.lose(fault)
        self._channels.clear()

    async def _take(self, frame: Frame) -> None:
        if frame.type is FrameType.HELLO:
            await self._greet(frame.payload)
        elif not self.greetings:
            raise AgentFault("a frame before the greeting")
        elif channel := self._channels.get(frame.channel):
            channel.take(frame)

    async def _greet(self, payload: bytes) -> None:
        version, window, mark = HELLO.unpack(payload[: HELLO.size])
        self.greetings += 1
        if version != VERSION or not 0 < window <= MAX_WINDOW or self.greetings > MAX_GREETINGS:
            raise AgentFault(f"greeting {self.greetings} with version {version}, window {window}")
        self.facts = payload[HELLO.size :][:200].decode("ascii", "replace")
        self._window = window
        # Before any command that follows the loss of another: the agent ignores what precedes this.
        await self._outbox.put(mark)
        self._lose_channels(AgentError("the agent in the guest was ended, and has been started again"))
        self._on_ready()
        self._ready.set()
