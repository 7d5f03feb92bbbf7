"""The context of cells in this process, opened from a frozen configuration."""

from collections.abc import Iterator
from contextlib import contextmanager

from bootmatrix.assembly.build_context import open_builder
from bootmatrix.boot.acceleration import Accelerators
from bootmatrix.cell.elsewhere import Boards
from bootmatrix.cell.held import HoldGuest
from bootmatrix.cell.run import RunContext
from bootmatrix.model.run_config import RunConfig
from bootmatrix.progress import Observer
from bootmatrix.qemu.host import available_memory_mib
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.snapshot.pool import ResourceLease, SnapshotPool, no_limit

SNAPSHOT_SHARE = 0.1
"""Part of the available memory for snapshots that no guest uses just now."""


@contextmanager
def open_context(
    config: RunConfig, observer: Observer, turn: ResourceLease = no_limit, hold: HoldGuest | None = None
) -> Iterator[RunContext]:
    """Open the context; `turn` leases cores and memory, `hold` uses failures."""
    with open_builder(config.sources, observer, fork=config.fork) as builder:
        forks = None
        if config.fork:
            memory_mib = int(available_memory_mib() * SNAPSHOT_SHARE)
            forks = SnapshotPool(SnapshotCache(builder.store), memory_mib, observer.note)
        try:
            accelerate = Accelerators(builder.store).choose
            yield RunContext(
                config.specs,
                config.profiles,
                builder,
                observer,
                turn,
                forks,
                accelerate,
                config.dump,
                explain_hang=config.explain_hang,
                hold=hold,
                boards=Boards(config.boards),
            )
        finally:
            if forks:
                forks.close()
