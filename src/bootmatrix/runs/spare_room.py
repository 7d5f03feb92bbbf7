"""Room on the disk that is set aside for the end of a run, so that a full disk does not cost its results."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

BASE_BYTES = 128 << 10
CELL_BYTES = 64 << 10
"""A record in run.json with its part of junit.xml; most take a third of it."""
MAX_BYTES = 64 << 20


class SpareRoom:
    """Room for run.json and junit.xml in a run's folder. It has no name, so it is gone when the process is."""

    def __init__(self, folder: Path, cells: int) -> None:
        self._file: IO[bytes] | None = None
        # A file system that cannot set room aside, or has none, is told when there is something to write.
        with suppress(OSError):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (open up to the end of the run)
            os.posix_fallocate(self._file.fileno(), 0, min(BASE_BYTES + cells * CELL_BYTES, MAX_BYTES))

    def release(self) -> None:
        """Give the room back to the disk."""
        if self._file:
            self._file.close()
