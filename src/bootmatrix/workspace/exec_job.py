"""A command of `exec`: its files, its run, the files that come back."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import anyio

from bootmatrix.errors import AgentError, InputError
from bootmatrix.fsio import write_atomic
from bootmatrix.guest import commands
from bootmatrix.guest.attach import CommandStreams, Control, attach
from bootmatrix.guest.client import CommandEnd
from bootmatrix.guest.commands import fault_words
from bootmatrix.guest.frames import ExitKind
from bootmatrix.guest.outbound import Known, TreeLimits, check_tree, link_records, links_of, outdated
from bootmatrix.guest.requests import GuestRequest, TerminalSize
from bootmatrix.workspace.guest import CommandError, Guest

MAX_TREE_BYTES = 1 << 30
MAX_TREE_FILES = 20_000
OUR_STATUS = 125
"""Exit status for errors of bootmatrix and of the guest itself, as `docker run` has it."""
REMOVE = ("/bin/sh", "-c", 'rm -rf -- "$@"', "sh")
REMOVE_BYTES = 64 << 10
"""Of paths in one such command."""
MAX_GONE, MAX_GONE_BYTES = 16, 32 << 20
"""Programs outside of the folder that are gone here, until they are removed there: each removal is a command."""
RUN, CHANGE_FOLDER = "run", "change to the folder"
"""Steps of the agent (src/guest/agent_spawn.c): only the first one's faults are the command's."""
SYSTEM = ("/bin", "/sbin", "/lib", "/lib64", "/usr")
"""Folders whose programs are the guest's own: a copy of this host's would replace them."""
LOCAL = "/usr/local"
TREE_HINT = "Run it in a smaller folder, or with --no-tree, and copy with 'bootmatrix cp'."


@dataclass(frozen=True)
class ExecJob:
    """A command, and the files that it needs. Written as JSON between processes.

    `folder` is the host's current folder, which appears below the same path in the guest if `tree` is set; `alias`
    another path of it, through links, or empty; `cwd` the folder in which the command runs. With `program`, a
    program of the host that is named by its path is copied. `get` are paths that are copied back, relative ones
    from `folder`. `record` is the path of a file for the guest's description, or empty. `at` names the container
    whose root is used; empty for the guest's usual one. A kept guest is kept for the duration `keep` from then on.
    """

    words: tuple[str, ...]
    folder: str
    cwd: str
    alias: str = ""
    tree: bool = True
    program: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    get: tuple[str, ...] = ()
    record: str = ""
    uid: int = 0
    gid: int = 0
    rows: int = 0
    columns: int = 0
    privileged: bool = False
    at: str = ""
    keep: str = ""

    @property
    def terminal(self) -> TerminalSize | None:
        """Size of the command's terminal, if it has one."""
        return TerminalSize(self.rows, self.columns) if self.rows else None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ExecJob:
        """Make a job of such fields."""
        values: dict[str, Any] = {}
        for name, item in fields.items():
            values[name] = tuple(item) if isinstance(item, list) else item
        return cls(**values)


@dataclass(frozen=True)
class ExecResult:
    """The exit status of a command, and messages about it for the user.

    `is_fault`: the status is bootmatrix's own, and the command's is not known.
    """

    status: int
    messages: tuple[str, ...] = ()
    is_fault: bool = False


@dataclass
class GuestFiles:
    """Files that a guest has of earlier jobs, which copy in turn."""

    known: Known = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    lock: anyio.Lock = field(default_factory=anyio.Lock)


