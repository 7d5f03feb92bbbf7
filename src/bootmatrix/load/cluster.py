"""Machines elsewhere: `hosts.yml`, `slurm.yml`, `clouds/NAME.yml`."""

from pathlib import Path

from bootmatrix import plugins
from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.validate import read_model
from bootmatrix.model import Profile
from bootmatrix.model.cluster import WORKER, Cloud, CloudMachine, Cluster, Host

RELATIVE = ("key", "known_hosts")
"""Fields that are paths, relative to the file."""


def load_cluster(path: Path) -> Cluster:
    """Load a cluster's file; paths in it become absolute.

    Raises InputError if the file is invalid, a name stands twice, or a file that it names does not exist.
    """
    cluster, document = read_model(path, Cluster)
    seen: set[str] = set()
    hosts = []
    for index, host in enumerate(cluster.hosts):
        if host.name in seen:
            document.complain(("hosts", index, "name"), f"another host above has the name {host.name!r}")
        seen.add(host.name)
        changes = {}
        for field in RELATIVE:
            value = getattr(host, field)
            if value:
                file = (path.parent / Path(value).expanduser()).absolute()
                changes[field] = str(file)
                if not file.is_file():
                    document.complain(("hosts", index, field), f"file not found: {file}")
        hosts.append(host.model_copy(update=changes))
        if host.is_board and host.via not in plugins.names("board_access"):
            known = ", ".join((WORKER, *plugins.names("board_access")))
            document.complain(("hosts", index, "via"), f"must be one of {known}")
    document.raise_faults()
    return cluster.model_copy(update={"hosts": tuple(hosts)})


def load_cloud_machine(cloud: str, profile: Profile) -> CloudMachine:
    """Return what a cloud needs for an architecture.

    Raises InputError if the cloud has no such machine, or its file is invalid.
    """
    files = [path for folder in arch_folders() if (path := folder / "clouds" / f"{cloud}.yml").is_file()]
    if not files:
        raise InputError(f"no file clouds/{cloud}.yml in any folder of profiles")
    machines = load_cloud(files[-1]).instances
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
    return {board.name: board for board in load_cluster(Path(cluster)).boards} if cluster else {}
