"""The digests of all files of a run, in the form that `sha256sum --check` reads too."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import InputError

SIGNOFF_FOLDER = "signoff"
"""In a run's folder: what signs it off, which is no part of what is signed."""
MANIFEST_FILE = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\\]{1,4096})", re.ASCII)
MAX_BYTES = 64 << 20

Manifest = dict[str, str]
"""SHA-256 by path, relative to the run's folder."""


@dataclass(frozen=True)
class Survey:
    """Everything below a folder. `empty` are folders without any entry, `faults` say what has no place in a run."""

    files: Manifest
    empty: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def survey(folder: Path) -> Survey:
    """Read a folder without following a link or opening anything but plain files.

    Raises:
        OSError: the folder itself cannot be listed.
    """
    files: Manifest = {}
    empty: list[str] = []
    faults: list[str] = []
    for path, kind in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if not LINE.fullmatch(f"{'0' * 64}  {name}"):
            faults.append(f"{name!r}: a name with control characters or backslashes, which no manifest can list")
        elif kind == "file":
            try:
                files[name] = sha256_of(path)
            except OSError as error:
                faults.append(f"{name}: cannot be read: {error.strerror}")
        elif kind == "empty":
            empty.append(name)
        else:
            faults.append(f"{name}: {kind}, and a run has plain files only")
    return Survey(dict(sorted(files.items())), tuple(sorted(empty)), tuple(faults))


def manifest_of(folder: Path) -> Manifest:
    """Return the digests of all files of a run as they are now.

    Raises:
        InputError: something is neither a plain file nor a folder, or has a name that no line can hold.
        OSError: the folder cannot be listed.
    """
    found = survey(folder)
    if found.faults:
        raise InputError(f"{folder}: {found.faults[0]}", "Remove it from the run.")
    return found.files


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what is not a folder with contents, and its kind: `file`, `empty`, or words for what it is."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        yield folder, "a folder that cannot be listed"
        return
    if not entries:
        yield folder, "empty"
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path), _kind(entry.stat(follow_symlinks=False).st_mode)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    kinds = ((stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((words for is_kind, words in kinds if is_kind(mode)), "a device")


def without_signoff(manifest: Manifest) -> Manifest:
    """What is signed: not what signs it."""
    names = outside_signoff(manifest)
    return {name: manifest[name] for name in names}


def outside_signoff(names: Iterable[str]) -> list[str]:
    """Return the paths that are signed: not those of what signs them."""
    return [name for name in names if name.partition("/")[0] != SIGNOFF_FOLDER]


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
    # Not splitlines(): names may hold U+2028 or U+0085, at which it splits too.
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"), 1):
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