async def run_job(  # noqa: PLR0913, PLR0917
    guest: Guest,
    job: ExecJob,
    streams: CommandStreams,
    controls: AsyncIterator[Control],
    files: GuestFiles,
    on_start: Callable[[], Awaitable[None]],
) -> ExecResult:
    """Run a job in a guest. `on_start` is called when its files are there.

    Raises AgentError if the guest has ended, InputError if its files cannot be copied, or the command is too large.
    """
    guest = guest.at(job.at) if job.at else guest
    messages = await _put_files(guest, job, files)
    env = {**guest.env, **job.env}
    request = GuestRequest(
        *("exec", _words(job), guest.root, env, job.cwd, job.uid, job.gid, job.terminal, job.privileged)
    )
    await on_start()
    start = guest.console_bytes
    async with guest.explained():
        attached = await attach(guest.client, request, streams, controls)
    await guest.read_console()
    end = attached.end
    messages += _kernel_faults(guest, start)
    status = OUR_STATUS if end.kind is ExitKind.FAULT and end.text != RUN else end.status
    if end.kind is ExitKind.FAULT:
        messages.append(_fault_text(end, job))
    if attached.faults:
        messages += attached.faults
        status = OUR_STATUS
    for path in job.get:
        try:
            messages += await guest.get(_inside(path, job), Path(job.folder) / place_of(path))
        except AgentError as error:
            messages.append(error.message)
            status = status or OUR_STATUS
    if job.record:
        try:
            write_atomic(Path(job.record), json.dumps(guest.description, indent=1).encode())
        except OSError as error:
            messages.append(f"--record {job.record}: {error.strerror}")
            status = status or OUR_STATUS
    return ExecResult(status, tuple(messages), is_fault=bool(attached.faults))


def _kernel_faults(guest: Guest, start: int) -> list[str]:
    """Describe the first fault of the kernel behind so many bytes of its console."""
    faults = guest.kernel_faults_since(start)
    if not faults:
        return []
    from bootmatrix.console.transcript import describe

    return [f"the guest's kernel reported a fault meanwhile: {describe(faults[0])}"]


def check_files(job: ExecJob) -> None:
    """Raise InputError if a job's files cannot be copied into a guest."""
    limits = _limits()
    for path in _files_of(job):
        check_tree(path, limits)


def _limits() -> TreeLimits:
    return TreeLimits(MAX_TREE_FILES, MAX_TREE_BYTES, TREE_HINT)


async def _put_files(guest: Guest, job: ExecJob, files: GuestFiles) -> list[str]:
    """Copy a job's files, after those of others; return notes."""
    limits = _limits()
    async with files.lock, guest.explained():
        notes = await _remove(guest, _removable(files, job))
        if job.tree and job.alias and (job.alias, job.folder) not in files.aliases:
            await _put_alias(guest, job)
            files.aliases.add((job.alias, job.folder))
    for path in _files_of(job):
        async with files.lock, guest.explained():
            try:
                await commands.put(guest.client, path, str(path), root=guest.root, limits=limits, known=files.known)
            except BaseException:
                files.known.clear()  # some of them may not be there
                raise
    return [*notes, *limits.notes()]


def _removable(files: GuestFiles, job: ExecJob) -> list[str]:
    """Return what is removed before a job.

    It is what is gone of its folder, and programs elsewhere once they are many.
    """
    sizes = {path: size for path, (size, *_) in files.known.items()}
    folder = job.folder if job.tree else ""
    now = []
    for path in (*outdated(files.known, folder), *files.gone):
        if os.path.lexists(path) or (folder and path.startswith(f"{folder}/")):  # something else may be there
            files.gone.pop(path, None)
            now.append(path)
        else:
            files.gone.setdefault(path, sizes.get(path, 0))
    if len(files.gone) >= MAX_GONE or sum(files.gone.values()) > MAX_GONE_BYTES:
        now += files.gone
        files.gone.clear()
    return now


async def _remove(guest: Guest, paths: Sequence[str]) -> list[str]:
    """Remove files that the guest has of earlier commands; return notes."""
    left = list(paths)
    while left:
        sizes = accumulate(len(os.fsencode(path)) + 1 for path in left)
        count = max(1, sum(size < REMOVE_BYTES for size in sizes))
        try:
            await guest.run([*REMOVE, *left[:count]], check=True)
        except CommandError as error:
            return [f"{left[0]}: gone here, and still in the guest: {error.message}"]
        del left[:count]
    return []


