"""User files, used only with the known digest: they may change."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from string import Formatter

from bootmatrix.errors import BuildError, InputError
from bootmatrix.store import COPY_BYTES, Store, host_faults


def filled(text: str, names: Mapping[str, str], where: str = "") -> str:
    """Replace placeholders. Raises BuildError if one is unknown, or has a width."""
    with suppress(ValueError):
        fields = [field for field in Formatter().parse(text) if field[1] is not None]
        if all(name in names and not width and not conversion for _, name, width, conversion in fields):
            return text.format_map(names)
    known = ", ".join(f"{{{name}}}" for name in names)
    raise BuildError(f"{where}in {text!r} the only placeholders are {known}")


def in_a_line(name: str) -> str:
    """Escape line ends, as sha256sum does: in a list, a name could else be two."""
    return name.replace("\\", "\\\\").replace("\n", "\\n")


def take(path: Path, sha256: str, store: Store) -> Path:
    """Copy a file into the store, unless it has it already; return the private copy.

    Raises InputError if the digest has changed, OSError if the file cannot be read.
    """
    if store.has(sha256):
        return store.verified(sha256)
    with path.open("rb") as source, store.writer() as writer:
        writer.take(source)
        if writer.sha256 != sha256:
            raise _changed(path)
        return store.verified(writer.commit())


def take_into(folder: Path, path: Path, sha256: str) -> Path:
    """Copy a file into a private folder, for a single use."""
    target = folder / sha256
    if not target.exists():
        digest = copy_digested(path, target)
        if digest != sha256:
            target.unlink()
            raise _changed(path)
    return target


def copy_digested(path: Path, target: Path) -> str:
    """Copy a file, and return the digest of the copy.

    Raises HostError if the disk is full, OSError if the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as source, host_faults(target.parent), target.open("xb") as copy:
        while data := source.read(COPY_BYTES):
            digest.update(data)
            copy.write(data)
    return digest.hexdigest()


def _changed(path: Path) -> InputError:
    return InputError(f"{path}: has changed while it was read", "Try again when nothing writes to it.")
