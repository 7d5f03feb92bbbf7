"""Clusters: `hosts.yml`, `slurm.yml`, or the file of a scheduler."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.load.validate import read_model
from bootmatrix.model.cluster import Cluster

RELATIVE = ("key", "known_hosts")
"""Fields that are paths, relative to the file."""


def load_cluster(path: Path) -> Cluster:
    """Load a cluster's file; paths in it become absolute.

    Raises:
        InputError: the file is invalid, a name stands twice, or a file that it names does not exist.
    """
    cluster, document = read_model(path, Cluster)
    seen: set[str] = set()
    hosts = []
    for index, host in enumerate(cluster.hosts):
        if host.name in seen:
            document.complain(("hosts", index, "name"), f"a host called {host.name!r} stands above already")
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
    document.raise_faults()
    return cluster.model_copy(update={"hosts": tuple(hosts)})
