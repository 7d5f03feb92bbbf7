"""Frozen input and output of cells, for any process that runs one.

Plain dataclasses, as they hold paths and are pickled, never written as JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bootmatrix.model.cell import Cell
from bootmatrix.model.cluster import Host
from bootmatrix.model.image import ImageOverride
from bootmatrix.model.lock import Lock
from bootmatrix.model.profile import Machine, Profile
from bootmatrix.model.record import Record
from bootmatrix.model.spec import Spec


@dataclass(frozen=True)
class SourceConfig:
    """The cache, the archive, the lock and the image overrides of a run. Picklable.

    `archive` is an address, or None for the host's own. `lock` confines the run to its entries, or, unless
    `lock_is_whole`, only has them preferred. `refresh` asks for newer indexes than those in the cache;
    `allow_older_release` takes releases older than one seen before.
    """

    cache: Path
    archive: str | None = None
    offline: bool = False
    refresh: bool = False
    allow_older_release: bool = False
    lock: Lock | None = None
    lock_is_whole: bool = True
    images: tuple[ImageOverride, ...] = ()


@dataclass(frozen=True)
class RunConfig:
    """All that a process needs for a run's cells: frozen and picklable.

    `specs` are by path, `profiles` by name. `fork` prepares guests that are copied; `dump` keeps the memory of guests
    that hang, panic or time out. `explain_hang` boots kernels that hang a second time. `boards` run the hardware tier.
    """

    sources: SourceConfig
    profiles: Mapping[str, Profile]
    specs: Mapping[str, Spec]
    fork: bool = False
    dump: bool = False
    explain_hang: bool = False
    boards: Mapping[str, Host] = field(default_factory=dict)

    def machine(self, cell: Cell) -> Machine:
        """Return the cell's machine."""
        return self.profiles[cell.arch].machine(cell.machine).sized(cell.size)


@dataclass(frozen=True)
class Needs:
    """A cell's needs: cores, memory in MiB, accelerator, QEMU's version.

    `host` confines the cell to a host of a cluster.
    """

    cores: int
    memory_mib: int
    accelerator: str = "tcg"
    qemu: str = ""
    min_qemu: str = "0"
    host: str = ""


@dataclass(frozen=True)
class CellRequest:
    """A cell to be run, with what it takes of a host."""

    cell: Cell
    needs: Needs


@dataclass(frozen=True)
class CellBundle:
    """A cell's result: record, folder, and kernels and packages used.

    The folder holds console, diagnosis and result files, named by the record relative to it.
    """

    record: Record
    folder: Path
    used: Lock


def request_of(cell: Cell, machine: Machine) -> CellRequest:
    """Make the request for a cell of this machine."""
    return CellRequest(cell, Needs(machine.threads, machine.memory_mib, qemu=machine.qemu, min_qemu=machine.min_qemu))
