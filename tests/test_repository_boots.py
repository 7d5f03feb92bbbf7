"""Kernels of repositories of every format boot: the archive's own, packed as other distributions do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bootmatrix import Workspace
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.profile import load_profiles
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import open_archive
from bootmatrix.source.deb import open_data
from bootmatrix.store import Store, default_cache
from repositories import FORMATS, Repository
from small_archive import Signer
from small_server import serve

pytest_plugins = ("archive_fixtures",)

WANTED = re.compile(
    r"(drivers/(virtio|char|block|net)|fs/(overlayfs|squashfs|9p|netfs|fscache)|net/(core|packet|9p)|lib|crypto)/"
)
"""Modules that guests use, and what these need."""


def real_kernel() -> tuple[str, dict[str, bytes], dict[str, bytes]]:
    """The release of a kernel of the archive, its image with what belongs to it, and some of its modules."""
    archive = open_archive(Store(default_cache()), offline=False, lock=None, address=None, progress=NullObserver())
    profile = load_profiles(arch_folders())["x86_64"]
    kernel = archive.kernel("6.1", profile.kernels["6.1"], profile.names.debian)  # one package has everything
    image, modules = {}, {}
    with open_data(archive.fetch(kernel.packages[0])) as files:
        for member in files:
            name = member.name.removeprefix("./")
            content = files.extractfile(member) if member.isreg() else None
            if content and name.startswith("boot/") and "System.map" not in name:
                image[name] = content.read()
            elif content and (WANTED.search(name) or name.endswith("modules.builtin")):
                modules[name] = content.read()
    return kernel.release, image, modules


def without_zstd(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same with a configuration as if it were of an older Linux."""
    return {
        name: data.replace(b"CONFIG_RD_ZSTD=y\n", b"") if "config-" in name else data for name, data in files.items()
    }


@pytest.mark.boots
@pytest.mark.parametrize("names", [("apk",), pytest.param(tuple(FORMATS), marks=pytest.mark.long)], ids=len)
def test_a_kernel_of_each_format(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    release, image, modules = real_kernel()
    (tmp_path / "kernels").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    with serve(tmp_path / "served") as server:
        for name in names:
            repository: Repository = FORMATS[name](tmp_path / "served" / name, signer)
            version = "6.1.0-1"
            repository.add("kernel-core", version, without_zstd(image) if name == "apk" else image)
            repository.add("kernel-modules", version, modules)
            repository.publish()
            catalogue = {
                "description": "of the tests",
                "format": name,
                "keys": {"files": [str(repository.keys)]},
                "architectures": {"x86_64": repository.arch},
                "image": "kernel-core",
                "parts": ["kernel-modules"],
                "kernels": {f"mine-{name}": {"repositories": [repository.address(f"{server.address}/{name}")]}},
            }
            (tmp_path / f"kernels/{name}.yml").write_text(yaml.safe_dump(catalogue))
        workspace = Workspace(reports=tmp_path / "reports")
        planned = workspace.plan("hello", arch=["x86_64"], kernel=[f"mine-{name}" for name in names])
        run = workspace.run_sync(planned)
    assert {record.cell.kernel: (record.verdict, record.judgement.reason) for record in run.records} == {
        f"mine-{name}": ("pass", run.records[0].judgement.reason) for name in names
    }
    assert {record.kernel.release for record in run.records if record.kernel} == {release}
    resolved = [record.kernel for record in run.records if record.kernel]
    assert all(part.sha256 and part.url.startswith(server.address) for kernel in resolved for part in kernel.parts)
