"""QEMU as a child process that never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import Process

from bootmatrix.boot.qemu import install_hint
from bootmatrix.errors import HostError

LEASH = ("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
"""Has the kernel kill the child when we die, by whatever cause (prctl(2), PR_SET_PDEATHSIG), and gives up if we died
before that was asked for. The program takes the place of both helpers, so that its process id is the child's."""

KEEP_STDERR_BYTES = 32 << 10


@asynccontextmanager
async def running(arguments: Sequence[str], descriptors: Sequence[int]) -> AsyncIterator[Process]:
    """A child with these open descriptors and a session of its own; killed, and waited for, when the context is left.

    Its session keeps the terminal's Ctrl-C from it.

    Raises:
        HostError: it cannot be started.
    """
    try:
        process = await anyio.open_process(
            [*LEASH, str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=descriptors,
        )
    except FileNotFoundError as error:
        raise HostError(f"{error.filename} is not installed", install_hint("util-linux")) from error
    except OSError as error:
        raise HostError(f"{arguments[0]} cannot be started: {error.strerror}") from error
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            kill(process)
            await process.aclose()


def kill(process: Process) -> None:
    """End a child at once, unless it has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()


async def read_stderr(process: Process, kept: bytearray) -> None:
    """Read what a child complains about until it ends, and keep the beginning."""
    assert process.stderr
    async for data in process.stderr:
        kept += data[: KEEP_STDERR_BYTES - len(kept)]


def exit_words(status: int) -> str:
    """An exit status for people."""
    if status >= 0:
        return f"exited with status {status}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"
