"""Downloads on the standard error. Most commands find all in the cache, and do not wait for what would show them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootmatrix.model import Cell, Record
    from bootmatrix.progress import Observer


@contextmanager
def shown_downloads() -> Iterator[Observer]:
    """Show downloads from the first one on."""
    with ExitStack() as opened:
        yield Downloads(opened)


class Downloads:
    """Hears of downloads, and opens the screen for them with the first one."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._screen: Observer | None = None
        self._lock = Lock()

    def cell_stage(self, cell: Cell, stage: str) -> None:
        """Not shown."""

    def cell_done(self, record: Record) -> None:
        """Not shown."""

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Show how far it is."""
        self._shown().download(label, done_bytes, total_bytes)

    def note(self, text: str) -> None:
        """Show the line."""
        self._shown().note(text)

    def _shown(self) -> Observer:
        from bootmatrix.cli.progress import open_downloads

        with self._lock:
            if self._screen is None:
                self._screen = self._opened.enter_context(open_downloads())
            return self._screen
