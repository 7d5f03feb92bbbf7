"""The frozen input and output of cells: what any process needs to make one, and what it hands back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.assembly.sources import SourceConfig, open_builder
from bootmatrix.boot.acceleration import Accelerators
from bootmatrix.cell.run import RunContext
from bootmatrix.model import Cell, Lock, Machine, Profile, Record, Spec
from bootmatrix.progress import Observer
from bootmatrix.qemu.host import available_memory_mib
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.snapshot.pool import ResourceLease, SnapshotPool

SNAPSHOT_SHARE = 0.1
"""Part of the available memory for snapshots that no guest uses just now."""


@dataclass(frozen=True)
class RunConfig:
    """All that a process needs to run cells of a run: frozen and picklable, without any open file.

    `specs` are by path, `profiles` by name. `fork` prepares guests that are copied; `dump` keeps the memory of guests
    that hang, panic or time out.
    """

    sources: SourceConfig
    profiles: Mapping[str, Profile]
    specs: Mapping[str, Spec]
    fork: bool = False
    dump: bool = False

    def machine(self, cell: Cell) -> Machine:
        """The cell's machine."""
        return self.profiles[cell.arch].machine(cell.machine)


@dataclass(frozen=True)
class Needs:
    """What a cell takes of a host: cores, memory in MiB of its guest, and the accelerator it was asked to use."""

    cores: int
    memory_mib: int
    accelerator: str = "tcg"


@dataclass(frozen=True)
class CellRequest:
    """A cell to be run, with what it takes of a host."""

    cell: Cell
    needs: Needs


@dataclass(frozen=True)
class CellBundle:
    """What comes back of a cell: its record, the folder with its files, and the kernels and packages used so far.

    The folder holds console, diagnosis and result files, named by the record relative to it.
    """

    record: Record
    folder: Path
    used: Lock


def request_of(cell: Cell, machine: Machine) -> CellRequest:
    """Make the request for a cell of this machine."""
    return CellRequest(cell, Needs(machine.threads, machine.memory_mib))


def no_limit(_machine: Machine, _memory_mib: int | None = None) -> nullcontext[None]:
    """Hold nothing of the host: for a context that boots one guest, or none."""
    return nullcontext()


@contextmanager
def open_context(config: RunConfig, observer: Observer, turn: ResourceLease = no_limit) -> Iterator[RunContext]:
    """Open what this process needs to run cells; `turn` holds the cores and the memory of each guest."""
    with open_builder(config.sources, observer, fork=config.fork) as builder:
        forks = None
        if config.fork:
            memory_mib = int(available_memory_mib() * SNAPSHOT_SHARE)
            forks = SnapshotPool(SnapshotCache(builder.store), memory_mib, observer.note)
        try:
            accelerate = Accelerators(builder.store).choose
            yield RunContext(config.specs, config.profiles, builder, observer, turn, forks, accelerate, config.dump)
        finally:
            if forks:
                forks.close()
