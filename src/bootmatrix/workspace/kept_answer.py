"""The pipe between the process of a kept guest, and the one that waits for it."""

import os
import select
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import BinaryIO

from bootmatrix.report.sanitize import one_line

NOTE = b"\0"
"""Begins a line on what is done until the guest is ready."""


def read_reply(answer: BinaryIO, tell: Callable[[str], None]) -> bytes:
    """Read the process's answer; tell the lines before it."""
    reply = b""
    for line in answer:
        if line.startswith(NOTE):
            tell(line.removeprefix(NOTE).decode("utf-8", "replace").rstrip("\n"))
        else:
            reply += line
    return reply


class Answer:
    """The pipe by which the process that started this one waits for its guest."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = Lock()  # notes come from any thread

    def note(self, text: str) -> None:
        """Say what is done meanwhile, in one line."""
        with self._lock, suppress(OSError):
            if self._descriptor >= 0:
                os.write(self._descriptor, NOTE + f"{one_line(text)}\n".encode("utf-8", "replace"))

    def send(self, text: str) -> None:
        """Say that the guest is ready, or the fault. Only the first answer counts."""
        with self._lock:
            if self._descriptor < 0:
                return
            with suppress(OSError):
                os.write(self._descriptor, text.encode("utf-8", "replace"))
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def is_abandoned(self) -> bool:
        """Return whether nobody waits for the answer any more."""
        if self._descriptor < 0:
            return False
        poll = select.poll()
        poll.register(self._descriptor, 0)
        return bool(poll.poll(0))
