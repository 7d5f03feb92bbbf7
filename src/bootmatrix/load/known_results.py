"""What is kept of earlier runs for the table of machines: JSON, a cell a line, so that a change of it reads well."""

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
    """What the file has; nothing, if there is none.

    Raises:
        InputError: it cannot be read, or is none of ours.
    """
    if not path.exists():
        return ()
    try:
        found = SeenCells.model_validate_json(read_bytes(path, MAX_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: this was not written by us: {place + ': ' if place else ''}{first['msg']}"
        ) from error
    if found.format != FORMAT:
        raise InputError(f"{path}: its format is {found.format}, and this version reads {FORMAT}")
    return found.cells


def save_seen(path: Path, cells: Iterable[Seen]) -> None:
    """Write the file, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    lines = ",\n".join(as_json(one).decode() for one in cells)
    write_text(path, f'{{"format": {FORMAT}, "cells": [\n{lines}\n]}}\n')
