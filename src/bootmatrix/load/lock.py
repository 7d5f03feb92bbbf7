"""Lock files: sorted JSON, for readable diffs."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from bootmatrix.errors import InputError
from bootmatrix.fsio import write_atomic
from bootmatrix.load.document import read_bytes
from bootmatrix.model import Lock

MAX_BYTES = 64 << 20
FORMAT = 1
HINT = "Recreate it with 'bootmatrix lock'."


def load_lock(path: Path) -> Lock:
    """Load a lock.

    Raises:
        InputError: the file cannot be read, or is invalid.
    """
    if not path.exists():
        raise InputError(f"{path}: lock file not found", "Create it with 'bootmatrix lock'.")
    try:
        lock = Lock.model_validate_json(read_bytes(path, MAX_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: not a lock file: {place + ': ' if place else ''}{first['msg']}", HINT) from error
    if lock.format != FORMAT:
        raise InputError(f"{path}: unsupported format {lock.format}, expected {FORMAT}", HINT)
    return lock


def save_lock(lock: Lock, path: Path) -> None:
    """Write a lock atomically.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, json.dumps(lock.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a user's file atomically.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
