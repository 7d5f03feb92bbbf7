"""Machines of clouds: `clouds/NAME.yml` in the folders of profiles."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.validate import read_model
from bootmatrix.model import Profile
from bootmatrix.model.cloud import Cloud, CloudMachine


def load_cloud_machine(cloud: str, profile: Profile) -> CloudMachine:
    """Return what a cloud needs for an architecture.

    Raises:
        InputError: the cloud has no such machine, or its file is invalid.
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
    """Load a cloud's file.

    Raises:
        InputError: it is invalid.
    """
    return read_model(path, Cloud)[0]
