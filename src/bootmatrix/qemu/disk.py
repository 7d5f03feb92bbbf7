"""A disk that a guest brings along: it writes to a copy of its own, which is gone when the guest is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

WRITES_BYTES = 64 << 30
"""How large the copy may grow: QEMU's own limit on what a guest may fill the host's disk with."""
CHUNK_BYTES = 1 << 20


@contextmanager
def private_copy(path: Path, folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A copy without a name, in the file system of `folder`, open for reading and writing, and once more for reading.

    QEMU takes both, since it begins with a look at what it is given. What is empty takes no room.

    Raises:
        OSError: the disk is full, or the file is gone.
    """
    with path.open("rb") as source, tempfile.TemporaryFile(dir=folder) as copy:
        while data := source.read(CHUNK_BYTES):
            if data.count(0) == len(data):
                copy.seek(len(data), os.SEEK_CUR)
            else:
                copy.write(data)
        copy.truncate()
        copy.flush()
        with Path(f"/proc/self/fd/{copy.fileno()}").open("rb") as reader:
            yield copy, reader
