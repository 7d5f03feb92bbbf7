"""Run a spec on a board, whose kernel and hardware are under test.

The guest's root is sent, its init runs in namespaces of its own and signs its account, and the root is removed.
"""

import shlex
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from bootmatrix import plugins
from bootmatrix.assembly.tree import Tree
from bootmatrix.cloud.root import ForeignPrograms, write_root
from bootmatrix.cloud.talk import SETTINGS, SETTINGS_VARIABLE, Talk
from bootmatrix.errors import InfraError
from bootmatrix.model.cluster import Host
from bootmatrix.store import temporary_folder

GROUP = "board_access"
SEND_S = 900.0
END_S = 20.0
PROGRAMS = ("unshare", "chroot", "mount", "tar", "gzip", "mktemp", "tty")
GRACE_S = 60
"""Beyond its limit: after that the board ends a run by itself."""
OLD_MINUTES = 24 * 60
"""Age at which folders are removed, which runs leave whose board was turned off."""


class Terminal(Protocol):
    """A command with a terminal on a board."""

    async def read(self) -> bytes:
        """Read output; empty at the end."""

    def write(self, data: bytes) -> None:
        """Write input."""

    async def status(self) -> int | None:
        """Return the exit status after the end; None if the connection was lost."""


class BoardAccess(Protocol):
    """A connection to a board. Its methods raise InfraError."""

    async def run(self, command: str, source: Path | None = None) -> str:
        """Run a shell command, with a file as its input; return its output."""

    def terminal(self, command: str) -> AbstractAsyncContextManager[Terminal]:
        """Run a shell command on a terminal; the end of the context hangs up."""


OpenBoard = Callable[[Host], AbstractAsyncContextManager[BoardAccess]]
"""Entry point of the group `bootmatrix.board_access`. It may turn the board on, and off at the end."""


@dataclass(frozen=True)
class BoardFacts:
    """A board: its kernel's release, its machine, its user, and the folder of a run."""

    release: str
    machine: str
    is_root: bool
    folder: str


async def run_on_board(board: Host, root: Tree, talk: Talk) -> str:
    """Run init in a root on a board; return its kernel's release.

    Raises ForeignPrograms if the board cannot execute the root's programs, InfraError if it cannot be reached, or lacks
    something.
    """
    open_board: OpenBoard = plugins.load(GROUP, board.via)
    async with open_board(board) as access:
        facts = await _make_folder(board, access)
        folder = shlex.quote(facts.folder)
        try:
            with temporary_folder() as here:
                archive = here / "root.tar.gz"
                await anyio.to_thread.run_sync(_pack, root, archive, facts.is_root)
                await access.run(f"mkdir {folder}/root && tar -xzf - -C {folder}/root", archive)
            with as_file(files("bootmatrix.cloud").joinpath("launch.sh")) as launcher:
                await access.run(f"cat >{folder}/launch.sh", launcher)
            await _run(access, folder, talk)
        finally:
            with anyio.move_on_after(END_S, shield=True):
                await access.run(f"rm -rf {folder}")
    if not talk.messages and b"xec format error" in talk.transcript:
        raise ForeignPrograms(f"{board.name} is {facts.machine[:60]}, and cannot execute programs of this architecture")
    return facts.release


async def look_at_board(board: Host) -> BoardFacts:
    """Connect to a board, and look for what a run needs there.

    Raises InfraError if it cannot be reached, or lacks something.
    """
    open_board: OpenBoard = plugins.load(GROUP, board.via)
    async with open_board(board) as access:
        facts = await _make_folder(board, access)
        await access.run(f"rm -rf {shlex.quote(facts.folder)}")
        return facts


async def _make_folder(board: Host, access: BoardAccess) -> BoardFacts:
    place = shlex.quote(f"{board.cache}/boards")
    script = (
        f"set -e; umask 077; mkdir -p {place}; cd {place}; PATH=$PATH:/usr/sbin:/sbin; "
        f"for name in {' '.join(PROGRAMS)}; do command -v $name >/dev/null || {{ echo no $name >&2; exit 1; }}; done; "
        f"find . -mindepth 1 -maxdepth 1 -mmin +{OLD_MINUTES} -exec rm -rf {{}} + || :; "
        "folder=$(mktemp -d ./run.XXXXXX); uname -r; uname -m; id -u; cd $folder; pwd -P"
    )
    lines = (await access.run(script)).splitlines()
    if len(lines) != 4 or not lines[3].startswith("/"):
        raise InfraError(f"unexpected answer: {' '.join(lines)[:200]!r}")
    release, machine, user, folder = lines
    return BoardFacts(release, machine, user == "0", folder)


def _pack(root: Tree, archive: Path, is_root: bool) -> None:
    with archive.open("wb") as out:
        write_root(root, out, "w:gz", is_root=is_root)


async def _run(access: BoardAccess, folder: str, talk: Talk) -> None:
    settings = f"{SETTINGS_VARIABLE}={shlex.quote(SETTINGS)}"
    command = f"export {settings}; exec sh {folder}/launch.sh {int(talk.limit_s) + GRACE_S}"
    talk.start()
    async with access.terminal(command) as terminal:
        with anyio.move_on_after(talk.limit_s) as scope:
            while (data := await terminal.read()) and not talk.limit:
                if reply := talk.feed(data):
                    terminal.write(reply)
        talk.end("time" if scope.cancelled_caught else "")
        if not talk.limit:
            talk.status = await terminal.status()
            if talk.status is None:
                raise InfraError("the connection to the board was lost")
