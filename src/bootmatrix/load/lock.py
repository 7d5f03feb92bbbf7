"""JSON that users keep, made for readable diffs: locks, known results."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from bootmatrix.errors import InputError
from bootmatrix.fsio import write_named
from bootmatrix.load.document import read_bytes
from bootmatrix.model import Lock, Seen, SeenCells
from bootmatrix.model.base import as_json, first_fault

_Saved = TypeVar("_Saved", Lock, SeenCells)
FORMAT = 1
"""Of locks and of known results."""
MAX_LOCK_BYTES, MAX_SEEN_BYTES = 64 << 20, 16 << 20
HINT = "Recreate it with 'bootmatrix lock'."


def load_lock(path: Path) -> Lock:
    """Load a lock. Raises InputError if the file cannot be read, or is invalid."""
    if not path.exists():
        raise InputError(f"{path}: lock file not found", "Create it with 'bootmatrix lock'.")
    return _load(path, Lock, MAX_LOCK_BYTES, "a lock file", HINT)


def save_lock(lock: Lock, path: Path) -> None:
    """Write a lock atomically. Raises InputError if it cannot be written."""
    write_text(path, lock_text(lock))


def lock_text(lock: Lock) -> str:
    """Return the text of a lock file."""
    return json.dumps(lock.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def load_seen(path: Path) -> tuple[Seen, ...]:
    """Load known results; empty if the file does not exist.

    Raises InputError if the file cannot be read, or is invalid.
    """
    return _load(path, SeenCells, MAX_SEEN_BYTES, "a file of known results").cells if path.exists() else ()


def save_seen(path: Path, cells: Iterable[Seen]) -> None:
    """Write known results atomically, a cell per line. Raises InputError."""
    lines = ",\n".join(as_json(cell).decode() for cell in cells)
    write_text(path, f'{{"format": {FORMAT}, "cells": [\n{lines}\n]}}\n')


def write_text(path: Path, text: str) -> None:
    """Write a user's file atomically. Raises InputError if it cannot be."""
    try:
        write_named(path, text.encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _load(path: Path, model: type[_Saved], max_bytes: int, what: str, hint: str = "") -> _Saved:
    try:
        saved = model.model_validate_json(read_bytes(path, max_bytes))
    except ValidationError as error:
        raise InputError(f"{path}: not {what}: {first_fault(error)}", hint) from error
    if saved.format != FORMAT:
        raise InputError(f"{path}: unsupported format {saved.format}, expected {FORMAT}", hint)
    return saved
