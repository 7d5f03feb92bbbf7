"""Machines elsewhere: clusters by SSH, Slurm or Dask, and clouds."""

from pathlib import PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from bootmatrix.model.base import Model, Name

ADDRESS = r"^[A-Za-z0-9:][A-Za-z0-9.:_-]{0,254}$"
TLS_ADDRESS = r"^tls://[A-Za-z0-9.:\[\]_-]+:[0-9]{1,5}$"
USER = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"
UserName = Annotated[str, StringConstraints(pattern=USER)]

CLIENT, ARCHIVE = "client", "archive"
"""Values of a host's `fetch` that are not a folder."""
WORKER = "worker"
"""The value of a host's `via` that boots cells in QEMU."""


def _inside_home(folder: str) -> str:
    """Return a folder of a host. Raises ValueError if it has '..'."""
    if ".." in PurePosixPath(folder).parts:
        raise ValueError("a folder of a host must not have '..'")
    return str(PurePosixPath(folder.removeprefix("~/")))


HostFolder = Annotated[str, StringConstraints(min_length=1), AfterValidator(_inside_home)]


def _shared(place: str) -> str:
    """Return a place that two hosts reach. Raises ValueError if not."""
    if not place.startswith("/") and "://" not in place:
        raise ValueError("not an absolute path, or a URL that fsspec knows")
    return place


def _source(place: str) -> str:
    try:
        return place if place in {CLIENT, ARCHIVE} else _shared(place)
    except ValueError as error:
        raise ValueError(f"not {CLIENT} or {ARCHIVE}, {error}") from error


SharedPlace = Annotated[str, AfterValidator(_shared)]


class SshTarget(Model):
    """The way to an SSH server. Empty fields have OpenSSH's defaults."""

    address: str = Field(pattern=ADDRESS)
    port: int = Field(default=22, ge=1, le=65535)
    user: UserName | None = None
    key: str = Field(default="", description="file of the private key; none: the agent, and the usual files")
    known_hosts: str = Field(default="", description="file of known host keys (default: ~/.ssh/known_hosts)")


class Host(SshTarget):
    """A host that runs cells.

    `slots` is the number of cores to use, 0 for all. `labels` are free words. `fetch` says where artefacts come from:
    the client by SFTP, a folder or URL that both reach, or, for kernels, the archive.
    """

    name: Name
    jump: tuple[SshTarget, ...] = Field(default=(), description="hosts on the way, the first one first")
    slots: int = Field(default=0, ge=0, le=1024, description="cores to use, 0 for all")
    labels: tuple[Name, ...] = ()
    python: str = Field(default="python3", min_length=1, description="Python 3.11 or later on the host")
    cache: HostFolder = Field(default=".cache/bootmatrix-worker", description="folder there, from the home")
    store_mib: int = Field(default=20480, ge=256, description="limit of the artefacts that are kept there")
    fetch: Annotated[str, AfterValidator(_source)] = Field(
        default=CLIENT, description="client, archive, or a folder or fsspec URL"
    )
    via: Name = Field(
        default=WORKER,
        description="worker: cells boot in QEMU there; ssh, or a plug-in's name: specs run there, on its own kernel",
    )
    arch: Name = Field(default="", description="architecture of a board, which is a host on whose own kernel specs run")

    @property
    def is_board(self) -> bool:
        """True if specs run on the host's own kernel."""
        return self.via != WORKER

    @property
    def exchange(self) -> str:
        """Return the folder or URL that files go through; empty for SFTP."""
        return "" if self.fetch in {CLIENT, ARCHIVE} else self.fetch


