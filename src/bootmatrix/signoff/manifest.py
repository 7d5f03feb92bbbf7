"""Manifest: the SHA-256 of all files of a run, readable by `sha256sum --check`."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.store import sha256_of

SIGNOFF_FOLDER = "signoff"
"""Folder in a run for its sign-offs; excluded from the manifest."""
MANIFEST_FILE = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\\]{1,4096})", re.ASCII)
MAX_BYTES = 64 << 20

Manifest = dict[str, str]
"""SHA-256 by path, relative to the run's folder."""


@dataclass(frozen=True)
class Survey:
    """A folder's `files`, `empty` folders, and `faults` a run cannot have."""

    files: Manifest
    empty: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def survey(folder: Path) -> Survey:
    """List a folder, without following links or opening special files.

    Raises OSError if the folder itself cannot be listed.
    """
    files: Manifest = {}
    empty: list[str] = []
    faults: list[str] = []
    for path, kind in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if not LINE.fullmatch(f"{'0' * 64}  {name}"):
            faults.append(f"{name!r}: a manifest cannot list a name with control characters or backslashes")
        elif kind == "file":
            try:
                files[name] = sha256_of(path)
            except OSError as error:
                faults.append(f"{name}: cannot be read: {error.strerror}")
        elif kind == "empty":
            empty.append(name)
        else:
            faults.append(f"{name}: expected a regular file, found {kind}")
    return Survey(dict(sorted(files.items())), tuple(sorted(empty)), tuple(faults))


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield all but non-empty folders with a kind: `file`, `empty`, or words."""
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
    """Return the signed part of a manifest: without the sign-offs."""
    names = outside_signoff(manifest)
    return {name: manifest[name] for name in names}


def outside_signoff(names: Iterable[str]) -> list[str]:
    """Return the signed paths: without the sign-offs."""
    return [name for name in names if name.partition("/")[0] != SIGNOFF_FOLDER]


def signoffs_of(folder: Path) -> list[str]:
    """List the releases that a run is signed off for."""
    folders = (folder / SIGNOFF_FOLDER).glob("[!.]*/")
    return sorted(path.name for path in folders if path.is_dir() and not path.is_symlink())


def write_lines(manifest: Manifest) -> bytes:
    """Format a manifest."""
    return "".join(f"{digest}  {name}\n" for name, digest in manifest.items()).encode("utf-8", "surrogateescape")


def read_lines(data: bytes) -> Manifest:
    """Parse a manifest. Raises InputError if a line is invalid."""
    manifest = {}
    # Not splitlines(), which also splits at U+2028 and U+0085.
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"), 1):
        match = LINE.fullmatch(line)
        if not match or match[2] in manifest:
            raise InputError(f"{MANIFEST_FILE}:{number}: not a digest and a path")
        manifest[match[2]] = match[1]
    return manifest


def differences(signed: Manifest, now: Manifest) -> list[str]:
    """Describe the differences from the signed manifest."""
    words = [f"{name}: changed" for name in signed if name in now and signed[name] != now[name]]
    words += [f"{name}: missing" for name in signed if name not in now]
    return words + [f"{name}: not part of the signed run" for name in now if name not in signed]
