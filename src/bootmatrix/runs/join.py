"""Folders of cells from several runs, joined in the folder of a new run."""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from bootmatrix.errors import InputError
from bootmatrix.fsio import read_whole, write_atomic
from bootmatrix.model import Cell, Lock
from bootmatrix.runs.result_names import harmless_name
from bootmatrix.runs.run_json import read_value
from bootmatrix.runs.run_store import LOCK_FILE, RECORD_FILE, cell_folder

T = TypeVar("T")


def link_cell(source: Path, target: Path, cell: Cell, names: Mapping[str, str] | None = None) -> None:
    """Copy a cell's files to another run, as hard links where possible.

    No file of a run is changed in place, so two runs can share one. Only regular files that no browser takes for a page
    are copied: the run may be from elsewhere, and the joined one be published. `names` gives new names to files of the
    cell's folder, and selects them; None takes all.

    Raises OSError if it cannot write.
    """
    own = str(cell_folder(target, cell))
    os.makedirs(own, exist_ok=True)  # noqa: PTH103  # texts: a path takes longer than its link
    with suppress(FileNotFoundError):
        _link_files(str(cell_folder(source, cell)), own, names)


def _link_files(folder: str, own: str, names: Mapping[str, str] | None) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if names is not None and entry.name not in names:
                continue
            path = f"{own}/{names[entry.name] if names else entry.name}"
            if entry.is_dir(follow_symlinks=False):
                Path(path).mkdir(exist_ok=True)
                _link_files(entry.path, path, None)
            elif entry.is_file(follow_symlinks=False) and harmless_name(path) == path:
                _link(entry.path, path)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target, follow_symlinks=False)


def write_record(folder: Path, cell: Cell, data: bytes) -> None:
    """Write a joined run's record, unless that is what was linked.

    A link is replaced, not followed.
    """
    path = cell_folder(folder, cell) / RECORD_FILE
    with suppress(FileNotFoundError):
        if path.stat().st_size == len(data) and read_whole(path) == data:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data, durable=False)


def join_locks(folders: list[Path]) -> tuple[Lock | None, list[str]]:
    """Join the locks of runs; also return the names of entries in which they differ.

    Raises InputError if one is damaged.
    """
    files = [folder / LOCK_FILE for folder in folders if (folder / LOCK_FILE).is_file()]
    locks = [read_value(file, Lock) for file in files]
    differing: list[str] = []
    kernels = _join([lock.kernels for lock in locks], differing)
    images = _join([lock.images for lock in locks], differing)
    archs = dict.fromkeys(arch for lock in locks for arch in lock.packages)
    packages = {arch: _join([lock.packages.get(arch, {}) for lock in locks], differing) for arch in archs}
    unreproducible = _join([lock.unreproducible for lock in locks], differing)
    lock = Lock(kernels=kernels, packages=packages, images=images, unreproducible=unreproducible)
    return lock if locks else None, list(dict.fromkeys(differing))


def _join(parts: list[dict[str, T]], differing: list[str]) -> dict[str, T]:
    joined: dict[str, T] = {}
    for key, value in (pair for part in parts for pair in part.items()):
        if joined.setdefault(key, value) != value:
            differing.append(key)
    return joined


def new_folder(path: Path) -> Path:
    """Create a folder beside `path`, to be renamed to it when complete.

    Raises InputError if `path` exists, OSError if it cannot be created.
    """
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} already exists", "Name a new folder, or remove that one first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}.part")
    work.mkdir()
    return work
