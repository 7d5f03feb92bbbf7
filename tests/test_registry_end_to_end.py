"""Guests of images that come from a real registry: one index for two architectures, pinned, booted, and told."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.assembly.image.builder import Builder, make_image
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import StoredImage
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import open_archive
from bootmatrix.source.deb import open_data
from bootmatrix.source.kernel_formats.member import of_tar
from bootmatrix.store import Store, default_cache
from image_maker import Made, files, gzipped, make_index, zstd
from image_maker import make_image as made_of
from packages import entry, make_tar
from registry_fixtures import Running

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.boots

ARCHS = ("x86_64", "aarch64")
PROFILES = load_profiles([CHECKOUT / "arch"])

SPEC = """
init: [linuxkit/init:1, "@pkg:./images/crun"]
onboot:
  - {{name: work, image: "{host}/hello:1"}}
services:
  - name: check
    image: "{host}/hello:1"
    command: [/bin/sh, -c, "test ! -e /gone && test $(cat /etc/said) = upper"]
    annotations: {{bootmatrix.check: 60s}}
"""


@pytest.fixture(scope="module")
def busybox() -> dict[str, StoredImage]:
    """Real programs for each architecture, of the archive's packages."""
    store = Store(default_cache())
    archive = open_archive(store, offline=False, lock=None, address=None, progress=NullObserver())
    builder = Builder(store, archive)
    spec = CHECKOUT / "specs/hello.yml"
    return {arch: make_image("@pkg:./images/busybox", spec, PROFILES[arch], builder) for arch in ARCHS}


def image_of(arch: str, busybox: dict[str, StoredImage]) -> Made:
    """Several layers, upon that with the programs; packed one way for one architecture, and another for the other."""
    below = Store(default_cache()).verified(busybox[arch].layers[0]).read_bytes()
    layers = (
        below,
        files(gone="1", etc__said="lower", etc__arch=arch),
        make_tar([entry(".wh.gone"), entry("etc/said", b"upper\n")]),
    )
    script = f"test $(cat /etc/arch) = {arch} && echo hello from a registry"
    config = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": [script]}
    pack = zstd if arch == ARCHS[0] else gzipped
    return made_of(*layers, platform=PROFILES[arch].names.oci, config=config, pack=pack)


def kernel_image(arch: str) -> Made:
    """A kernel of the archive in LinuxKit's form, with those of its modules that a small guest may need."""
    store = Store(default_cache())
    archive = open_archive(store, offline=False, lock=None, address=None, progress=NullObserver())
    profile = PROFILES[arch]
    source = profile.kernels["6.1"]
    kernel = archive.kernel("6.1", source, profile.kernel_architecture(source))
    image, modules = b"", {}
    with open_data(archive.fetch(kernel.packages[0])) as data:
        for member in of_tar(data):
            if member.path.startswith("boot/vmlinuz"):
                image = member.read()
            elif "virtio" in member.path or "overlay" in member.path or member.path.endswith("modules.builtin"):
                modules[member.path] = member.read()
    parts = {"kernel": image, "kernel.tar": make_tar(entry(name, data) for name, data in modules.items())}
    return made_of(make_tar(entry(name, data) for name, data in parts.items()), platform=profile.names.oci)


def test_the_kernel_that_a_spec_names_boots(plain: Running, busybox: dict[str, StoredImage], tmp_path: Path) -> None:
    arch = ARCHS[1]
    plain.pusher.push("work", image_of(arch, busybox))
    plain.pusher.push("linuxkit/kernel", kernel_image(arch), "6.1")
    (tmp_path / "images").symlink_to(CHECKOUT / "specs/images")
    kernel = f"kernel: {{image: '{plain.host}/linuxkit/kernel:6.1', cmdline: quiet}}\n"
    (tmp_path / "kernel.yml").write_text(kernel)
    (tmp_path / "rest.yml").write_text(SPEC.format(host=plain.host).replace("/hello:1", "/work:1"))
    bootmatrix(tmp_path, "matrix", "kernel.yml+rest.yml", "--arch", arch, "--kernel", "spec")
    (record,) = records(tmp_path).values()
    assert (record["cell"]["spec_name"], record["cell"]["kernel"]) == ("kernel+rest", "spec")
    assert record["judgement"]["verdict"] == "pass"
    assert record["kernel"]["parts"][0]["image"] == f"{plain.host}/linuxkit/kernel:6.1"
    assert record["kernel"]["release"].startswith("6.1.")
    bootmatrix(tmp_path, "build", "kernel.yml+rest.yml", "--arch", arch, "--kernel", "spec", "-o", "out")
    (kernel,) = (one["sha256"] for one in record["artefacts"] if one["kind"] == "kernel")
    assert hashlib.sha256((tmp_path / "out-kernel").read_bytes()).hexdigest() == kernel