async def _put_alias(guest: Guest, job: ExecJob) -> None:
    """Make the links that lead to the folder here, or else one to it."""
    try:
        for path, target in links_of(job.alias):
            await _put_link(guest, path, target)
    except InputError:  # a folder of the guest's own, such as /home
        with suppress(InputError):
            await _put_link(guest, job.alias, job.folder)


async def _put_link(guest: Guest, path: str, target: str) -> None:
    if not _is_system(Path(path)):
        await commands.put(guest.client, Path(path), path, root=guest.root, records=link_records(target))


def _files_of(job: ExecJob) -> Iterator[Path]:
    folder, program = Path(job.folder), _program(job)
    if job.tree:
        _check_folder(folder)
        yield folder
    if program and not (job.tree and program.is_relative_to(folder)):
        yield program


def _check_folder(folder: Path) -> None:
    if folder in {Path("/"), Path.home()}:
        raise InputError(f"{folder}: this folder is not copied into a guest", TREE_HINT)


def _program(job: ExecJob) -> Path | None:
    """Return the program if it is a file here, not of the system."""
    if not job.program:
        return None
    word = job.words[0]
    path = Path(os.path.normpath(Path(job.folder) / word))
    is_system = _is_system(path) and not path.is_relative_to(job.folder)
    return path if "/" in word and not is_system and path.is_file() else None


def _words(job: ExecJob) -> tuple[str, ...]:
    """Return the command, by its copied program's path if that differs."""
    program = _program(job)
    if program is None or os.path.normpath(Path(job.cwd) / job.words[0]) == str(program):
        return job.words
    return (str(program), *job.words[1:])


def _is_system(path: Path) -> bool:
    return any(map(path.is_relative_to, SYSTEM)) and not path.is_relative_to(LOCAL)


def _inside(path: str, job: ExecJob) -> str:
    return os.path.normpath(Path(job.folder) / path)


def place_of(path: str) -> Path:
    """Return where a file of the guest is put, relative to the job's folder."""
    return Path(Path(path).name if path.startswith("/") else path)


def _fault_text(end: CommandEnd, job: ExecJob) -> str:
    if end.text == CHANGE_FOLDER:
        return f"cannot change to the folder {job.cwd} in the guest: {fault_words(end)}"
    text = f"{job.words[0]}: cannot {end.text} in the guest: {fault_words(end)}"
    if end.text == RUN and end.number == 8:  # ENOEXEC
        return f"{text}. {_not_a_program(job)}"
    if end.text == RUN and end.number == 2 and (program := _program(job)):
        return f"{text}. {_missing_interpreter(program)}"
    return text


def _not_a_program(job: ExecJob) -> str:
    """Say what a file lacks that the guest's kernel knows no format of."""
    program = _program(job)
    with suppress(OSError):
        if program and _is_text(program):
            return "A script's first line names its interpreter, as in #!/bin/sh."
    return "Is it a program for this architecture?"


def _is_text(path: Path) -> bool:
    from bootmatrix.assembly.image.programs import MAX_LINE_BYTES

    with path.open("rb") as file:
        return b"\0" not in file.read(MAX_LINE_BYTES)


def _missing_interpreter(path: Path) -> str:
    """Name what the guest lacks: interpreter or loader, with its package."""
    from bootmatrix.assembly.image.programs import MAX_LINE_BYTES, SCRIPT, file_packages
    from bootmatrix.source.elf import read_program

    with suppress(OSError), path.open("rb") as file:
        line = file.readline(MAX_LINE_BYTES)
        if line.startswith(SCRIPT):
            interpreter = os.fsdecode(line.removeprefix(SCRIPT).strip(b" \t\n").split(b" ")[0])
            if interpreter.endswith("\r"):
                return "The script's first line ends in a carriage return, as on Windows: its interpreter is not found."
            return f"The image has no {interpreter}, which the script names in its first line."
        file.seek(0)
        program = read_program(file)
        if program and program.interpreter:
            packages = " or ".join(file_packages(program.interpreter)) or "?"
            return f"The image has no {program.interpreter}, the loader of this program (package {packages})."
    return "The image lacks its interpreter or dynamic loader, or it is for another architecture."
