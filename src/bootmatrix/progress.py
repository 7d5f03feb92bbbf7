"""What a run tells whoever watches it."""

from __future__ import annotations

from typing import Protocol

from bootmatrix.model import Cell, Record


class Observer(Protocol):
    """Hears of progress, from any thread."""

    def cell_stage(self, cell: Cell, stage: str) -> None:
        """A cell begins a stage: `fetch`, `build`, `wait`, or a phase of its guest."""

    def cell_done(self, record: Record) -> None:
        """A cell has its verdict."""

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """A download is under way, or done when both sizes are equal."""

    def note(self, text: str) -> None:
        """One line worth knowing."""


class NullObserver:
    """Nobody watches."""

    def cell_stage(self, cell: Cell, stage: str) -> None:
        """Say nothing."""

    def cell_done(self, record: Record) -> None:
        """Say nothing."""

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""
