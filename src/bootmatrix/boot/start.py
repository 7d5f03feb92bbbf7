"""Start a cell's guest: as a copy if requested and possible, else cold."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.boot.collect import CollectLimits
from bootmatrix.boot.guest import boot, ignore
from bootmatrix.boot.observation import Hold
from bootmatrix.fsio import read_whole
from bootmatrix.guest.client import AgentClient
from bootmatrix.model import Bootable, BootKind, Machine, Outcome, Phase, Timeouts
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.snapshot.clone import COPY_BEGINS
from bootmatrix.snapshot.pool import ResourceLease, SnapshotPool, no_limit
from bootmatrix.snapshot.snapshot import Snapshot
from bootmatrix.snapshot.template import NoTemplate

COPY_BOOT_S = 10.0
"""Limit for a copy's first message, on the fastest machine. It takes a fraction of a second."""
COPIES_TRIED = 2
"""On some machines QEMU loses the timer of a copy now and then; such a copy never sends a message."""


@dataclass(frozen=True)
class Start:
    """Inputs of a boot beside the bootable.

    The console is written to `folder`; `dump` keeps a stuck guest's memory. `attach` gets the client of each guest's
    agent, if it has one; `limits` are of result files that an agent sends; `hold` uses a guest that has failed.
    """

    machine: Machine
    timeouts: Timeouts
    folder: Path
    turn: ResourceLease = no_limit
    on_phase: Callable[[Phase], None] = ignore
    dump: bool = False
    attach: Callable[[AgentClient], None] | None = None
    limits: CollectLimits | None = None
    hold: Hold | None = None


@dataclass(frozen=True)
class Booted:
    """A boot's outcome and kind; `cold_reason` says why it was not forked."""

    outcome: Outcome
    boot: BootKind = "cold"
    cold_reason: str = ""


async def start_guest(start: Start, bootable: Bootable, forks: SnapshotPool | None) -> Booted:
    """Boot a guest, forked if there are forks, and follow it to its end.

    Raises HostError, OSError as `boot` does.
    """
    reason = bootable.cold_reason
    if forks and bootable.forkable:
        try:
            return await _fork(start, bootable, forks)
        except NoTemplate as error:
            reason = str(error)
    return await start_cold(start, bootable, reason)


async def start_cold(start: Start, bootable: Bootable, reason: str = "") -> Booted:
    """Boot a guest from power-on."""
    async with start.turn(start.machine):
        outcome = await boot(
            start.machine,
            bootable,
            start.timeouts,
            start.folder,
            on_phase=start.on_phase,
            dump=start.dump,
            attach=start.attach,
            limits=start.limits,
            hold=start.hold,
        )
    return Booted(outcome, cold_reason=reason)


async def _fork(start: Start, bootable: Bootable, forks: SnapshotPool) -> Booted:
    """Boot a copy, and another one if the first does not come up.

    Raises NoTemplate if the snapshot is missing, or no copy came up. The spec is not to blame.
    """
    machine = start.machine
    async with forks.origin(machine, bootable, start.turn) as snapshot:
        for _ in range(COPIES_TRIED):
            outcome = await _boot_copy(start, bootable, forks, snapshot)
            if outcome.boot_s is not None:
                return Booted(outcome, "fork")
    fault = f"no copy of the guest that was booted for it came up ({_why_not_up(outcome, start.folder)})"
    forks.discard(machine, bootable, fault)
    raise NoTemplate(fault)


async def _boot_copy(start: Start, bootable: Bootable, forks: SnapshotPool, snapshot: Snapshot) -> Outcome:
    machine = start.machine
    timeouts = start.timeouts.model_copy(update={"boot": min(start.timeouts.boot, COPY_BOOT_S)})
    async with start.turn(machine, forks.copy_mib(machine, bootable)):
        outcome = await boot(
            machine,
            bootable,
            timeouts,
            start.folder,
            on_phase=start.on_phase,
            snapshot=snapshot,
            dump=start.dump,
            attach=start.attach,
            limits=start.limits,
            hold=start.hold,
        )
    forks.learn(machine, bootable, outcome.private_mib)
    return outcome


def _why_not_up(outcome: Outcome, folder: Path) -> str:
    """Return why a copy did not come up: host error, limit, or init's message."""
    if outcome.host_error or outcome.limit:
        return outcome.host_error or outcome.limit
    lines = read_whole(folder / CONSOLE_FILE).partition(COPY_BEGINS)[2].decode("utf-8", "replace").splitlines()
    return next((line[:200] for line in lines if line.startswith("bootmatrix: ")), "it left by itself")