class Slurm(Model):
    """Jobs of Slurm, each of which is a worker.

    `exchange` and `cache` are folders that all nodes share. `script` are lines for the job's script before the worker.
    """

    exchange: str = Field(min_length=1, description="folder that the nodes and this host share")
    cache: str = Field(default="", description="folder of the nodes' artefacts (default: this host's cache)")
    partition: str | None = None
    account: str | None = None
    cores: int = Field(default=2, ge=1, le=1024, description="cores of a job")
    memory_mib: int = Field(default=4096, ge=512, description="memory of a job")
    walltime: str = Field(default="01:00:00", description="time limit of a job")
    jobs: int = Field(default=4, ge=1, le=10_000, description="most jobs at a time")
    interface: str | None = Field(default=None, description="network interface of the scheduler (default: loopback)")
    python: str = Field(default="", description="Python on the nodes, with bootmatrix (default: this one)")
    script: tuple[str, ...] = ()
    directives: tuple[str, ...] = Field(default=(), description="further #SBATCH options")


class SchedulerAddress(Model):
    """A running scheduler with bootmatrix workers; TLS is required."""

    address: str = Field(pattern=TLS_ADDRESS)
    ca: str
    certificate: str
    key: str
    exchange: SharedPlace = Field(description="folder or fsspec URL that the workers and this host share")


class Ec2(Model):
    """EC2 instances, each of which is a worker that is started for a run.

    `cells` is the number of waiting cells for which one is started. `setup` are shell lines that root runs before the
    worker starts. `silence_s`: without a worker for so long, an instance turns itself off. `hour` is its price,
    `month` that of a machine which is always on, to compare with.
    """

    name: Name = Field(default="ec2", description="the machines are NAME-1, NAME-2 …")
    region: str = Field(default="", description="region (default: that of AWS's own settings)")
    image: str = Field(pattern="^ami-[0-9a-f]+$", description="an image with cloud-init and Python 3.11 or later")
    instance_type: str = Field(min_length=1, description="such as c7a.xlarge")
    spot: bool = False
    subnet: str = ""
    security_group: str = Field(default="", description="one that lets this host in on port 22")
    user: UserName = Field(default="admin", description="the image's own user")
    machines: int = Field(default=4, ge=1, le=1000, description="most machines at a time")
    cells: int = Field(default=8, ge=1, le=10_000, description="waiting cells for which a machine is started")
    setup: tuple[str, ...] = ()
    silence_s: int = Field(default=600, ge=4, le=24 * 3600, description="a machine without a worker ends after so long")
    hour: float | None = Field(default=None, gt=0, description="price of an hour")
    month: float | None = Field(default=None, gt=0, description="price of a machine that is always on, by the month")
    python: str = Field(default="python3", min_length=1)
    cache: HostFolder = ".cache/bootmatrix-worker"


class Cluster(Model):
    """The machines of a run: exactly one of the four."""

    hosts: tuple[Host, ...] = ()
    slurm: Slurm | None = None
    scheduler: SchedulerAddress | None = None
    ec2: Ec2 | None = None

    @property
    def workers(self) -> tuple[Host, ...]:
        """The hosts that boot cells."""
        return tuple(host for host in self.hosts if not host.is_board)

    @property
    def boards(self) -> tuple[Host, ...]:
        """The hosts on whose own kernel specs run."""
        return tuple(host for host in self.hosts if host.is_board)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [name for name in ("hosts", "slurm", "scheduler", "ec2") if getattr(self, name)]
        if len(kinds) != 1:
            found = " and ".join(kinds) or "none"
            raise ValueError(f"needs exactly one of hosts, slurm, scheduler and ec2, not empty; found {found}")
        return self


class CloudMachine(Model):
    """An architecture in a cloud.

    `format` is that of `bootmatrix build`, `suffix` the end of its file's name; the others are the cloud's own words.
    """

    format: str
    suffix: str
    architecture: str
    boot_mode: str
    instance_type: str


class Cloud(Model):
    """A cloud's machines, by OCI's names of architectures."""

    instances: dict[str, CloudMachine]


class CloudRun(Model):
    """Choices for one run in a cloud. Empty: the cloud's or its file's default."""

    region: str = ""
    project: str = ""
    bucket: str = ""
    instance_type: str = ""
    spot: bool = False
