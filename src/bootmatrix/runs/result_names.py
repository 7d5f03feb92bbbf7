"""Files that guests leave: their names, and how to open them."""

import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import BinaryIO

from bootmatrix.fsio import open_below

FILES_FOLDER = "files"
"""Beside a record: files that the containers of its cell left."""
MAX_FILE_NAME = 120
INERT_SUFFIXES = frozenset(
    {
        *(".txt", ".log", ".tap", ".csv", ".json", ".md", ".png", ".jpg", ".jpeg", ".gif"),
        *(".gz", ".xz", ".zst", ".bz2", ".zip", ".tar", ".tgz", ".bin", ".cpio", ".deb", ".core", ".data", ".elf"),
    }
)
"""Suffixes of a guest's files that open as text, as a picture, or as a download."""


def harmless_name(name: str) -> str:
    """Return a name that nobody takes for a page: most get `.txt`.

    Browsers run the scripts of HTML, SVG and XML, and guess the kind of a file without a known suffix.
    """
    return name if PurePath(name).suffix.lower() in INERT_SUFFIXES else f"{name}.txt"


def plain_name(container: str, path: str) -> str:
    """Return a name of plain letters for a file of a container."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{container}{path}")[-MAX_FILE_NAME:]


def file_reader(folder: Path) -> Callable[[str], BinaryIO]:
    """Return a reader of a cell's files, without links, that never blocks."""

    def read(name: str) -> BinaryIO:
        return open_below(folder, [Path(name).parent.name, Path(name).name])

    return read
