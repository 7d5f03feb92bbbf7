"""Boards by SSH, entry point `ssh` of the group `bootmatrix.board_access`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import asyncssh

from bootmatrix.cloud.board import END_S, SEND_S, BoardAccess, Terminal
from bootmatrix.cloud.ssh import HostFault, connected
from bootmatrix.model.cluster import Host


class SshTerminal:
    """A process on a board, with a terminal."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process

    async def read(self) -> bytes:
        """Read output; empty at the end."""
        try:
            return await self._process.stdout.read(65536)
        except (asyncssh.Error, OSError):
            return b""

    def write(self, data: bytes) -> None:
        """Write input."""
        self._process.stdin.write(data)

    async def status(self) -> int | None:
        """Return the exit status; None if the connection was lost."""
        with anyio.move_on_after(END_S):
            await self._process.wait_closed()
        return self._process.exit_status


class SshBoard:
    """A board by SSH."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    async def run(self, command: str, source: Path | None = None) -> str:
        """Run a shell command, with a file as its input; return its output.

        Raises HostFault if it fails, or the connection is lost.
        """
        with _faults():
            standard_input = str(source) if source else asyncssh.DEVNULL
            done = await self._connection.run(command, stdin=standard_input, timeout=SEND_S, encoding=None)
        output, errors = (_text(stream) for stream in (done.stdout, done.stderr))
        if done.exit_status is None:
            raise HostFault("the connection was lost")
        if done.exit_status:
            raise HostFault(f"{' '.join(errors.split())[-300:]} (exit status {done.exit_status})")
        return output

    @asynccontextmanager
    async def terminal(self, command: str) -> AsyncIterator[Terminal]:
        """Run a shell command on a terminal."""
        with _faults():
            process: asyncssh.SSHClientProcess[bytes] = await self._connection.create_process(
                command, term_type="dumb", encoding=None
            )
        try:
            yield SshTerminal(process)
        finally:
            process.close()
            with anyio.move_on_after(END_S, shield=True):
                await process.wait_closed()


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise HostFault(str(error) or type(error).__name__) from error


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data or ""


@asynccontextmanager
async def open_board(board: Host) -> AsyncIterator[BoardAccess]:
    """Connect to a board.

    Raises HostFault if it cannot be reached, or one side does not trust the other.
    """
    async with connected(board) as connection:
        yield SshBoard(connection)
