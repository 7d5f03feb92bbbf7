"""Boot a planned guest for commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio.to_thread

from bootmatrix.cell.context import open_context
from bootmatrix.cell.run import RunContext, cold_if_unshared, prepare
from bootmatrix.errors import AgentError, HostError
from bootmatrix.guest import commands
from bootmatrix.model import Bootable, Cell, Machine
from bootmatrix.progress import NullObserver, Observer
from bootmatrix.qemu.suitability import check_machine
from bootmatrix.qemu.version import qemu_version
from bootmatrix.source.guest_repository import GuestRepository
from bootmatrix.workspace import warm_start
from bootmatrix.workspace.guest import Guest
from bootmatrix.workspace.guest_session import GuestSession, running
from bootmatrix.workspace.planned_run import PlannedRun

RESOLVERS = "/run/resolvconf/resolv.conf"
"""Written by the shipped DHCP client, in the guest's own root."""


@asynccontextmanager
async def open_guest(
    planned: PlannedRun,
    root: str,
    observer: Observer | None = None,
    env: Mapping[str, str] | None = None,
    warm_key: str = "",
) -> AsyncIterator[Guest]:
    """Boot a planned guest, forked if possible; it is killed in the end.

    With `warm_key`, its inputs are kept for warm_start.find.

    Raises BootmatrixError if it cannot be built or booted.
    """
    (cell,) = planned.cells
    with (
        open_context(planned.config, observer or NullObserver()) as context,
        context.builder.store.workspace() as folder,
    ):
        machine, bootable = await _prepared(cell, context)
        session = GuestSession(machine, bootable, cell, folder.absolute())
        profile = context.profiles[cell.arch]
        session.open_repository = lambda: GuestRepository(context.builder.archive, profile.names.debian, profile.suites)
        async with running(session, context.forks, context.turn):
            guest = Guest(session, root, env)
            if root and bootable.network:
                await _give_resolvers(guest, folder / "resolv.conf")
            if warm_key and not context.announced and cell.kernel not in profile.own:  # whose files may change
                await anyio.to_thread.run_sync(_keep, warm_key, session, root, context)
            yield guest


def _keep(key: str, session: GuestSession, root: str, context: RunContext) -> None:
    """Keep a guest's inputs for the next one."""
    store, profile = context.builder.store, context.profiles[session.cell.arch]
    repository = {"debian_arch": profile.names.debian, "suites": list(profile.suites)}
    inputs = (session.machine, session.bootable, session.cell)
    with suppress(HostError):  # a full disk; this guest has come up
        warm_start.keep(store, key, context.builder.archive.good_until_s, inputs, root=root, repository=repository)


async def _prepared(cell: Cell, context: RunContext) -> tuple[Machine, Bootable]:
    """Build a guest that serves commands."""
    machine = context.machine(cell)
    qemu_version(machine)  # before any download
    await anyio.to_thread.run_sync(check_machine, machine, context.builder.store)
    prepared = await anyio.to_thread.run_sync(prepare, cell, context, abandon_on_cancel=True)
    bootable = cold_if_unshared(prepared.bootable, machine).model_copy(update={"agent": "serve"})
    return machine.emulated(), bootable


async def _give_resolvers(guest: Guest, file: Path) -> None:
    """Copy the DHCP client's resolvers to the commands' root."""
    with suppress(AgentError):  # not every network names some
        await commands.get(guest.client, RESOLVERS, file, root="")
        await commands.put(guest.client, file, "/etc/resolv.conf", root=guest.root, name=file.name)
