"""Kernels of the real archive, for every architecture that `make setup` sets up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bootmatrix.errors import StaleMirror
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import KernelSource
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import Archive, open_archive
from bootmatrix.store import Store, default_cache

PROFILES = {name: profile for name, profile in load_profiles(arch_folders()).items() if profile.setup}
NAMES = [(arch, name) for arch, profile in PROFILES.items() for name in profile.kernels]


@pytest.fixture(scope="module")
def archive() -> Archive:
    """The archive that the host uses, with the user's own cache: its indexes are large."""
    return open_archive(Store(default_cache()), offline=False, lock=None, address=None, progress=NullObserver())


@pytest.mark.parametrize(("arch", "name"), NAMES)
def test_every_kernel_of_a_profile_resolves(archive: Archive, arch: str, name: str) -> None:
    profile = PROFILES[arch]
    source = profile.kernels[name]
    kernel = archive.kernel(name, source, profile.names.debian)
    assert kernel.release.endswith(f"-{source.flavour}")
    prefix = name.partition("-")[0] if source.version is None else source.version
    assert kernel.version.startswith(prefix)
    assert {package.architecture for package in kernel.packages} <= {profile.names.debian, "all"}
    parts = [re.match(r"linux-([a-z]+)-", package.name) for package in kernel.packages]
    expected = ["image"] if kernel.version.startswith(("5.", "6.")) else ["image", "binary", "modules", "base"]
    assert [part[1] for part in parts if part] == expected


@pytest.mark.parametrize("arch", PROFILES)
def test_the_demos_packages_exist_everywhere(archive: Archive, arch: str) -> None:
    names = ["influxdb", "prometheus", "runc", "crun", "containerd", "busybox-static", "dhcpcd-base", "ca-certificates"]
    packages = archive.closure(names, [], ["bookworm"], PROFILES[arch].names.debian)
    order = [package.name for package in packages]
    assert order.index("libc6") < order.index("influxdb")
    assert len(order) == len(set(order))


def test_a_kernel_for_each_point_release_that_backports_keep(archive: Archive) -> None:
    source = KernelSource(flavour="cloud-amd64", suites=("bookworm-backports",))
    try:
        newest = archive.kernel("6.12", source, "amd64")
        exact = archive.kernel(newest.version.partition("-")[0], source, "amd64")
    except StaleMirror as error:
        pytest.fail(f"the mirror is being updated: {error}")
    assert exact.packages == newest.packages


def test_a_real_package_is_fetched_and_verified(archive: Archive, tmp_path: Path) -> None:
    small = open_archive(Store(tmp_path), offline=False, lock=archive.resolved(), address=None, progress=NullObserver())
    packages = archive.closure(["ca-certificates"], ["openssl", "debconf", "debconf-2.0"], ["bookworm"], "amd64")
    assert small.fetch(packages[-1]).stat().st_size == packages[-1].size_bytes
