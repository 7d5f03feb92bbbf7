"""Runs on disk, `reports/<time>-<title>/`: a record a cell, as they come.

    started.json                                 the Run at its start, without records
    cells/SPEC/ARCH/MACHINE/KERNEL/record.json   a Record, in one line, with its console.log beside it
    lock.json                                    the kernels and packages used so far, as `bootmatrix lock` writes them
    run.json                                     the whole Run, at the end
    disk-full                                    empty, instead of run.json: the disk had no room for it

Every file is written atomically, so a killed run is readable up to its last record. A power cut may lose the last
seconds' records: their files are empty, and are ignored.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock as Mutex
from typing import BinaryIO

from bootmatrix import __version__
from bootmatrix.errors import DamagedRun, InputError
from bootmatrix.fsio import open_plain, read_whole, replace_link, sync_disk, write_atomic
from bootmatrix.model import AcceptanceRecord, Cell, Lock, MachineUse, Record, Run, RunRequest
from bootmatrix.model.base import Model, as_json
from bootmatrix.runs.cell_folders import cell_folders
from bootmatrix.runs.folder_names import new_folder
from bootmatrix.runs.hold import FULL_FILE, end_cause, is_under_way
from bootmatrix.runs.host import describe_host
from bootmatrix.runs.run_json import FORMAT, HINT, in_a_line, read_run, read_value, write_run

STARTED_FILE = "started.json"
RUN_FILE = "run.json"
LOCK_FILE = "lock.json"
RECORD_FILE = "record.json"
CONSOLE_FILE = "console.log"
CELLS_FOLDER = "cells"
LATEST = "latest"
MAX_DEPTH = 32
"""Nested folders below `cells`: ours are six. Each of a run from elsewhere is a call within the others."""


class RunWriter:
    """Writes one run, which is its own for as long as it or its process lives.

    Its methods may be called from any thread.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self._run = run
        self._start = time.monotonic()
        self._written = {record.cell.id: cell_folder(path, record.cell) for record in run.records}
        self._begun: dict[str, Path] = {}
        self._kept_lock: Lock | None = None
        self._is_durable = True
        self.on_record: Callable[[Record], None] | None = None
        """Called with each record that has been written."""
        self._lock = Mutex()
        # The kernel frees this when the process dies, however it dies.
        self._hold = _held(path)

    @property
    def order(self) -> RunRequest | None:
        """The request of the run."""
        return self._run.order

    @property
    def earlier(self) -> tuple[Record, ...]:
        """The records of a run that was taken up."""
        return self._run.records

    @classmethod
    def create(
        cls, reports: Path, title: str, baseline: str = "", order: RunRequest | None = None, branch: str = ""
    ) -> RunWriter:
        """A new folder in `reports`, which `reports/latest` points to from now on.

        Raises InputError if `reports/latest` is something other than a link, OSError if the folder cannot be made.
        """
        check_latest(reports)
        reports.mkdir(parents=True, exist_ok=True)
        path = new_folder(reports, title)
        run = Run(
            format=FORMAT,
            name=path.name,
            title=title,
            tool_version=__version__,
            started_at=_now(),
            host=describe_host(),
            baseline=baseline,
            branch=branch,
            order=order,
        )
        write_model(path / STARTED_FILE, run)
        writer = cls(path, run)
        point_latest(reports, path.name)
        return writer

    @classmethod
    def resume(cls, path: Path) -> RunWriter:
        """Resume a run that was interrupted or killed.

        Raises InputError if it is not a run, damaged, in use by another process, or with links; OSError if it cannot be
        written.
        """
        check_links(path)
        run = load_resumable_run(path)
        resumed = (*run.resumed, _now())
        writer = cls(path, run.model_copy(update={"resumed": resumed, "ended_at": "", "unfinished": ()}))
        # From here on what stands in the cells' folders counts, also if this attempt is killed in its turn.
        (path / RUN_FILE).unlink(missing_ok=True)
        (path / FULL_FILE).unlink(missing_ok=True)
        return writer

    def folder(self, cell: Cell) -> Path:
        """Create the folder of a cell, emptied of files of an earlier attempt.

        Raises OSError if it cannot create it, or a link leads out of the run.
        """
        name = cell.id
        with self._lock:
            begun = self._begun.get(name)
            folder = self._begun[name] = begun or cell_folder(self.path, cell)
        if begun is None:
            self._make(folder)
        return folder

    def _make(self, folder: Path) -> None:
        is_resumed = bool(self._run.resumed)  # else all that is there was made by this process
        if is_resumed and not folder.resolve().is_relative_to(self.path.resolve()):
            raise PermissionError(errno.EPERM, "a link leads out of the run's folder", str(folder))
        _make_folder(folder)
        if is_resumed:
            shutil.rmtree(folder)
            folder.mkdir()

    def keep_lock(self, lock: Lock) -> None:
        """Write down the kernels and packages that the cells have used so far.

        Raises OSError if it cannot be written.
        """
        with self._lock:
            if lock is not self._kept_lock and lock != self._kept_lock:
                text = json.dumps(lock.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
                write_atomic(self.path / LOCK_FILE, text.encode())
                self._kept_lock = lock

    def add(self, record: Record) -> None:
        """Write a record; after `make_durable` it survives a power cut.

        Raises OSError if it cannot write it.
        """
        folder = self.folder(record.cell)
        write_atomic(folder / RECORD_FILE, as_json(record) + b"\n", durable=False)
        with self._lock:
            self._written[record.cell.id] = folder
            self._is_durable = False
        if self.on_record:
            self.on_record(record)

    def adopt(self, record: Record, folder: Path) -> None:
        """Copy a cell's files into place if needed, then write its record.

        Only regular files are copied; links are not followed.

        Raises OSError if it cannot write it.
        """
        own = self.folder(record.cell)
        if folder != own and folder.resolve() != own.resolve():
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    target = own / path.relative_to(folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target, follow_symlinks=False)
        self.add(record)

    def add_use(self, use: MachineUse) -> None:
        """Note machines that were started for the run, for run.json."""
        self._run = self._run.model_copy(update={"machines": (*self._run.machines, use)})

    def mark_full(self) -> None:
        """Note that the disk has no room for run.json, if it has some for a name."""
        with suppress(OSError):
            (self.path / FULL_FILE).touch()

    def make_durable(self) -> None:
        """Wait until all records that there are would outlive a power cut. Blocking.

        Raises OSError if the disk cannot be written.
        """
        with self._lock:
            was_durable, self._is_durable = self._is_durable, True
        if not was_durable:
            sync_disk(self.path)

    def finish(
        self, interrupted: bool = False, accepted: tuple[AcceptanceRecord, ...] = (), interruption: str = ""
    ) -> Run:
        """Write run.json whole; `accepted` holds at the run's end."""
        self.put_together(interrupted, accepted, interruption)
        return read_run(self.path / RUN_FILE)

    def put_together(
        self, interrupted: bool = False, accepted: tuple[AcceptanceRecord, ...] = (), interruption: str = ""
    ) -> None:
        """Write run.json from the written records, without all of them in memory."""
        with self._lock:
            folders = tuple(self._written.values())
            unfinished = tuple(sorted(self._begun.keys() - self._written.keys()))
        run = self._run.model_copy(
            update={
                "ended_at": _now(),
                "wall_s": self._run.wall_s + time.monotonic() - self._start,
                "interrupted": interrupted,
                "interruption": interruption,
                "accepted": accepted,
                "unfinished": unfinished,
            }
        )
        write_run(self.path / RUN_FILE, run, (in_a_line(read_whole(folder / RECORD_FILE)) for folder in folders))


def load_run(folder: Path) -> Run:
    """Load the run in a folder; an unfinished one is assembled from its records.

    Raises InputError if it is not a run, of a later version, or damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", HINT)
    finished = folder / RUN_FILE
    if finished.exists():
        run = read_run(finished)
        if run.ended_at:
            return run
    if not (folder / STARTED_FILE).is_file():
        raise InputError(f"{folder}: not a run: it holds neither {RUN_FILE} nor {STARTED_FILE}", HINT)
    return _recover(folder)


def load_resumable_run(folder: Path) -> Run:
    """Load a run with the records of its cells' folders, as to be resumed.

    Raises InputError as `load_run` does.
    """
    run = load_run(folder)
    if not run.ended_at:
        return run
    kept, order = _recover(folder), [record.cell.id for record in run.records]
    places = {name: place for place, name in enumerate(order)}
    records = sorted(kept.records, key=lambda record: places.get(record.cell.id, len(order)))
    elsewhere = (name for name in run.unfinished if name not in {record.cell.id for record in records})  # of no shard
    unfinished = tuple(dict.fromkeys((*kept.unfinished, *elsewhere)))
    return run.model_copy(update={"records": tuple(records), "unfinished": unfinished})


def check_links(folder: Path) -> None:
    """Refuse a run with links in place of cell folders, which would redirect writes.

    Raises InputError if a link was found, or folders that are nested too deeply.
    """
    cells = folder / CELLS_FOLDER
    link = str(cells) if cells.is_symlink() else next(_linked_folders(str(cells)), "") if cells.is_dir() else ""
    if link:
        raise InputError(
            f"{link}: expected a folder of the run, found a link",
            "Copy the run with what its links lead to (cp -rL), or start a new one.",
        )


def _linked_folders(folder: str, depth: int = MAX_DEPTH) -> Iterator[str]:
    """Find links to folders, mostly without asking the file system."""
    if not depth:
        raise InputError(f"{folder}: a folder in more than {MAX_DEPTH} others", "No run has such folders: remove it.")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                if entry.is_dir():
                    yield entry.path
            elif entry.is_dir():
                yield from _linked_folders(entry.path, depth - 1)


def cell_folder(folder: Path, cell: Cell) -> Path:
    """Return the folder of a cell in a run. None of its four parts has a slash."""
    return folder / f"{CELLS_FOLDER}/{cell.spec_name}/{cell.arch}/{cell.machine}/{cell.kernel}"


def write_model(path: Path, model: Model) -> None:
    """Write a value as JSON, in lines, whole or not at all."""
    write_atomic(path, as_json(model, indent=1) + b"\n")


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (RUN_FILE, STARTED_FILE))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make_folder(folder: Path) -> None:
    """Mostly the folder around it is there, and one call does."""
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)


def _held(path: Path) -> BinaryIO:
    """Lock a run against other writers. Raises InputError if it is taken."""
    file = open_plain(path / STARTED_FILE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(f"{path}: this run is still under way", "Wait for its end, or interrupt it.") from error
    except OSError as error:
        # Some network file systems have no locks; a run that cannot be guarded is still worth having.
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
            file.close()
            raise
    return file


def check_latest(reports: Path) -> None:
    """Check that `reports/latest` may be replaced.

    Raises InputError if it is something other than a link to a run.
    """
    link = reports / LATEST
    # `reports` may be a link of somebody else's checkout to any folder.
    if link.exists() and not (link.is_symlink() and _is_run(link)):
        raise InputError(f"{link} is not a link to the newest run", "Move it away; bootmatrix creates it again.")


def point_latest(reports: Path, name: str) -> None:
    """Make `reports/latest` a link to a run."""
    # A file system without links is no reason to fail: the link is a convenience.
    with suppress(OSError):
        replace_link(reports / LATEST, name)


def _recover(folder: Path) -> Run:
    check_links(folder)  # the run may be from elsewhere: a link would show another one's records
    run = read_value(folder / STARTED_FILE, Run)
    files = sorted(Path(cell, RECORD_FILE) for cell in cell_folders(folder / CELLS_FOLDER))
    records = tuple(_read_record(folder, file) for file in files if _is_written(file))
    ends = [datetime.fromisoformat(record.started_at).timestamp() + record.wall_s for record in records]
    start = datetime.fromisoformat(run.started_at).timestamp()
    is_running = is_under_way(folder)
    return run.model_copy(
        update={
            "wall_s": max([end - start for end in ends] + [0.0]),
            "interrupted": True,
            "interruption": "" if is_running else end_cause(folder),
            "under_way": is_running,
            "records": records,
            "unfinished": tuple(unfinished(folder)),
        }
    )


def _read_record(folder: Path, file: Path) -> Record:
    """Read a cell's record. Raises DamagedRun if damaged, or another's."""
    record = read_value(file, Record)
    if cell_folder(folder, record.cell) != file.parent:
        hint = "Put the cell's folder back where it was, or remove it: --resume then runs the cell again."
        raise DamagedRun(f"{file}: it is of another cell: {record.cell.id}", hint)
    return record


def unfinished(folder: Path) -> Iterable[str]:
    """List cells without a record, by their folders: `spec/arch/machine/kernel`."""
    for cell in sorted(map(Path, cell_folders(folder / CELLS_FOLDER))):
        if not _is_written(cell / RECORD_FILE):
            yield cell.relative_to(folder / CELLS_FOLDER).as_posix()


def _is_written(record: Path) -> bool:
    """Return whether a record has contents; a power cut may leave zeros."""
    try:
        with open_plain(record) as file:
            return file.read(1) not in {b"", b"\0"}
    except FileNotFoundError:
        return False
    except OSError:
        return True  # who reads it will say what is wrong
