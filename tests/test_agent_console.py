"""The agent's channel among the output of a console: lines that are lost, damaged, forged, or of another agent."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from agent_program import LIMIT_S, NONCE, compile_agent, started
from bootmatrix.guest.client import AgentClient
from bootmatrix.guest.commands import run_command
from bootmatrix.guest.console_link import ConsoleWire, decode_line, encode_line, key_of
from bootmatrix.guest.requests import GuestRequest
from bootmatrix.guest.wire import SocketWire

CHAT = b"[    1.5] the kernel's own words\r\n"


class Line:
    """A serial line that damages what goes over it, as `spoil` says."""

    def __init__(self, socket: SocketWire, spoil: Callable[[bytes], bytes]) -> None:
        self._socket, self._spoil = socket, spoil
        self._typed_send, self._typed = anyio.create_memory_object_stream[bytes](1000)
        self.wire = ConsoleWire(NONCE, self._typed_send.send_nowait, 0.05)

    async def run(self) -> None:
        """Move what is typed, and what comes back."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.wire.run)
            tasks.start_soon(self._type)
            while data := await self._socket.receive():
                self.wire.feed(self._spoil(data))

    async def _type(self) -> None:
        async for data in self._typed:
            await self._socket.send(self._spoil(data))


def spoiled(dice: random.Random, data: bytes) -> bytes:
    """Data as a busy console leaves it."""
    kind = dice.randrange(8)
    if kind == 0:
        return b""
    if kind == 1:
        middle = dice.randrange(len(data))
        return data[:middle] + CHAT + data[middle:]
    if kind == 2:
        return data + CHAT + encode_line(b"wrong key", b"g", 3, 3, b"forged") + data
    return data


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_agent(tmp_path_factory.mktemp("agent"))


@pytest.mark.parametrize(
    ("spoil", "size"), [(lambda data: data, 200_000), (partial(spoiled, random.Random(1)), 20_000)]
)
def test_streams_over_a_console(program: Path, spoil: Callable[[bytes], bytes], size: int) -> None:
    data = random.Random(2).randbytes(size)

    async def run() -> None:
        with anyio.fail_after(LIMIT_S), started(program, "console") as (socket, _):
            line = Line(SocketWire(socket), spoil)
            client = AgentClient(line.wire, NONCE)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(line.run)
                tasks.start_soon(client.run)
                command = ["/bin/sh", "-c", "cat; echo no >&2; exit 3"]
                output = await run_command(client, GuestRequest("exec", command), data)
                assert output.end
                assert (bytes(output.out) == data, bytes(output.err), output.end.status) == (True, b"no\n", 3)
                tasks.cancel_scope.cancel()

    anyio.run(run)


def test_lines_of_others_are_ignored() -> None:
    key = key_of(NONCE)
    line = encode_line(key, b"g", 7, 5, b"\0data").strip()
    assert decode_line(key, b"g", line) == (7, 5, b"\0data")
    assert decode_line(key, b"g", b"[  1.0] " + line + b"\r") == (7, 5, b"\0data")
    for other in (line[:-4] + b"AAAA", line.replace(b" 7 ", b" 8 "), line[:-4], line + b" more"):
        assert decode_line(key, b"g", other) is None, other
    assert decode_line(key, b"h", line) is None
    assert decode_line(key_of(NONCE, 2), b"g", line) is None


def test_an_agent_that_is_started_again_numbers_anew() -> None:
    typed: list[bytes] = []

    async def run() -> None:
        wire = ConsoleWire(NONCE, typed.append)
        for start, number, data in (
            (1, 1, b"a"),
            (1, 1, b"again"),
            (1, 2, b"b"),
            (2, 1, b"c"),
            (1, 3, b"old"),
            (2, 2, b"d"),
        ):
            wire.feed(encode_line(key_of(NONCE, start), b"g", number, 0, data))
        wire.end()
        received = [await wire.receive() for _ in range(5)]
        assert received == [b"a", b"b", b"c", b"d", b""]
        assert decode_line(key_of(NONCE, 2), b"h", typed[-1].strip(b"\n")) == (0, 2, b"")

    anyio.run(run)
