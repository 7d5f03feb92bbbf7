"""Roots of large images on disks: chosen by size, packed once, and the same for containers as roots in RAM."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bootmatrix import Workspace
from bootmatrix.assembly import image_disks
from bootmatrix.assembly.assemble import build
from bootmatrix.errors import BuildError
from bootmatrix.load.merge import load_spec
from bootmatrix.model import Bootable, Kernel, RootPlace, Verdict
from bootmatrix.model.guest_size import GuestSize
from bootmatrix.operating_system import is_portable
from bootmatrix.qemu.command import interactive
from bootmatrix.qemu.disk import scratch_disk
from bootmatrix.workspace.selection import Selection
from bootmatrix.workspace.single_guest import find_guest
from guests import artefact, make_bootable, make_machine
from kitchen import PROFILES, Kitchen, module, old_kernel, unpacked

pytest_plugins = ("archive_fixtures", "kitchen")

ROOT = Path(__file__).parents[1]
LABELS = {"bootmatrix.roots": "1"}
INIT = [{"path": "init", "contents": "x", "mode": "0755"}]
SPEC = """
init: ["@pkg:./images/init"]
onboot:
  - {name: first, image: "@pkg:./images/large", command: [/bin/x]}
  - {name: second, image: "@pkg:./images/large", command: [/bin/x], readonly: true}
  - {name: third, image: "@pkg:./images/small", command: [/bin/x], readonly: true, tmpfs: [/tmp]}
"""
MODULES = {f"{name}__ko": module() for name in ("virtio_console", "virtio_blk", "squashfs", "overlay")}


def kernel_of(kitchen: Kitchen, **modules: bytes) -> Kernel:
    return kitchen.kernel(old_kernel("6.1.0-9-cloud-amd64", **(modules or MODULES)))


def images(kitchen: Kitchen, labels: dict[str, str], size: int = image_disks.MIN_BYTES) -> None:
    kitchen.recipe("init", files=INIT, labels=labels)
    kitchen.recipe("small", files=[{"path": "a", "contents": "small"}])
    kitchen.recipe("large", files=[{"path": "data", "source": "data"}])
    (kitchen.folder / "images/large/data").write_bytes(bytes(size))


def built(kitchen: Kitchen, kernel: Kernel, roots: RootPlace = "auto", machine: str = "q35") -> Bootable:
    (kitchen.folder / "spec.yml").write_text(SPEC)
    profile, spec = PROFILES["x86_64"], load_spec(kitchen.folder / "spec.yml")
    return build(spec, profile, profile.machines[machine], kernel, kitchen.builder, roots)


def test_a_large_image_is_on_a_disk_and_a_small_one_is_not(kitchen: Kitchen) -> None:
    images(kitchen, LABELS)
    kernel = kernel_of(kitchen)
    there = built(kitchen, kernel)
    (root,) = there.roots
    assert root.kind == "root"
    assert there.parts()["root0"] == root
    assert there.initrd
    files = unpacked(there.initrd.file)
    assert "containers/onboot/000-first/lower/data" not in files
    assert "containers/onboot/002-third/rootfs/a" in files
    assert files["etc/bootmatrix/roots"].data == f"{root.name}\t/containers/onboot/000-first/lower\tro\n".encode()
    modules = files["etc/bootmatrix/modules"].data
    assert b"virtio_blk.ko" in modules
    assert b"squashfs.ko" in modules
    in_ram = built(kitchen, kernel, "ram")
    assert in_ram.roots == ()
    assert in_ram.initrd
    assert "containers/onboot/000-first/lower/data" in unpacked(in_ram.initrd.file)


def test_every_image_is_on_a_disk_if_asked_and_one_that_is_written_to_has_an_overlay(kitchen: Kitchen) -> None:
    images(kitchen, LABELS, size=1000)
    kernel = kernel_of(kitchen)
    assert built(kitchen, kernel).roots == ()
    there = built(kitchen, kernel, "disk")
    assert len(there.roots) == 2
    assert there.initrd
    lines = unpacked(there.initrd.file)["etc/bootmatrix/roots"].data.decode().splitlines()
    assert [line.split("\t")[1:] for line in lines] == [
        ["/containers/onboot/000-first/lower", "ro"],
        ["/containers/onboot/002-third/rootfs", "rw"],
    ]


def test_a_disk_is_packed_once_for_all_kernels_and_specs(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    images(kitchen, LABELS)
    first = built(kitchen, kernel_of(kitchen))
    monkeypatch.setenv("PATH", os.environ["PATH"])  # the packer is found, and not called: it would fail
    monkeypatch.setattr("bootmatrix.assembly.image_disks._pack", None)
    other = kitchen.kernel(old_kernel("6.1.0-10-cloud-amd64", **MODULES), "6.1.0-10-cloud-amd64")
    monkeypatch.setitem(globals(), "SPEC", SPEC.replace("first", "another"))
    assert built(kitchen, other).roots == first.roots


@pytest.mark.parametrize(
    ("labels", "lacking", "machine", "reason"),
    [
        ({}, "", "q35", "no init image has the label bootmatrix.roots"),
        (LABELS, "squashfs__ko", "q35", "the kernel has no module squashfs"),
        (LABELS, "virtio_blk__ko", "q35", "the kernel has no module virtio_blk"),
    ],
)
def test_without_the_means_roots_are_in_ram(
    kitchen: Kitchen, labels: dict[str, str], lacking: str, machine: str, reason: str
) -> None:
    images(kitchen, labels)
    kernel = kernel_of(kitchen, **{name: data for name, data in MODULES.items() if name != lacking})
    assert built(kitchen, kernel, machine=machine).roots == ()
    with pytest.raises(BuildError, match=reason):
        built(kitchen, kernel, "disk", machine)


def test_a_scratch_disk_is_of_containers_that_cannot_open_it(kitchen: Kitchen) -> None:
    images(kitchen, LABELS)
    kernel = kernel_of(kitchen, **MODULES, ext4__ko=module())
    (kitchen.folder / "spec.yml").write_text(SPEC.replace("readonly", "capabilities: [CAP_MKNOD], readonly", 1))
    profile, spec = PROFILES["x86_64"], load_spec(kitchen.folder / "spec.yml")
    machine = profile.machines["q35"].sized(GuestSize(disk_mib=64))
    bootable = build(spec, profile, machine, kernel, kitchen.builder)
    assert bootable.privileged == ("second: CAP_MKNOD beside a scratch disk",)
    assert "bootmatrix.scratch" not in interactive(machine, bootable).cmdline


def test_a_scratch_disk_is_a_file_system_without_a_name(tmp_path: Path) -> None:
    with scratch_disk(64, tmp_path) as (disk, reader):
        reader.seek(0x438)
        assert reader.read(2) == b"\x53\xef"
        assert os.fstat(disk.fileno()).st_size == 64 << 20
        assert is_portable() or not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_without_a_bus_or_a_packer_roots_are_in_ram(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    images(kitchen, LABELS)
    kernel = kernel_of(kitchen)
    monkeypatch.setenv("PATH", "/nowhere")
    assert built(kitchen, kernel).roots == ()
    with pytest.raises(BuildError, match="squashfs-tools is not installed"):
        built(kitchen, kernel, "disk")
    board = make_machine(bus=None)
    assert image_disks._why_not(board, None, (), ()) == "the machine has no virtio bus"  # type: ignore[arg-type]
    with pytest.raises(BuildError, match="cannot have a scratch disk: the machine has no virtio bus"):
        image_disks.check_scratch(board, None, ())  # type: ignore[arg-type]


def test_qemu_gets_each_disk_read_only_with_its_serial_number() -> None:
    root = artefact("root", "/store/a,b").model_copy(update={"name": "0123"})
    words = interactive(make_machine(bus_name="pci.1"), make_bootable(roots=(root,))).arguments
    assert "if=none,id=root0,format=raw,readonly=on,file=/store/a,,b" in words
    assert "virtio-blk-pci,bus=pci.1,drive=root0,serial=0123" in words


GUEST = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
onboot:
  - name: writes
    image: "@pkg:./images/large"
    command: [/bin/busybox, sh, -c, "echo x > /data/own && [ $(wc -c < /data/large) = 3000000 ]"]
  - name: reads
    image: "@pkg:./images/large"
    readonly: true
    command: [/bin/busybox, sh, -c, "[ ! -e /data/own ] && ! echo x > /data/own && ls /new"]
    tmpfs: [/new]
  - name: sees
    image: "@pkg:./images/large"
    binds: ["/containers:/all"]
    command: [/bin/busybox, sh, -c, "echo x > /all/onboot/000-writes/lower/data/own && ls /data/large"]
  - name: unharmed
    image: "@pkg:./images/large"
    command: [/bin/busybox, sh, -c, "[ ! -e /data/own ] && grep squashfs /proc/mounts || [ -e /data/large ]"]
"""


