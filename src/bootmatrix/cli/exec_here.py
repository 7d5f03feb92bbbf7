"""A command in a guest that this process boots, and that ends with it."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread

from bootmatrix.cli.exits import INTERRUPTED
from bootmatrix.cli.output import complain
from bootmatrix.errors import BootmatrixError, innermost
from bootmatrix.guest.attach import CommandStreams, Control
from bootmatrix.guest.requests import TerminalSize
from bootmatrix.report.sanitize import one_line
from bootmatrix.workspace.exec_job import OUR_STATUS, ExecJob, ExecResult, GuestFiles, run_job
from bootmatrix.workspace.guest import Guest
from bootmatrix.workspace.warm_guest import open_warm
from bootmatrix.workspace.warm_start import WarmStart

PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

Terminal = Callable[[Mapping[str, Any]], AbstractContextManager[None]]


@dataclass(frozen=True)
class OwnGuest:
    """A guest's settings, as JSON values, and its inputs if one was started before.

    `terminal` takes the terminal for the command.
    """

    args: argparse.Namespace
    settings: Mapping[str, Any]
    warm_key: str
    warm: WarmStart | None
    terminal: Terminal


def run_here(own: OwnGuest, job: Mapping[str, Any]) -> int:
    """Boot a guest, run a job in it, and return its exit status."""
    result = anyio.run(_run, own, job)
    for text in result.messages:
        complain(f"bootmatrix: {text}")
    return result.status


async def _run(own: OwnGuest, job: Mapping[str, Any]) -> ExecResult:
    result = ExecResult(INTERRUPTED, ("interrupted",))
    commands = _Signals()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commands.watch, tasks.cancel_scope)
            async with await _guest(own) as guest:
                with ExitStack() as stack:
                    result = await _run_job(
                        guest, ExecJob.from_json(job), commands, lambda: stack.enter_context(own.terminal(job))
                    )
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        return _fault(group)
    return result


async def _guest(own: OwnGuest) -> AbstractAsyncContextManager[Guest]:
    """Return a guest that is not booted yet: as the last one, or as planned."""
    args, settings, warm = own.args, own.settings, own.warm
    if warm:
        snapshot = await anyio.to_thread.run_sync(warm.snapshot)
        if snapshot:
            return open_warm(warm, args.archive, args.offline, _tell)
    from bootmatrix.cli import options
    from bootmatrix.load.recipe import shipped_image
    from bootmatrix.progress import LineObserver
    from bootmatrix.workspace.guest_boot import open_guest
    from bootmatrix.workspace.guest_plan import plan_guest
    from bootmatrix.workspace.selection import Selection

    workspace = options.workspace(argparse.Namespace(**{**vars(args), "image": ()}))
    selection = Selection(**settings["selection"])
    observer = LineObserver(_tell)
    planned, root = plan_guest(
        lambda spec: workspace.plan_single(spec, args.arch, args.kernel, selection), settings["name"]
    )
    is_shipped = bool(shipped_image(settings["name"]))
    return open_guest(planned, root, observer, warm_key=own.warm_key if is_shipped else "")


def _tell(text: str) -> None:
    complain(f"bootmatrix: {one_line(text)}")


def _fault(group: BaseExceptionGroup[BaseException]) -> ExecResult:
    error = innermost(group)
    if isinstance(error, BootmatrixError):
        return ExecResult(OUR_STATUS, (str(error),))
    raise error


async def _run_job(guest: Guest, job: ExecJob, commands: _Signals, take_terminal: Callable[[], None]) -> ExecResult:
    async def begin() -> None:
        commands.is_running = True
        take_terminal()

    return await run_job(guest, job, CommandStreams(0, 1, 2), commands.controls(), GuestFiles(), begin)


class _Signals:
    """Signals for the running command; from the second Ctrl-C on, they end all."""

    def __init__(self) -> None:
        self.is_running = False
        self._sender, self._receiver = anyio.create_memory_object_stream[Control](64)

    def controls(self) -> AsyncIterator[Control]:
        """Return the stream of controls."""
        return self._receiver

    async def watch(self, scope: anyio.CancelScope) -> None:
        """Receive this process' signals."""
        interrupts = 0
        with anyio.open_signal_receiver(*PASSED, signal.SIGWINCH) as signals:
            async for number in signals:
                interrupts += number == signal.SIGINT
                if number != signal.SIGWINCH and (not self.is_running or interrupts > 1):
                    scope.cancel()
                    return
                self._pass_on(number)

    def _pass_on(self, number: signal.Signals) -> None:
        control = Control(int(number))
        if number == signal.SIGWINCH:
            size = os.get_terminal_size(0) if os.isatty(0) else os.terminal_size((80, 24))
            control = Control(size=TerminalSize(size.lines, size.columns))
        try:
            self._sender.send_nowait(control)
        except anyio.WouldBlock:
            return
