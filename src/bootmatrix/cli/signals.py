"""Ctrl-C and the like, while guests run."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_signal(work: Callable[[], Awaitable[None]], note: Callable[[str], None]) -> bool:
    """Do work; whether it came to its end: the first Ctrl-C or SIGTERM ends all guests and keeps what is done."""
    finished = False
    async with anyio.create_task_group() as tasks:

        async def stop_on_signal() -> None:
            with anyio.open_signal_receiver(*SIGNALS) as signals:
                async for _ in signals:
                    note("interrupted: ending all guests")
                    tasks.cancel_scope.cancel()
                    return

        tasks.start_soon(stop_on_signal)
        await work()
        finished = True
        tasks.cancel_scope.cancel()
    return finished
