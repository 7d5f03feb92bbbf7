"""Input that is read once: `-`, /dev/stdin, `<(…)`, a named pipe.

It is read at once and kept under a name in the current folder, from which its relative names are resolved.
"""

import os
import re
import stat
from pathlib import Path

from bootmatrix.errors import InputError, readable

STDIN = "-"
MAX_BYTES = 1 << 20
_MATRIX = re.compile(rb"^[\"']?specs[\"']?\s*:", re.MULTILINE)
"""The key that a matrix has, and a spec has not: a pipe has no name to tell them apart."""

_kept: dict[str, bytes] = {}


def adopt(name: str) -> str:
    """Read input that is not a regular file; return its new name.

    Of specs that are merged (`a.yml+-`), each may be such input.

    Raises InputError if the input cannot be read, or is too large.
    """
    return _adopt(name) if "+" not in name or Path(name).exists() else "+".join(map(_adopt, name.split("+")))


def _adopt(name: str) -> str:
    path = "/dev/stdin" if name == STDIN else name
    if not _is_piped(path):
        return name
    with readable(name), Path(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: larger than the limit of {MAX_BYTES >> 10} KiB")
    suffix = ".matrix.yml" if _MATRIX.search(data) else ".yml"
    kept = _free_name("stdin" if path == "/dev/stdin" else f"input-{Path(path).stem}", suffix)
    _kept[kept] = data
    return kept


def kept(path: Path) -> bytes | None:
    """Return the content kept under a name, or None."""
    return _kept.get(str(path))


def _is_piped(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (a Path would lose the slash of /dev/fd/)
    except (OSError, ValueError):
        return path == "/dev/stdin"
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode) or path == "/dev/stdin"


def _free_name(stem: str, suffix: str) -> str:
    number, name = 1, f"{stem}{suffix}"
    while name in _kept or Path(name).exists():
        number, name = number + 1, f"{stem}-{number}{suffix}"
    return name
