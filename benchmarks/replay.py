"""Replayed guests: recorded outcomes at once, to measure all but the emulator.

No command uses this: a pass of it proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootmatrix.boot.start import Booted, Start
from bootmatrix.model import Bootable, Outcome
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.snapshot.pool import SnapshotPool


@dataclass(frozen=True)
class Replay:
    """A boot that was seen: its outcome, and the bytes of its console."""

    outcome: Outcome
    console: bytes

    async def start(self, start: Start, _bootable: Bootable, _forks: SnapshotPool | None) -> Booted:
        """Do as `start_guest` does, in no time. Raises OSError if the console cannot be written."""
        async with start.turn(start.machine):
            with (start.folder / CONSOLE_FILE).open("wb", buffering=0) as file:
                file.write(self.console)
        return Booted(self.outcome)
