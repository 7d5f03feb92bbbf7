"""What is made once and used by many: segments of initrds; and initrds that are too large."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from archive_client import Opener, kernel_source
from bootmatrix.assembly.assemble import build
from bootmatrix.assembly.initrd import cache, cpio
from bootmatrix.assembly.initrd.memory import check_memory
from bootmatrix.assembly.initrd.own_init import PROTOCOL
from bootmatrix.errors import BuildError, InputError
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.load.merge import load_spec
from guests import artefact, make_bootable, make_machine
from kitchen import PROFILES, Kitchen, add_deb, old_kernel

pytest_plugins = ("archive_fixtures", "kitchen")

SPEC = """
init: ["@pkg:./images/mine"]
files: [{{path: etc/which, contents: "{which}"}}]
"""
INIT = [{"path": "init", "contents": "x", "mode": "0755"}]


def test_specs_and_kernels_are_built_once_each(kitchen: Kitchen) -> None:
    """Two specs on two kernels: two roots and two sets of modules, and four initrds that are put together from them."""
    kitchen.recipe("mine", files=INIT)
    kernels = [kitchen.kernel()]
    other = old_kernel("6.1.0-10-cloud-amd64", virtio_console__ko=b"\x7fELF" + bytes(99))
    add_deb(kitchen.small, "new", "linux-image-6.1.0-10-cloud-amd64", "6.1.10-1", other)
    kitchen.small.publish()
    kernels.append(kitchen.builder.archive.kernel("6.1", kernel_source(suites="new"), "amd64"))
    initrds = {kitchen.build(SPEC.format(which=which), kernel).initrd for which in "ab" for kernel in kernels}
    assert len(initrds) == 4
    made = kitchen.builder.store.folder / "memo"
    assert len(list((made / "segment").iterdir())) == 2 + 2
    assert len(list((made / "image").iterdir())) == 1


def test_another_init_that_reports_like_ours_is_told(kitchen: Kitchen) -> None:
    """A recipe may set the label of our init, with any program."""
    kernel, spec = kitchen.kernel(), 'init: ["@pkg:./images/mine"]\nservices: []\n'
    folder = kitchen.folder / "images/mine"
    shutil.copytree(specs_folder() / "images/init", folder)
    assert kitchen.build(spec, kernel).daemons == ()
    (folder / "bin/amd64").write_bytes(b"all passed")
    built = kitchen.build(spec, kernel)
    assert built.reports and built.daemons == ("init image @pkg:./images/mine in the place of the shipped one",)
    kitchen.recipe("above", **{"from": "@pkg:../mine"}, files=[{"path": "etc/x", "contents": "x"}])
    assert kitchen.build(spec.replace("mine", "above"), kernel).daemons


def test_a_machine_with_too_little_memory_is_told_before_the_boot(kitchen: Kitchen) -> None:
    kitchen.recipe("mine", files=[*INIT, {"path": "large", "source": "large"}])
    (kitchen.folder / "images/mine/large").write_bytes(bytes(40 << 20))
    kernel = kitchen.kernel()
    assert kitchen.build(SPEC.format(which="a"), kernel).unpacked_bytes > 40 << 20
    profile = PROFILES["x86_64"]
    small = profile.machines["q35"].model_copy(update={"memory_mib": 64})
    with pytest.raises(BuildError, match="of 0 MiB unpacks to 40 MiB, and q35 has 64 MiB"):
        build(load_spec(kitchen.folder / "spec.yml"), profile, small, kernel, kitchen.builder)
    packed = artefact("initrd", "/store/initrd").model_copy(update={"size_bytes": 20 << 20})
    check_memory(make_machine(memory_mib=128), make_bootable(initrd=packed, unpacked_bytes=54 << 20))
    with pytest.raises(BuildError):
        check_memory(make_machine(memory_mib=128), make_bootable(initrd=packed, unpacked_bytes=(54 << 20) + 1))


@pytest.mark.parametrize(
    ("kernel_mib", "form", "least_mib"),
    [(45, "ELF", 76), (45, "other", 76), (300, "ELF with symbols", 76), (35, "ELF", 66)],
)
def test_a_kernel_with_too_little_memory_is_told_before_the_boot(
    tmp_path: Path, kernel_mib: int, form: str, least_mib: int
) -> None:
    """The segments of an ELF file count, and not its symbols."""
    file = tmp_path / "kernel"
    header = b"\x7fELF" + struct.pack("<BBBxxxxxxxxxHHIQQQIHHHHHH", 2, 1, 1, 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    taken = min(kernel_mib, 45) << 20
    segments = [struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, size, 0) for size in (taken // 2, taken - taken // 2)]
    file.write_bytes(header + b"".join(segments) if form != "other" else b"MZ")
    packed, kernel = (
        artefact(name, str(path)).model_copy(update={"size_bytes": mib << 20})
        for name, path, mib in (("initrd", "/store/initrd", 2), ("kernel", file, kernel_mib))
    )
    bootable = make_bootable(kernel=kernel, initrd=packed, unpacked_bytes=5 << 20)
    check_memory(make_machine(memory_mib=least_mib), bootable)
    machine = make_machine(memory_mib=least_mib - 1).model_copy(update={"max_memory_mib": 4096})
    with pytest.raises(BuildError, match=f"and its kernel has {taken >> 20} MiB and needs 24 MiB more to") as caught:
        check_memory(machine, bootable)
    assert caught.value.hint.startswith("Give it more: --memory 256M")


@pytest.mark.parametrize("lack", ["files: [{path: x, source: none}]", 'init: ["@pkg:./images/none"]'])
def test_the_file_of_a_merged_spec_that_asks_for_what_is_missing_is_named(kitchen: Kitchen, lack: str) -> None:
    kitchen.recipe("mine", files=INIT)
    (kitchen.folder / "a.yml").write_text(SPEC.format(which="a"))
    (kitchen.folder / "sub").mkdir()
    (kitchen.folder / "sub/b.yml").write_text(f"{lack}\n")
    spec = load_spec(Path(f"{kitchen.folder}/a.yml+{kitchen.folder}/sub/b.yml"))
    profile = PROFILES["x86_64"]
    with pytest.raises((BuildError, InputError), match=r"^\S*/sub/b\.yml: .*none"):
        build(spec, profile, profile.machines["q35"], kitchen.kernel(), kitchen.builder)


def test_an_initrd_that_nothing_could_load_is_refused(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    kitchen.recipe("mine", files=INIT)
    kernel = kitchen.kernel()
    monkeypatch.setattr(cache, "MAX_INITRD_BYTES", 100)
    with pytest.raises(BuildError, match="less than 4 GiB"):
        kitchen.build(SPEC.format(which="a"), kernel)
    monkeypatch.setattr(cpio, "MAX_FILE_BYTES", 0)
    with pytest.raises(BuildError, match="a file of an initrd has less than 4 GiB"):
        kitchen.build(SPEC.format(which="b"), kernel)


def test_an_images_user_that_is_not_used_is_said(kitchen: Kitchen) -> None:
    """Containers run as root unless the spec says otherwise, as with LinuxKit."""
    spec = 'init: ["@pkg:./images/mine"]\nonboot: [{{name: first, image: "@pkg:./images/{}"{}}}]\n'
    kitchen.recipe("mine", files=INIT, cmd=["/bin/x"])
    kitchen.recipe("other", files=INIT, cmd=["/bin/x"], user="app:7")
    kitchen.recipe("root", files=INIT, cmd=["/bin/x"], user="0:0")
    kernel = kitchen.kernel()
    assert kitchen.build(spec.format("other", ""), kernel).notes == (
        "first: its image's USER 'app:7' is not used: it runs as root. To have that user, give its number as 'uid'",
    )
    assert kitchen.build(spec.format("other", ", uid: 7"), kernel).notes == ()
    assert kitchen.build(spec.format("root", ""), kernel).notes == ()


def test_a_lock_excludes_a_network_that_leads_outside(kitchen: Kitchen, opened: Opener) -> None:
    kitchen.recipe("mine", files=INIT, cmd=["/bin/x"])
    spec = """init: ["@pkg:./images/mine"]
