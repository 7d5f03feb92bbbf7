"""A worker process and its control channel, wherever it runs."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from bootmatrix.errors import HostError, InfraError, reason_of
from bootmatrix.execute.dask.control import BEAT_S, SILENCE_S
from bootmatrix.model.remote import FromWorker, ToWorker, WorkerSettings

START_S = 60.0
"""Limit for a worker's first line: it imports its modules and asks each QEMU for its version."""


class Pipe(Protocol):
    """A process's standard streams, as asyncio and asyncssh have them."""

    async def readline(self) -> bytes:
        """Read a line; empty at the end."""

    def write(self, data: bytes) -> None:
        """Write to standard input."""


@dataclass(frozen=True)
class Hello:
    """A worker's first answer: port, folder, and its clock less ours in s."""

    port: int
    folder: str
    clock_offset_s: float


class HeldWorker:
    """The client's end of a worker's control channel."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def send(self, message: ToWorker) -> None:
        """Write a line."""
        self._pipe.write(message.model_dump_json().encode() + b"\n")

    async def start(self, settings: WorkerSettings) -> Hello:
        """Send the settings; return the port. Raises HostError without it."""
        self._pipe.write(settings.model_dump_json().encode() + b"\n")
        try:
            async with asyncio.timeout(START_S):
                message = await self._read()
        except TimeoutError:
            message = FromWorker(kind="failed", text=f"no answer within {START_S:.0f} s")
        if message is None or message.kind != "hello":
            raise HostError(f"the worker does not start: {message.text if message else 'it ended'}")
        return Hello(message.port, message.folder, message.clock_s - time.time())

    async def _read(self) -> FromWorker | None:
        line = await self._pipe.readline()
        try:
            return FromWorker.model_validate_json(line) if line else None
        except ValidationError as error:
            text = line[:200].decode("utf-8", "replace")
            raise HostError(f"not a message of a worker: {text!r}") from error

    async def follow(self, send_file: Callable[[str], Awaitable[None]]) -> str:
        """Serve the worker to its end; return why. `send_file` sends artefacts."""
        beating = asyncio.create_task(self._beat())
        sending: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        message = await self._read()
                except TimeoutError:
                    return f"it has been silent for {SILENCE_S:.0f} s"
                if message is None:
                    return "its worker ended"
                if message.kind == "failed":
                    return message.text
                if message.kind == "need" and message.sha256:
                    task = asyncio.create_task(self._answer(message.sha256, send_file))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
        finally:
            for task in (beating, *sending):
                task.cancel()

    async def _answer(self, sha256: str, send_file: Callable[[str], Awaitable[None]]) -> None:
        try:
            await send_file(sha256)
        except (InfraError, OSError) as error:
            self.send(ToWorker(kind="refused", sha256=sha256, text=reason_of(error)))
        else:
            self.send(ToWorker(kind="sent", sha256=sha256))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(OSError):
                self.send(ToWorker(kind="beat"))


def new_instance() -> str:
    """Return a name that no other worker has."""
    return secrets.token_hex(8)