@pytest.mark.boots
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_containers_see_the_same_root_from_a_disk(tmp_path: Path, arch: str) -> None:
    """Three containers share a disk: one writes to its overlay, one reads only, one binds all roots."""
    shutil.copytree(ROOT / "specs/images", tmp_path / "images")
    (tmp_path / "images/large").mkdir()
    (tmp_path / "images/large/build.yml").write_text(
        'from: "@pkg:../busybox"\nfiles: [{path: data/large, source: large}]\n'
    )
    (tmp_path / "images/large/large").write_bytes(bytes(3_000_000))
    (tmp_path / "spec.yml").write_text(GUEST)
    guest = find_guest(Workspace(), str(tmp_path / "spec.yml"), arch, "6.1", selection=Selection(roots="disk"))
    assert len(guest.bootable.roots) == 1
    judgement, _ = guest.boot(tmp_path)
    assert judgement.verdict is Verdict.PASS, (judgement, (tmp_path / "console.log").read_text(errors="replace"))


def test_the_place_of_roots_is_an_option_and_a_key(tmp_path: Path) -> None:
    workspace = Workspace(offline=True)
    assert workspace.plan("hello", arch=["x86_64"]).cells[0].roots == "auto"
    chosen = Selection(arch=("x86_64",), roots="disk")
    assert workspace.plan("hello", selection=chosen).cells[0].roots == "disk"
    matrix = tmp_path / "a.matrix.yml"
    matrix.write_text(f"specs: [{ROOT}/specs/hello.yml]\narch: [x86_64]\nkernel: ['6.1']\nroots: ram\n")
    assert workspace.plan(matrix).cells[0].roots == "ram"