onboot: [{{name: first, image: "@pkg:./images/mine", annotations: {{bootmatrix.network: {}}}}}]
"""
    kernel = kitchen.kernel()
    assert kitchen.build(spec.format("outbound"), kernel).outbound
    lock = kitchen.builder.archive.resolved()
    assert list(lock.unreproducible.values()) == ["outbound"]
    locked = replace(kitchen.builder, archive=opened(lock=lock))
    kitchen = replace(kitchen, builder=locked)
    assert not kitchen.build(spec.format("guest"), kernel).outbound
    with pytest.raises(BuildError, match="an unreproducible input"):
        kitchen.build(spec.format("outbound"), kernel)


def test_a_profile_starts_no_other_init(kitchen: Kitchen) -> None:
    kitchen.recipe("mine", files=INIT, cmd=["/bin/x"], labels={PROTOCOL: "2"})
    (kitchen.folder / "spec.yml").write_text(SPEC.format(which="a"))
    profile, kernel = PROFILES["x86_64"], kitchen.kernel()
    machine = profile.machines["q35"].model_copy(update={"cmdline": ("panic=-1", "rdinit=/srv/x")})
    with pytest.raises(BuildError, match="the profile's cmdline of q35: 'rdinit=/srv/x' would start another program"):
        build(load_spec(kitchen.folder / "spec.yml"), profile, machine, kernel, kitchen.builder)


@pytest.mark.parametrize(("path", "fault"), [("x", "not the absolute path"), (f"/{'x' * 400}", "more than 400 bytes")])
def test_a_result_has_a_path_that_init_can_name(kitchen: Kitchen, path: str, fault: str) -> None:
    kitchen.recipe("mine", files=INIT, cmd=["/bin/x"])
    container = f'{{name: a, image: "@pkg:./images/mine", annotations: {{bootmatrix.results: {path}}}}}'
    with pytest.raises(BuildError, match=fault):
        kitchen.build(f'init: ["@pkg:./images/mine"]\nonboot: [{container}]\n', kitchen.kernel())


def test_a_first_process_is_one_service_of_a_guest_with_a_port(kitchen: Kitchen) -> None:
    kitchen.recipe("mine", files=INIT, cmd=["/sbin/init"])
    service = '{name: %s, image: "@pkg:./images/mine", annotations: {bootmatrix.pid1: "true"}}'
    spec = f'init: ["@pkg:./images/mine"]\nservices: [{service % "first"}'
    kernel = kitchen.kernel()
    assert kitchen.build(f"{spec}]\n", kernel).services == ("first",)
    with pytest.raises(BuildError, match=r"first process \(bootmatrix.pid1\): first, second"):
        kitchen.build(f"{spec}, {service % 'second'}]\n", kernel)
    for command in ('[/bin/sh, -c, "a\\nb"]', f"[/bin/x{', a' * 64}]"):
        named = service.replace("{name", f"{{command: {command}, name") % "first"
        with pytest.raises(BuildError, match="more than 64 words, or one with a tab or a line end"):
            kitchen.build(f'init: ["@pkg:./images/mine"]\nservices: [{named}]\n', kernel)
    profile = PROFILES["x86_64"]
    (kitchen.folder / "spec.yml").write_text(f"{spec}]\n")
    bare = profile.machines["q35"].model_copy(update={"result": "console"})
    with pytest.raises(BuildError, match="init needs a port, and q35 has none"):
        build(load_spec(kitchen.folder / "spec.yml"), profile, bare, kernel, kitchen.builder)


def test_an_environment_without_the_images_path_is_told(kitchen: Kitchen) -> None:
    """As with LinuxKit it takes the place of the image's: programs that are elsewhere are not found any more."""
    kitchen.recipe("mine", files=INIT, cmd=["/bin/x"], env={"PATH": "/usr/games:/bin"})
    spec = 'init: ["@pkg:./images/mine"]\nonboot: [{{name: first, image: "@pkg:./images/mine", env: [{}]}}]\n'
    kernel = kitchen.kernel()
    assert kitchen.build(spec.format("TRIES=3"), kernel).notes == (
        "first: its env has no PATH and replaces its image's env, which has one",
    )
    assert kitchen.build(spec.format('TRIES=3, "PATH=/bin"'), kernel).notes == ()
