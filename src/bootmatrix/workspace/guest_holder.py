"""Holds a run's first failed guest for commands of other processes."""

import os
import secrets
import shutil
from collections.abc import Callable

from bootmatrix.cell.held import HeldGuest
from bootmatrix.errors import HostError
from bootmatrix.report.units import duration
from bootmatrix.store.locks import lock_unused_folder
from bootmatrix.workspace.guest import Guest
from bootmatrix.workspace.guest_session import GuestSession
from bootmatrix.workspace.kept_client import HELD, guests_folder
from bootmatrix.workspace.kept_server import KeptServer, KeptSettings

DEFAULT_KEEP_S = 600.0


class GuestHolder:
    """Holds a guest until unused for `keep_s` s, or `guests stop`.

    `tell` gets a line for the user, with the commands that enter the guest.
    """

    def __init__(self, keep_s: float, tell: Callable[[str], None]) -> None:
        self._keep_s, self._tell = keep_s, tell
        self._is_used = False

    async def hold(self, held: HeldGuest) -> None:
        """Hold a guest, the first only. Raises HostError without its folder."""
        if self._is_used:
            return
        self._is_used = True
        name = secrets.token_hex(6)
        folder = guests_folder() / name
        lock = lock_unused_folder(folder)
        if lock is None:
            raise HostError(f"{folder}: another process uses it")
        try:
            await self._serve(held, KeptServer(_settings(held, name, self._keep_s), folder, _guest_of(held)), name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    async def _serve(self, held: HeldGuest, server: KeptServer, name: str) -> None:
        where = f" in {held.container}" if held.container else ""
        text = (
            f"{held.cell.id} has failed{where}, and is held until it was unused for {duration(self._keep_s)}. "
            f"Enter it with 'bootmatrix shell --guest {name}'; 'bootmatrix guests stop {name}' lets it end."
        )
        await server.run(lambda: self._tell(text))
        self._tell(f"{held.cell.id} is held no longer")


def _settings(held: HeldGuest, name: str, keep_s: float) -> KeptSettings:
    arch = held.cell.id.removeprefix(f"{held.cell.spec_name}/").removesuffix(f"/{held.cell.kernel}")
    return KeptSettings(name, held.cell.spec_name, arch, held.cell.kernel, keep_s, {}, {HELD: held.container})


def _guest_of(held: HeldGuest) -> Guest:
    session = GuestSession(held.machine, held.bootable, held.cell, held.folder, held.client)
    guest = Guest(session, "")
    return guest.at(held.container) if held.container else guest
