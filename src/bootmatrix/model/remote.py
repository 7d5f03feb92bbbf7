"""Messages between a run and workers: JSON, never pickled values."""

from typing import Literal

from bootmatrix.model.artefact import Bootable
from bootmatrix.model.base import Model, Sha256
from bootmatrix.model.cell import Cell
from bootmatrix.model.kernel import Kernel
from bootmatrix.model.profile import Machine
from bootmatrix.model.record import PhaseTime

PROTOCOL = 1
"""Version of the messages. Both ends must have the same one."""


class Offer(Model):
    """A worker's resources and programs.

    `system` is `uname -s`/`uname -m`, as in a profile's accelerators. `qemu` has versions by program; `accelerators`
    are names of QEMU's -accel whose device opens. `instance` tells workers of one host apart.
    """

    protocol: int = PROTOCOL
    tool_version: str
    dask_version: str
    python: str
    host: str
    instance: str
    system: str
    cores: int
    memory_mib: int
    slots: int
    qemu: dict[str, str]
    accelerators: tuple[str, ...] = ("tcg",)
    labels: tuple[str, ...] = ()


class CellTask(Model):
    """A worker's cell with all that it boots; paths are the client's."""

    protocol: int = PROTOCOL
    tool_version: str
    name: str
    cell: Cell
    machine: Machine
    kernel: Kernel | None = None
    bootable: Bootable
    phases: tuple[PhaseTime, ...] = ()
    spec_sha256: str = ""
    fork: bool = False
    dump: bool = False


class TaskResult(Model):
    """The result of a task: a bundle of files, or the reason for its absence.

    `refusal` says that another worker may do it. `started_at` is seconds since 1970 by the worker's clock.
    """

    host: str
    instance: str
    bundle: str = ""
    sha256: Sha256 | None = None
    size_bytes: int = 0
    refusal: str = ""


class WorkerSettings(Model):
    """The first message to a worker process, on its standard input.

    `certificate` and `key` are PEM text: both ends prove themselves with them. `exchange` is a folder or an fsspec
    URL; empty for files through the process that started the worker. `store_mib` bounds the files kept in `cache`,
    0 for no bound. `from_archive`: kernels come from the archive. `programs` are the QEMUs that the run needs, empty
    for all.
    """

    protocol: int = PROTOCOL
    scheduler: str
    certificate: str
    key: str
    host: str
    instance: str
    cache: str
    exchange: str = ""
    cores: int = 0
    labels: tuple[str, ...] = ()
    store_mib: int = 0
    from_archive: bool = False
    programs: tuple[str, ...] = ()


class SharedWorkerSettings(Model):
    """Settings of a worker of Slurm or a person; `host` may be empty."""

    exchange: str
    cache: str
    host: str = ""
    cores: int = 0
    slots: int = 0
    labels: tuple[str, ...] = ()
    store_mib: int = 0


class FromWorker(Model):
    """A line from a worker process.

    `hello` has its port, its folder and its clock (seconds since 1970); `need` asks for a file by digest;
    `failed` has the reason for its end.
    """

    kind: Literal["hello", "beat", "need", "failed"]
    port: int = 0
    folder: str = ""
    clock_s: float = 0
    sha256: Sha256 | None = None
    text: str = ""


class ToWorker(Model):
    """A line to a worker process.

    `contact` has the address at which the scheduler reaches it; `sent` and `refused` answer `need`.
    """

    kind: Literal["contact", "beat", "sent", "refused"]
    address: str = ""
    sha256: Sha256 | None = None
    text: str = ""
