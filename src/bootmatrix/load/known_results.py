"""Known results for the table of machines: JSON with one cell per line, for readable diffs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from bootmatrix.errors import InputError
from bootmatrix.load.document import read_bytes
from bootmatrix.load.lock import write_text
from bootmatrix.model import Seen, SeenCells
from bootmatrix.model.base import as_json

MAX_BYTES = 16 << 20
FORMAT = 1


def load_seen(path: Path) -> tuple[Seen, ...]:
    """Load the results; empty if the file does not exist.

    Raises:
        InputError: the file cannot be read, or is invalid.
    """
    if not path.exists():
        return ()
    try:
        saved = SeenCells.model_validate_json(read_bytes(path, MAX_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: not a file of known results: {place + ': ' if place else ''}{first['msg']}"
        ) from error
    if saved.format != FORMAT:
        raise InputError(f"{path}: unsupported format {saved.format}, expected {FORMAT}")
    return saved.cells


def save_seen(path: Path, cells: Iterable[Seen]) -> None:
    """Write the file atomically.

    Raises:
        InputError: it cannot be written.
    """
    lines = ",\n".join(as_json(cell).decode() for cell in cells)
    write_text(path, f'{{"format": {FORMAT}, "cells": [\n{lines}\n]}}\n')
