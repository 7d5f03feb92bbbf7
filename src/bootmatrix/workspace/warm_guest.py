"""Boot a guest from the inputs of its last start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from bootmatrix.model import Bootable, Cell, Machine
from bootmatrix.qemu.version import learn_version
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.snapshot.pool import SnapshotPool
from bootmatrix.workspace.guest import Guest
from bootmatrix.workspace.guest_session import GuestSession, running
from bootmatrix.workspace.warm_start import WarmStart

if TYPE_CHECKING:
    from bootmatrix.source.guest_repository import GuestRepository


@asynccontextmanager
async def open_warm(
    start: WarmStart, archive: str | None, offline: bool, tell: Callable[[str], None]
) -> AsyncIterator[Guest]:
    """Boot a guest as the one before; it is killed in the end.

    `tell` gets lines on downloads that it causes.

    Raises BootmatrixError if it cannot be booted, AgentError if it did not come up, DamagedCache if a file that it uses
    is damaged: no command has run there.
    """
    fields = start.fields
    machine = Machine.model_validate_json(fields["machine"])
    bootable = Bootable.model_validate_json(fields["bootable"])
    cell = Cell.model_validate_json(fields["cell"])
    program, version, size_bytes, mtime_ns = json.loads(fields["snapshot"])["qemu"]
    learn_version(program, mtime_ns, size_bytes, version)
    with ExitStack() as stack:
        forks = SnapshotPool(SnapshotCache(start.store), 0, _ignore, start.check_others)
        stack.callback(forks.close)
        if snapshot := start.snapshot():
            forks.adopt(fields["snapshot"], snapshot)
        folder = stack.enter_context(start.store.workspace())
        session = GuestSession(machine, bootable, cell, folder.absolute())
        session.open_repository = partial(_open_repository, stack, start, (archive, offline), tell)
        check = asyncio.create_task(anyio.to_thread.run_sync(start.check_copy))
        try:
            async with running(session, forks):
                await check
                yield Guest(session, fields["root"])
        finally:
            await check  # a damaged copy explains whatever it did


def _ignore(_note: str) -> None:
    """Tell nothing: the guest before was told about."""


def _open_repository(
    stack: ExitStack, start: WarmStart, source: tuple[str | None, bool], tell: Callable[[str], None]
) -> GuestRepository:
    """Open the archive for a guest that asks for something; the stack closes it."""
    from bootmatrix.assembly.build_context import open_builder
    from bootmatrix.model.run_config import SourceConfig
    from bootmatrix.progress import LineObserver
    from bootmatrix.source.guest_repository import GuestRepository

    builder = stack.enter_context(open_builder(SourceConfig(start.store.folder, *source), LineObserver(tell)))
    named: dict[str, Any] = start.fields["repository"]
    return GuestRepository(builder.archive, named["debian_arch"], tuple(named["suites"]))
