"""Interruption: the first signal stops, immediate repetitions are ignored."""

import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from bootmatrix.errors import innermost
from bootmatrix.report.units import duration

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_S = 4.0
"""Time after a signal in which threads may end by themselves."""
AGAIN_S = 5.0
"""Time in which repeated signals count as one: a process and its group are often signalled both."""


class _Interruption:
    """Signal handler: calls `listener` the first time, else raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.is_handled = False
        self.first_s: float | None = None
        self.listener: Callable[[str], object] | None = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.first_s is not None and now_s < self.first_s + AGAIN_S:
            return
        if self.first_s is None:
            self.first_s = now_s
            if self.listener:
                self.listener(signal.Signals(number).name)
                return
        raise KeyboardInterrupt


_INTERRUPTION = _Interruption()


def handle_signals() -> None:
    """Raise KeyboardInterrupt on signals from now on, except on ignored ones."""
    _INTERRUPTION.first_s = None
    if threading.current_thread() is not threading.main_thread():
        return
    _INTERRUPTION.is_handled = True
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _INTERRUPTION.on_signal)


@contextmanager
def handled_signals() -> Iterator[None]:
    """Handle signals within the context, unless they are handled already."""
    if _INTERRUPTION.is_handled:
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handle_signals()
    try:
        yield
    finally:
        _INTERRUPTION.is_handled = False
        for number, handler in before.items():
            with suppress(ValueError):  # not the main thread
                signal.signal(number, handler)


def leave_in_time(status: int) -> None:
    """End the process after a signal, whatever its threads do.

    They have until END_S after the signal to end by themselves; a download waits for its server much longer. The
    next process that opens the cache removes what they leave.
    """
    if _INTERRUPTION.first_s is None or not _INTERRUPTION.is_handled:
        return
    ends_s = _INTERRUPTION.first_s + END_S
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(ends_s - time.monotonic(), 0.0))
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.current_thread()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    for number in SIGNALS:  # the interpreter restores defaults as it ends: a repetition would change the status
        signal.signal(number, signal.SIG_IGN)


async def until_signal(
    work: Callable[[], Awaitable[None]], note: Callable[[str], None], deadline_s: float | None = None
) -> str:
    """Do work and return why it was stopped; empty if it finished.

    The reason is such as `SIGTERM`, or `deadline of 6 h 00 min`. The first signal, or the deadline, stops all guests
    and keeps the finished results.
    """
    from asyncio import get_running_loop  # slow, and not needed by commands that boot nothing

    import anyio

    finished, reasons = False, list[str]()
    asked = anyio.Event()
    loop = get_running_loop()

    def stop(reason: str) -> None:
        reasons.append(reason)
        asked.set()

    try:
        async with anyio.create_task_group() as tasks:

            async def stop_when_asked() -> None:
                await asked.wait()
                note(f"interrupted, {reasons[0]}: stopping all guests")
                tasks.cancel_scope.cancel()

            with handled_signals():
                _INTERRUPTION.listener = lambda name: loop.call_soon_threadsafe(stop, name)
                try:
                    tasks.start_soon(stop_when_asked)
                    if deadline_s is not None:
                        loop.call_later(deadline_s, stop, f"deadline of {duration(deadline_s)}")
                    await work()
                    finished = True
                    tasks.cancel_scope.cancel()
                finally:
                    _INTERRUPTION.listener = None
    except BaseExceptionGroup as group:
        error = innermost(group)
        raise error from error.__cause__
    return "" if finished else reasons[0]
