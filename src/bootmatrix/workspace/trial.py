"""A trial: a thing's project, in the cache or a folder, and its run."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bootmatrix.assembly.build_context import open_builder
from bootmatrix.errors import InputError
from bootmatrix.model import Profile
from bootmatrix.model.run_config import SourceConfig
from bootmatrix.progress import NullObserver
from bootmatrix.scaffold.trial import ImageLooks, write_trial
from bootmatrix.scaffold.trial_request import TrialRequest
from bootmatrix.store import Store, default_cache, host_faults, sha256_of

TRIALS = "try"
"""Folder of the cache with the projects of trials: a run refers to its spec's file."""
MAX_TRIALS = 100
KEPT_S = 30 * 86400.0
HALF_WRITTEN_S = 86400.0
DRAFT = ".draft-"

WriteProject = Callable[[Path], tuple[Path, list[str]]]
"""Writes a project to an empty folder; returns its matrix, and notes."""


def prepare_trial(
    request: TrialRequest,
    profiles: Mapping[str, Profile],
    cache: Path | None,
    save: Path | None,
    looks: ImageLooks | None = None,
) -> tuple[Path, list[str]]:
    """Write the project of a trial; return its matrix, and notes.

    It is in the folder `save`, else in the cache, under the digest of its contents: the same trial has the same files.

    Raises InputError if the request is invalid, or `save` is in use; HostError if other users can write to the cache.
    """

    def write(draft: Path) -> tuple[Path, list[str]]:
        return write_trial(draft, request, profiles, looks)

    return keep_project(request.thing.name, write, cache, save)


def find_image_faults(
    image: str, archs: Iterable[str], profiles: Mapping[str, Profile], sources: SourceConfig
) -> dict[str, str]:
    """Find architectures that an image lacks, with the reason, unfetched.

    Raises BuildError if the image does not exist or is damaged, InfraError if it is unavailable.
    """
    with open_builder(sources, NullObserver()) as builder:
        source, images = builder.source(image, Path()), builder.sources()
        faults = {arch: images.platform_fault(source, profiles[arch].names.oci) for arch in archs}
    return {arch: fault for arch, fault in faults.items() if fault}


def find_image_ports(
    image: str, archs: Iterable[str], profiles: Mapping[str, Profile], sources: SourceConfig
) -> tuple[int, ...]:
    """Find the TCP ports that an image exposes on the first of architectures.

    Raises BuildError if the image does not exist or is damaged, InfraError if it is unavailable.
    """
    with open_builder(sources, NullObserver()) as builder:
        source = builder.source(image, Path())
        return builder.sources().exposed_ports(source, profiles[next(iter(archs))].names.oci)


def keep_project(name: str, write: WriteProject, cache: Path | None, save: Path | None) -> tuple[Path, list[str]]:
    """Write a project to an empty folder by a function; return the matrix.

    Raises InputError if `save` is in use, HostError if other users can write to the cache.
    """
    if save is not None:
        return _save(write, save)
    trials = Store(cache or default_cache()).own_folder(TRIALS)
    _remove_old(trials)
    with host_faults(trials.parent), _draft(trials) as draft:
        matrix, notes = write(draft)
        final = trials / f"{name}-{_digest(draft)[:16]}"
        with suppress(OSError):  # the same trial is there already
            draft.rename(final)
    os.utime(final)
    return final / matrix.name, notes


def _save(write: WriteProject, save: Path) -> tuple[Path, list[str]]:
    if save.exists() and (not save.is_dir() or any(save.iterdir())):
        raise InputError(f"--save {save}: exists, and is not an empty folder", "Name a new folder.")
    try:
        save.parent.mkdir(parents=True, exist_ok=True)
        with _draft(save.parent) as draft:
            matrix, notes = write(draft)
            draft.chmod(0o755)
            draft.rename(save)
    except OSError as error:
        raise InputError(f"--save {save}: {error.strerror}") from error
    return save / matrix.name, notes


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Provide a folder beside the final one; it is removed if it remains."""
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = f"-> {path.readlink()}" if path.is_symlink() else sha256_of(path) if path.is_file() else ""
        mode = 0 if path.is_symlink() else path.stat().st_mode
        digest.update(os.fsencode(f"{path.relative_to(folder)}\0{mode}\0{content}\n"))
    return digest.hexdigest()


def _remove_old(trials: Path) -> None:
    """Remove drafts that were left by a kill, and projects of long ago."""
    now = time.time()
    with suppress(OSError):
        entries = sorted(trials.iterdir(), key=lambda path: -path.stat().st_mtime)
        for number, path in enumerate(entries):
            age_s = now - path.stat().st_mtime
            if age_s > (HALF_WRITTEN_S if path.name.startswith(DRAFT) else KEPT_S) or (
                number >= MAX_TRIALS and age_s > HALF_WRITTEN_S
            ):
                shutil.rmtree(path, ignore_errors=True)
