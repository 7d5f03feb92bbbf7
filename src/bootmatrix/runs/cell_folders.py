"""Folders of a run's cells, found without following links. Quick to import."""

import os
from collections.abc import Iterator
from contextlib import suppress

DEPTH = 4
"""SPEC/ARCH/MACHINE/KERNEL."""


def cell_folders(cells: str | os.PathLike[str], depth: int = DEPTH) -> Iterator[str]:
    """Yield the folders so many levels below a folder, in any order.

    The run may be from elsewhere: of links that lead back to their own folder, a glob would follow each in each.
    """
    if not depth:
        yield os.fspath(cells)
        return
    with suppress(OSError), os.scandir(cells) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from cell_folders(entry.path, depth - 1)
