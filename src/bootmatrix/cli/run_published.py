"""`bootmatrix run --publish`: a spec's services on loopback ports."""

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio

from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import NOT_EXPECTED
from bootmatrix.cli.guests import parse_port
from bootmatrix.cli.output import say, write_console
from bootmatrix.cli.shown_console import ShownConsole
from bootmatrix.errors import BootmatrixError, InputError, innermost
from bootmatrix.guest.forward import check_port
from bootmatrix.load.spec import find_spec
from bootmatrix.report.sanitize import one_line
from bootmatrix.workspace.guest import Guest

ALONE = ("shell", "gdb", "on", "expect", "keep", "dump", "hold_on_fail", "git_bisect")
"""Options of `run` that make no sense beside --publish."""
FOLLOW_S = 0.1


def run_published(args: argparse.Namespace) -> int:
    """Run services until Ctrl-C; return the exit status if they end before.

    Raises InputError if options do not go together, a port is taken, or a spec is missing.
    """
    for name in ALONE:
        if vars(args)[name] not in {None, False}:
            raise InputError(f"--publish cannot be combined with --{name.replace('_', '-')}")
    ports = [parse_port(text) for text in args.publish]
    numbers = [port["local"] for port in ports if port["local"]]
    for local in numbers:
        check_port(local)
    if len(set(numbers)) < len(numbers):
        raise InputError("two of --publish have the same port here", "Give one of them another: --publish LOCAL:PORT.")
    find_spec(args.files[0])
    try:
        return anyio.run(_run, args, ports)
    except BaseExceptionGroup as group:
        error = innermost(group)
        if isinstance(error, BootmatrixError):
            raise error from error.__cause__
        raise


async def _run(args: argparse.Namespace, ports: Sequence[Mapping[str, Any]]) -> int:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_end_by_signal, tasks.cancel_scope)
        with download_progress() as downloads:
            opened = options.workspace(args).guest(
                args.files[0],
                arch=options.board(args),
                kernel=args.kernel,
                selection=options.guest_selection(args),
                observer=downloads,
            )
            async with AsyncExitStack() as stack:
                await _serve(await stack.enter_async_context(opened), ports)
        tasks.cancel_scope.cancel()
        return NOT_EXPECTED
    raise KeyboardInterrupt


async def _serve(guest: Guest, ports: Sequence[Mapping[str, Any]]) -> None:
    """Forward ports, and print the console, until the guest ends."""
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        tasks.start_soon(_follow, guest)
        for port in ports:
            address = await stack.enter_async_context(guest.forward(port["there"], local_port=port["local"]))
            say(f"{address} leads to {port['there']} of the guest")
        say("Services run until Ctrl-C; checks do not run.")
        sys.stdout.flush()
        cause = await guest.cause_of_end()
        tasks.cancel_scope.cancel()
    say(f"The guest {one_line(cause)}")


async def _follow(guest: Guest) -> None:
    position, shown = 0, ShownConsole()
    while True:
        data = guest.console[position:]
        whole = data[: data.rfind(b"\n") + 1]
        position += len(whole)
        write_console(shown.feed(whole))
        await anyio.sleep(FOLLOW_S)


async def _end_by_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            scope.cancel()
            return
