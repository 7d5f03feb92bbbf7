"""The digests of all files of a run, in the form that `sha256sum --check` reads too."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bootmatrix.errors import InputError

SIGNOFF_FOLDER = "signoff"
"""In a run's folder: what signs it off, which is no part of what is signed."""
MANIFEST_FILE = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\\]{1,4096})", re.ASCII)
MAX_BYTES = 64 << 20

Manifest = dict[str, str]
"""SHA-256 by path, relative to the run's folder."""


def manifest_of(folder: Path) -> Manifest:
    """All files of a run as they are now.

    Raises:
        InputError: something is neither a plain file nor a folder, or has a name that no line can hold.
        OSError: a file cannot be read.
    """
    found = {}
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path}: a run holds plain files only, and this is none", "Remove it from the run.")
        if not LINE.fullmatch(f"{'0' * 64}  {name}"):
            raise InputError(f"{name!r} in {folder}: a name with control characters or backslashes cannot be listed")
        found[name] = sha256_of(path)
    return dict(sorted(found.items()))


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)


def without_signoff(manifest: Manifest) -> Manifest:
    """What is signed: not what signs it."""
    return {name: digest for name, digest in manifest.items() if not name.startswith(f"{SIGNOFF_FOLDER}/")}


def signoffs_of(folder: Path) -> list[str]:
    """The releases that a run is signed off for."""
    found = (folder / SIGNOFF_FOLDER).glob("[!.]*/")
    return sorted(path.name for path in found if path.is_dir() and not path.is_symlink())


def write_lines(manifest: Manifest) -> bytes:
    """The file's contents."""
    return "".join(f"{digest}  {name}\n" for name, digest in manifest.items()).encode("utf-8", "surrogateescape")


def read_lines(data: bytes) -> Manifest:
    """What `write_lines` wrote.

    Raises:
        InputError: it is not that.
    """
    found = {}
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").splitlines(), 1):
        match = LINE.fullmatch(line)
        if not match or match[2] in found:
            raise InputError(f"{MANIFEST_FILE}:{number}: not a digest and a path")
        found[match[2]] = match[1]
    return found


def differences(signed: Manifest, now: Manifest) -> list[str]:
    """In words, what is not as it was signed."""
    words = [f"{name}: changed" for name in signed if name in now and signed[name] != now[name]]
    words += [f"{name}: missing" for name in signed if name not in now]
    return words + [f"{name}: not there when it was signed" for name in now if name not in signed]


def sha256_of(path: Path) -> str:
    """A file's digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
