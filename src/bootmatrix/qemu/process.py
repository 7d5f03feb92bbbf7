"""QEMU as a child process that never outlives us."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from anyio.abc import Process

from bootmatrix.errors import HostError
from bootmatrix.model import Machine
from bootmatrix.qemu.cgroup import Bound
from bootmatrix.qemu.sandbox import confined, environment, opened
from bootmatrix.qemu.transport import Console
from bootmatrix.qemu.version import install_hint

KEEP_STDERR_BYTES = 32 << 10


@asynccontextmanager
async def running(  # noqa: PLR0913, PLR0917
    arguments: Sequence[str],
    descriptors: Sequence[int],
    machine: Machine,
    bound: Bound,
    console: Console,
    writes_bytes: int = 0,
) -> AsyncIterator[Process]:
    """Run the machine's QEMU within its limits; kill and reap it in the end.

    `writes_bytes` limits the size of a file that it writes to. It has its own session, so the terminal's Ctrl-C does
    not reach it, and few rights: see sandbox.

    Raises HostError if it cannot start it.
    """
    try:
        with opened(arguments) as files, console.stdin, console.stdout:
            process = await anyio.open_process(
                [*confined(machine, Path(arguments[0]), writes_bytes), *files.arguments],
                stdin=console.stdin,
                stdout=console.stdout,
                stderr=subprocess.PIPE,
                cwd="/",
                env=environment(os.environ),
                start_new_session=True,
                pass_fds=(*descriptors, *files.descriptors),
            )
    except FileNotFoundError as error:
        raise HostError(f"{error.filename} is not installed", install_hint("util-linux")) from error
    except OSError as error:
        raise HostError(f"{arguments[0]} cannot be started: {error.strerror}") from error
    try:
        bound.hold(process.pid)
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


def has_errors(stderr: bytes) -> bool:
    """True if QEMU printed more than warnings (util/error-report.c)."""
    return any(line.strip() and b": warning: " not in line for line in stderr.splitlines())


def exit_words(status: int) -> str:
    """An exit status for people."""
    if status >= 0:
        return f"exited with status {status}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"
