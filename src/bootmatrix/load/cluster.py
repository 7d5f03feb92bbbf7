"""Machines elsewhere: `hosts.yml`, `slurm.yml`, `clouds/NAME.yml`."""

import re
from pathlib import Path
from typing import TypeVar

from bootmatrix import plugins
from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import arch_folders, within_project
from bootmatrix.load.document import Document, Location
from bootmatrix.load.validate import read_model
from bootmatrix.model import Profile
from bootmatrix.model.cluster import (
    TLS_ADDRESS,
    WORKER,
    Cloud,
    CloudMachine,
    Cluster,
    Host,
    SchedulerAddress,
    SshTarget,
)

M = TypeVar("M", SshTarget, Host, SchedulerAddress)

ADDRESS = re.compile(r".*://.*|[^/]*:[0-9]+")
"""A scheduler's address, in place of a file."""
HOST_FILES = ("key", "known_hosts")
SCHEDULER_FILES = ("ca", "certificate", "key")
"""Fields that are paths, relative to the file."""
DASK_KEYS = {
    "ca": "distributed.comm.tls.ca-file",
    "certificate": "distributed.comm.tls.client.cert",
    "key": "distributed.comm.tls.client.key",
    "exchange": "bootmatrix.exchange",
}
"""Keys of Dask's configuration for a scheduler that is given by its address alone."""


def load_cluster(name: str) -> Cluster:
    """Load a cluster's file, or take a scheduler's address; paths become absolute.

    Raises InputError if the file is invalid, a name occurs twice, or a file that it names does not exist.
    """
    if ADDRESS.fullmatch(name):
        return Cluster(scheduler=_scheduler_at(name))
    path = Path(name)
    cluster, document = read_model(path, Cluster)
    seen: set[str] = set()
    hosts = []
    for index, host in enumerate(cluster.hosts):
        place = ("hosts", index)
        if host.name in seen:
            document.complain((*place, "name"), f"another host above has the name {host.name!r}")
        seen.add(host.name)
        _check_board(host, place, document)
        jump = (_with_files(target, (*place, "jump", number), document) for number, target in enumerate(host.jump))
        hosts.append(_with_files(host, place, document).model_copy(update={"jump": tuple(jump)}))
    scheduler = cluster.scheduler and _with_files(cluster.scheduler, ("scheduler",), document)
    document.raise_faults()
    return cluster.model_copy(update={"hosts": tuple(hosts), "scheduler": scheduler})


def _check_board(host: Host, place: Location, document: Document) -> None:
    ways = (WORKER, *plugins.names("board_access"))
    if host.via not in ways:
        document.complain((*place, "via"), f"'via' must be one of {', '.join(ways)}, not {host.via!r}")
    elif host.is_board and not host.arch:
        document.complain(place, "a board needs 'arch'")
    elif host.arch and not host.is_board:
        document.complain((*place, "arch"), "'arch' is for boards, such as 'via: ssh'")


def _with_files(value: M, place: Location, document: Document) -> M:
    """Make the paths of a value absolute, relative to its file."""
    changes = {}
    for field in SCHEDULER_FILES if isinstance(value, SchedulerAddress) else HOST_FILES:
        if name := getattr(value, field):
            file = (Path(document.path).parent / Path(name).expanduser()).absolute()
            changes[field] = str(file)
            if not file.is_file():
                document.complain((*place, field), f"file not found: {file}")
    return value.model_copy(update=changes)


def _scheduler_at(address: str) -> SchedulerAddress:
    """Return a scheduler with the files that Dask's configuration names.

    Raises InputError if it is not TLS, or the configuration lacks something.
    """
    if not re.fullmatch(TLS_ADDRESS, address):
        raise InputError(f"--cluster {address}: a scheduler must use TLS", "Write tls://HOST:PORT.")
    plugins.load("executors", "dask")  # says what to install if its packages are missing
    import dask.config

    values = {field: str(dask.config.get(key, None) or "") for field, key in DASK_KEYS.items()}
    missing = [key for field, key in DASK_KEYS.items() if not values[field]]
    if missing:
        variables = " ".join(f"DASK_{key.replace('.', '__').replace('-', '_').upper()}=…" for key in missing)
        raise InputError(
            f"--cluster {address}: Dask's configuration has no {', '.join(missing)}",
            f"Set them in ~/.config/dask/*.yaml, or by {variables}; or give a file with 'scheduler:'.",
        )
    for field in SCHEDULER_FILES:
        values[field] = str(Path(values[field]).expanduser().absolute())
        if not Path(values[field]).is_file():
            raise InputError(f"--cluster {address}: {DASK_KEYS[field]}: file not found: {values[field]}")
    return SchedulerAddress(address=address, **values)


def load_cloud_machine(cloud: str, profile: Profile) -> CloudMachine:
    """Return what a cloud needs for an architecture.

    Raises InputError if the cloud has no such machine, or its file is invalid.
    """
    files = [path for folder in arch_folders() if (path := folder / "clouds" / f"{cloud}.yml").is_file()]
    if not files:
        raise InputError(f"no file clouds/{cloud}.yml in any folder of profiles")
    machines = load_cloud(within_project(files[-1])).instances
    name = profile.names.oci.split("/")[1]
    if name not in machines:
        raise InputError(f"{files[-1]}: {cloud} has no machine for {profile.name}", f"It has: {', '.join(machines)}.")
    return machines[name]


def load_cloud(path: Path) -> Cloud:
    """Load a cloud's file. Raises InputError if it is invalid."""
    return read_model(path, Cloud)[0]


def load_boards(cluster: str) -> dict[str, Host]:
    """Load the boards of a cluster's file, by name; none without a file.

    Raises InputError as `load_cluster`.
    """
    return {board.name: board for board in load_cluster(cluster).boards} if cluster else {}
