"""A worker's control channel: JSON lines on stdin and stdout.

The channel is a leash: a worker whose input ends, or is silent for too long, stops its guests and ends.
"""

import asyncio
import os
import sys
from pathlib import Path

from bootmatrix.errors import HostError, InfraError
from bootmatrix.model.remote import FromWorker, ToWorker

BEAT_S = 3.0
SILENCE_S = 10.0
"""Silence after which either end takes the other for lost: three beats."""
START_S = 30.0
"""Limit for the client's first lines, which come without beats."""
LINE_BYTES = 1 << 20


class WorkerChannel:
    """The worker's end; files for it are put into `incoming`."""

    def __init__(self, reader: asyncio.StreamReader, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._wanted: dict[str, asyncio.Future[str]] = {}
        self.incoming = Path()

    async def line(self) -> bytes:
        """Read a line; empty at the end. Raises HostError if it is too long."""
        try:
            return await self._reader.readline()
        except ValueError as error:
            raise HostError("a line on the control channel is too long") from error

    async def first_line(self) -> bytes:
        """Read a line that must come, before the channel is followed.

        Raises HostError if the input ends first, or the line does not come.
        """
        try:
            async with asyncio.timeout(START_S):
                line = await self.line()
        except TimeoutError:
            line = b""
        if not line:
            raise HostError("the client is gone")
        return line

    def send(self, message: FromWorker) -> None:
        """Write a line; the input's end tells of a reader that is gone."""
        os.write(self._writer, message.model_dump_json().encode() + b"\n")

    async def get(self, sha256: str, target: Path) -> None:
        """Ask for an artefact, and move it to `target`."""
        answer = self._wanted[sha256] = asyncio.get_running_loop().create_future()
        try:
            self.send(FromWorker(kind="need", sha256=sha256))
            refusal = await answer
        finally:
            self._wanted.pop(sha256, None)
        if refusal:
            raise InfraError(f"cannot get {sha256} from the client: {refusal}")
        (self.incoming / sha256).replace(target)

    async def put(self, bundle: Path) -> None:
        """Do nothing: the client takes the bundle from where it is."""

    async def follow(self) -> None:
        """Handle lines until the input ends or is silent."""
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    line = await self.line()
            except TimeoutError:
                return
            if not line:
                return
            message = ToWorker.model_validate_json(line)
            answer = self._wanted.get(message.sha256 or "")
            if answer and not answer.done() and message.kind in {"sent", "refused"}:
                answer.set_result(message.text if message.kind == "refused" else "")

    async def beat(self) -> None:
        """Send a sign of life for ever."""
        while True:
            await asyncio.sleep(BEAT_S)
            self.send(FromWorker(kind="beat"))


async def open_worker_channel() -> WorkerChannel:
    """Take over stdin and stdout; other output goes to stderr."""
    output = os.dup(1)
    os.set_inheritable(output, False)
    os.dup2(2, 1)
    reader = asyncio.StreamReader(LINE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return WorkerChannel(reader, output)
