"""A cell of the tiers `docker` and `hardware`: a kernel that runs already."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from bootmatrix.assembly.build_context import BuildContext
from bootmatrix.assembly.tree import Tree
from bootmatrix.cell.retry import Attempt, Prepared
from bootmatrix.cloud.root import ForeignPrograms, build_root
from bootmatrix.cloud.talk import Talk
from bootmatrix.errors import InfraError, InputError
from bootmatrix.judge.elsewhere import judge_signed
from bootmatrix.judge.user_tier import unsupported
from bootmatrix.model import Bootable, Cell, PhaseTime
from bootmatrix.model.cluster import Host
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.store import healed

END_S = 20.0


async def run_elsewhere(attempt: Attempt, cell: Cell, context: BuildContext, boards: Boards, folder: Path) -> None:
    """Build, run and judge a cell; its console is left in `folder`.

    Raises BootmatrixError if it cannot be built, or the place fails.
    """
    spec, started = context.specs[cell.spec], time.monotonic()
    build = partial(build_root, spec, context.profiles[cell.arch], context.builder)
    root, bootable = await anyio.to_thread.run_sync(partial(healed, build), abandon_on_cancel=True)
    phases = (PhaseTime(name="build", seconds=time.monotonic() - started),)
    talk = Talk(limit_s(cell, bootable))
    try:
        if cell.tier == "docker":
            release = await _in_engine(root, talk)
        else:
            release = await boards.run(cell.kernel, root, talk)
    except ForeignPrograms as error:
        attempt.judgement = unsupported(str(error))
        return
    finally:
        if talk.transcript:
            (folder / CONSOLE_FILE).write_bytes(talk.transcript)
    # The release makes the judgement repeatable: it is the one that init has to report.
    attempt.prepared = Prepared(None, bootable.model_copy(update={"kernel_release": release}), phases, spec.digest())
    attempt.outcome, attempt.host = talk.outcome(), cell.kernel if cell.tier == "hardware" else ""
    attempt.judgement = judge_signed(cell.kernel, attempt.outcome, attempt.prepared.bootable, bytes(talk.transcript))


def limit_s(cell: Cell, bootable: Bootable) -> float:
    """Return the limit of a whole run: that of all its phases."""
    limits = cell.timeouts
    return limits.boot + limits.onboot + limits.services + limits.shutdown + max(bootable.checks.values(), default=0)


class Boards:
    """The boards of a run, by name. Each runs one cell at a time."""

    def __init__(self, boards: Mapping[str, Host] | None = None) -> None:
        self._boards = boards or {}
        self._turns = {name: anyio.Lock() for name in self._boards}

    async def run(self, name: str, root: Tree, talk: Talk) -> str:
        """Run init in a root on a board; return the release of its kernel.

        Raises InputError if the run has no such board.
        """
        from bootmatrix.cloud.board import run_on_board

        if name not in self._boards:
            raise InputError(f"no board is called {name!r}", "Name its file: --cluster hosts.yml.")
        async with self._turns[name]:
            try:
                return await run_on_board(self._boards[name], root, talk)
            except InfraError as error:
                raise InfraError(f"{name}: {error.message}", error.hint) from error


async def _in_engine(root: Tree, talk: Talk) -> str:
    from bootmatrix.cloud.docker import DockerPlace

    place = await anyio.to_thread.run_sync(DockerPlace)
    try:
        await anyio.to_thread.run_sync(place.run, root, talk, abandon_on_cancel=True)
    finally:
        with anyio.move_on_after(END_S, shield=True):  # which ends a container whose cell was cancelled
            await anyio.to_thread.run_sync(place.remove)
    return place.kernel
