"""Progress of a run, as reported to an observer."""

from collections.abc import Callable
from typing import Protocol

from bootmatrix.model import Cell, Record


class Observer(Protocol):
    """Receives progress, from any thread."""

    def cell_stage(self, cell: Cell, stage: str) -> None:
        """Report that a cell enters `fetch`, `build`, `wait`, or a phase of its guest."""

    def cell_done(self, record: Record) -> None:
        """Report a cell's verdict."""

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Report a download; it is complete when both sizes are equal."""

    def note(self, text: str) -> None:
        """Report one line of text."""


class NullObserver:
    """Ignores all reports."""

    def cell_stage(self, cell: Cell, stage: str) -> None:
        """Ignore."""

    def cell_done(self, record: Record) -> None:
        """Ignore."""

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


class LineObserver(NullObserver):
    """Tells each download's begin and each note, as a line."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._begun: set[str] = set()

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:  # noqa: ARG002
        """Tell its begin."""
        if label not in self._begun:
            self._begun.add(label)
            self._tell(f"downloading {label}")

    def note(self, text: str) -> None:
        """Tell it."""
        self._tell(text)