FOREIGN_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
/bin/busybox cat /containers/onboot/000-work/config.json >/dev/null && echo "Moby test suite PASSED"
/bin/busybox sleep 1
exec /bin/busybox poweroff -f
"""


def test_another_init_takes_the_place_of_the_one_here_and_is_judged_by_its_console(
    plain: Running, busybox: dict[str, StoredImage], tmp_path: Path
) -> None:
    """As LinuxKit's own would be: what a spec calls linuxkit/init comes from elsewhere, and reports nothing."""
    arch = ARCHS[1]
    programs = Store(default_cache()).verified(busybox[arch].layers[0]).read_bytes()
    init = make_tar([entry("init", FOREIGN_INIT.encode(), mode=0o755)])
    plain.pusher.push("linuxkit/init", made_of(programs, init, platform=PROFILES[arch].names.oci))
    (tmp_path / "foreign.yml").write_text(
        "init: [linuxkit/init:1]\nonboot:\n- {name: work, image: linuxkit/init:1, command: [/bin/true]}\n"
    )
    given = ("--image", f"linuxkit/*=docker://{plain.host}/linuxkit/init:1")
    single = ("foreign.yml", "--arch", arch, "--kernel", "6.1", *given)
    said = bootmatrix(tmp_path, "run", *single, "--expect", "Moby test suite PASSED")
    assert "pass: the console shows 'Moby test suite PASSED' (judged by its console alone" in said
    assert "its init is not bootmatrix's and reports nothing" in bootmatrix(tmp_path, "run", *single, status=3)


def bootmatrix(folder: Path, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "bootmatrix.cli.main", *arguments]
    environment = {**os.environ, "CI": "true", "DOCKER_CONFIG": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def records(folder: Path) -> dict[str, Any]:
    found = (json.loads(file.read_text()) for file in (folder / "reports/latest/cells").rglob("record.json"))
    return {record["cell"]["arch"]: record for record in found}


def test_an_index_boots_on_two_architectures_and_stays_what_it_was(
    plain: Running, busybox: dict[str, StoredImage], tmp_path: Path
) -> None:
    made = {arch: image_of(arch, busybox) for arch in ARCHS}
    index = make_index({PROFILES[arch].names.oci: one for arch, one in made.items()})
    digest = plain.pusher.push("hello", index)
    (tmp_path / "images").symlink_to(CHECKOUT / "specs/images")
    (tmp_path / "pulled.yml").write_text(SPEC.format(host=plain.host))
    arguments = ("pulled.yml", "--arch", ",".join(ARCHS), "--kernel", "6.1")
    bootmatrix(tmp_path, "matrix", *arguments, "--jobs", "2")
    for arch, record in records(tmp_path).items():
        assert record["judgement"]["verdict"] == "pass"
        pinned = {one["name"]: one["sha256"] for one in record["artefacts"] if one["kind"] == "image"}
        assert pinned[f"{plain.host}/hello:1"] == made[arch].digest.removeprefix("sha256:")
    lock = json.loads((tmp_path / "reports/latest/lock.json").read_text())
    assert lock["images"] == {f"{plain.host}/hello:1": digest}
    # With the lock, an index of today is no matter: what is locked is built without asking anybody.
    bootmatrix(tmp_path, "lock", *arguments)
    plain.pusher.push("hello", made_of(files(a="nothing that could run"), platform="linux/s390x"))
    before = plain.requests("/v2/hello/")
    bootmatrix(tmp_path, "fetch", *arguments, "--locked")
    assert plain.requests("/v2/hello/") == before
    said = bootmatrix(tmp_path, "fetch", *arguments, status=3)
    assert "is for linux/s390x, expected linux/amd64" in said
