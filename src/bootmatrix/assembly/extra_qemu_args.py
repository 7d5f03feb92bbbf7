"""A cell's own QEMU arguments, with the files that they name."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from bootmatrix.assembly.prebuilt_guest import disk_format, refers
from bootmatrix.errors import BuildError, readable
from bootmatrix.load.qemu_args import FILE, split_value
from bootmatrix.model import Artefact, Bootable
from bootmatrix.store import sha256_of

COLD = "it has QEMU arguments of its own"
FORMAT = "format="


def with_qemu_args(bootable: Bootable, words: Sequence[str]) -> Bootable:
    """Add arguments to a bootable, with their files' digests; it is not forked.

    Raises BuildError if a drive's file cannot be read, refers to other files of the host, or has another format.
    """
    if not words:
        return bootable
    drives = list(drive_files(words))
    attached = tuple(map(_attached, drives))
    is_drive = [before == "-drive" for before in ("", *words)]
    arguments = tuple(_drive(word) if drive else word for word, drive in zip(words, is_drive, strict=False))
    cold = {"forkable": None, "cold_reason": COLD} if bootable.forkable else {}
    return bootable.model_copy(update={"qemu_args": arguments, "attached": attached, **cold})


def drive_files(words: Sequence[str]) -> Iterator[Path]:
    """List the files of drives, in arguments from `parse_qemu_args`."""
    for option, value in pairwise(words):
        if option == "-drive":
            yield Path(split_value(value)[-1].removeprefix(FILE))


def _attached(path: Path) -> Artefact:
    with readable(path, BuildError):
        size_bytes, sha256 = path.stat().st_size, sha256_of(path)
        if refers(path):
            raise BuildError(f"{path}: this image refers to another file", "Make it standalone: qemu-img convert.")
    return Artefact(kind="attached", name=path.name, path=str(path), sha256=sha256, size_bytes=size_bytes)


def _drive(value: str) -> str:
    """Return a drive with an explicit format.

    QEMU would guess it from contents that a guest may have written, and reads some as names of other files.

    Raises BuildError if the format is neither `raw` nor that of the file.
    """
    parts = split_value(value)
    path = Path(parts[-1].removeprefix(FILE))
    found, named = disk_format(path), [part.removeprefix(FORMAT) for part in parts if part.startswith(FORMAT)]
    if not named:
        return f"{FORMAT}{found},{value}"
    if set(named) - {found, "raw"}:
        hint = "Convert it to another one, such as qcow2, which is recognised: qemu-img convert."
        raise BuildError(f"{path}: format={named[0][:40]}, and its contents are {found}", hint)
    return value
