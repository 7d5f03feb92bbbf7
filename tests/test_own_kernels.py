"""Kernels of the user's own: whatever they come in, each is read whole, pinned, or refused with a clear word."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
import zstandard

import kernel_forms as forms
from archive_client import Opener
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.kernel.custom import find_kernel
from bootmatrix.assembly.kernel.decompress import boots
from bootmatrix.assembly.kernel.import_kernel import digest_of
from bootmatrix.assembly.kernel.package import (
    CODEC,
    KernelFiles,
    check_modules,
    kernel_key,
    known_files,
    load_order,
    module_tree,
)
from bootmatrix.assembly.kernel.probe import check_whole, embedded_config, form_of, page_kib_of, release_of
from bootmatrix.assembly.kernel.wrappers import unwrapped
from bootmatrix.errors import BuildError, InputError
from bootmatrix.load.kernels import with_custom_kernels
from bootmatrix.model import Kernel, KernelForm
from bootmatrix.source import safe_archive
from bootmatrix.source.kernel_formats import kernel_formats
from bootmatrix.source.kernel_formats.modules import paths
from bootmatrix.store import Store
from command_line import Tool, refused
from kernel_forms import CONFIG, PROFILES, RELEASE, kernel_files, make_kernel
from kitchen import files, module
from small_server import serve

pytest_plugins = ("archive_fixtures", "command_line")

MINE = PROFILES["aarch64"]
IMAGE = make_kernel(MINE)
FILES = kernel_files(IMAGE)
PACKAGES: dict[str, Callable[[forms.Files, Path], Path]] = {
    "deb": forms.deb,
    "rpm": forms.rpm,
    "apk": forms.apk,
    "tar": forms.tar_package,
    "pacman tar": forms.pacman_tar,
    "tuxmake": forms.tuxmake,
    "tree": forms.tree,
    "oci": forms.oci_folder,
    "oci archive": forms.oci_archive,
    "docker archive": forms.docker_archive,
}
FORMS: list[tuple[str, KernelForm]] = [(arch, form) for arch, one in PROFILES.items() for form in one.kernel_magic]


def builder(opened: Opener, store: Store) -> Builder:
    return Builder(store, opened())


def entry_of(name: str = "mine", arch: str = "aarch64") -> dict[str, object]:
    entry: dict[str, object] = yaml.safe_load(Path("kernels.yml").read_text())["kernels"][name][arch]
    return entry


def found(opened: Opener, store: Store, name: str = "mine", arch: str = "aarch64") -> tuple[Kernel, KernelFiles]:
    """A kernel of kernels.yml, resolved as a cell does."""
    profile = with_custom_kernels(PROFILES, Path("kernels.yml"))[arch]
    kernel = find_kernel(name, profile.kernels_of(profile.default_machine())[name], profile, builder(opened, store))
    kept = known_files(kernel_key(kernel), store)
    assert kept is not None
    return kernel, kept


@pytest.mark.parametrize("kind", PACKAGES)
def test_every_kind_of_package(tool: Tool, opened: Opener, store: Store, tmp_path: Path, kind: str) -> None:
    source = PACKAGES[kind](FILES, tmp_path)
    given = ["--arch", "aarch64"] if kind.endswith(("oci", "archive")) else []
    done = tool("kernels", "add", "mine", str(source), *given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"mine for aarch64: Linux {RELEASE}, in kernels.yml"
    entry = entry_of()
    assert (entry["release"], entry["page_kib"]) == (RELEASE, 64)
    kernel, kept = found(opened, store)
    assert (kernel.release, kept.form, kept.builtin) == (RELEASE, "Image", ("inside",))
    assert store.verified(kept.image).read_bytes() == IMAGE
    modules, missing = load_order(kept, ("mod-a", "inside"))
    below = f"usr/lib/modules/{RELEASE}/kernel/drivers"
    contents = files(module_tree(kernel, kept, modules, store))
    assert contents == {
        f"{below}/mod-b.ko": module(),
        f"{below}/mod_a.ko": module("mod-b"),
        "etc/bootmatrix/modules": f"/{below}/mod-b.ko\n/{below}/mod_a.ko\n".encode(),
        f"boot/config-{RELEASE}": CONFIG,
    }
    assert not missing
    assert kernel.parts[0].sha256
    assert kernel.parts[0].path == source.name


def test_what_another_profile_took_for_the_kernel_is_not_taken(
    tool: Tool, opened: Opener, store: Store, tmp_path: Path
) -> None:
    """A profile of somebody's checkout may say that a configuration is a kernel; the cache has it then."""
    source = forms.deb(FILES, tmp_path)
    assert tool("kernels", "add", "mine", str(source)).returncode == 0
    kernel, kept = found(opened, store)
    assert store.verified(kept.image).read_bytes() == IMAGE
    store.set_memo("kernel", kernel_key(kernel), CODEC.dump(kept.model_copy(update={"image": kept.config})))
    assert found(opened, store)[1] == kept


def test_every_kind_is_tested() -> None:
    assert {kind.split()[-1] for kind in PACKAGES} - {"archive"} == set(kernel_formats()) - {
        "image",
        "modules",
        "config",
    }


@pytest.mark.parametrize(("arch", "form"), FORMS)
def test_a_kernel_is_known_by_its_bytes_and_by_those_alone(arch: str, form: KernelForm) -> None:
    data = make_kernel(PROFILES[arch], form)
    for name, profile in PROFILES.items():
        same = profile.kernel_magic.get(form) == PROFILES[arch].kernel_magic[form]
        assert form_of(data, profile.kernel_magic) == (form if same else None), name
    for rule in PROFILES[arch].kernel_magic[form].split():
        offset = int(rule.partition(":")[0])
        spoilt = data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]
        assert form_of(spoilt, PROFILES[arch].kernel_magic) != form


def test_every_architecture_says_how_its_kernels_are_known() -> None:
    for profile in PROFILES.values():
        for name, machine in profile.machines.items():
            assert any(boots(machine.kernel_form, form) for form in profile.kernel_magic), f"{profile.name}/{name}"


def test_a_file_with_its_modules_and_its_configuration(
    tool: Tool, opened: Opener, store: Store, tmp_path: Path
) -> None:
    source = forms.image_alone(FILES, tmp_path)
    for name, data in FILES.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(data)
    config = tmp_path / "root/boot" / f"config-{RELEASE}"
    done = tool("kernels", "add", "mine", str(source), "--modules", "root", "--config", str(config))
    assert done.returncode == 0, done.stderr
    kernel, kept = found(opened, store)
    assert set(kept.modules) == {"mod_a", "mod_b"}
    assert [part.kind for part in kernel.parts] == ["image", "modules", "config"]


def test_one_package_with_the_kernel_and_one_with_the_modules(
    tool: Tool, opened: Opener, store: Store, tmp_path: Path
) -> None:
    for name, begin in (("core", "boot"), ("modules", "lib")):
        (tmp_path / name).mkdir()
        forms.rpm({path: data for path, data in FILES.items() if path.startswith(begin)}, tmp_path / name)
    done = tool("kernels", "add", "mine", "core/kernel.rpm", "modules/kernel.rpm")
    assert done.returncode == 0, done.stderr
    assert set(found(opened, store)[1].modules) == {"mod_a", "mod_b"}


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, zstandard.compress, bytes])
def test_compressed_kernels_and_packages(
    tool: Tool, opened: Opener, store: Store, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    image = pack(IMAGE)
    assert tool("kernels", "add", "mine", str(forms.rpm(kernel_files(image), tmp_path, pack))).returncode == 0
    assert store.verified(found(opened, store)[1].image).read_bytes() == IMAGE


def test_a_kernel_in_an_efi_program() -> None:
    inside = gzip.compress(IMAGE)
    header = b"MZ\0\0zimg" + (64).to_bytes(4, "little") + len(inside).to_bytes(4, "little")
    assert unwrapped(header.ljust(64, b"\0") + inside + b"signature") == IMAGE


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", "<>")
def test_an_elf_kernel_that_is_cut_off(order: str, wide: bool) -> None:
    data = bytearray(400)
    data[:6] = b"\x7fELF" + bytes([1 + wide, 1 + (order == ">")])
    struct.pack_into(order + ("Q" if wide else "I"), data, 32 if wide else 28, 64)
    struct.pack_into(order + "HH", data, 54 if wide else 42, 56 if wide else 32, 1)
    struct.pack_into(order + ("8xQ16xQ" if wide else "4xI8xI"), data, 64, 200, 200)
    check_whole(bytes(data))
    with pytest.raises(BuildError, match="cut off: it has 399 bytes, and its header says 400"):
        check_whole(bytes(data[:-1]))


def test_an_efi_kernel_that_is_cut_off() -> None:
    data = bytearray(400)
    data[:2], data[64:68] = b"MZ", b"PE\0\0"
    struct.pack_into("<I", data, 0x3C, 64)
    struct.pack_into("<H12xH", data, 70, 1, 16)
    struct.pack_into("<16xII", data, 104, 150, 250)
    check_whole(bytes(data))
    check_whole(b"MZ")
    with pytest.raises(BuildError, match="cut off: it has 399 bytes, and its header says 400"):
        check_whole(bytes(data[:-1]))


def test_a_self_unpacking_kernel_that_is_cut_off() -> None:
    data = bytearray(1024 + 160)
    struct.pack_into("<B2xI", data, 0x1F1, 1, 10)
    data[0x202:0x206] = b"HdrS"
    check_whole(bytes(data) + b"signature")
    with pytest.raises(BuildError, match="cut off: it has 1183 bytes, and its header says 1184"):
        check_whole(bytes(data[:-1]))


def test_a_zimage_that_is_cut_off() -> None:
    data = bytearray(400)
    struct.pack_into("<III", data, 0x24, 0x016F2818, 100, 500)
    check_whole(bytes(data))
    with pytest.raises(BuildError, match="cut off: it has 399 bytes, and its header says 400"):
        check_whole(bytes(data[:-1]))


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (forms.tree, ".config"),
        (forms.tree, "include/config/kernel.release"),
        (forms.tree, "modules.order"),
        (forms.tree, "arch/mine/boot/dts/x.dtb"),
        (forms.tuxmake, "config"),
        (forms.tuxmake, "Image.gz"),
    ],
)
def test_a_link_out_of_a_kernels_folder_is_refused(
    form: Callable[[forms.Files, Path], Path], name: str, tmp_path: Path, tool: Tool
) -> None:
    """The folder may be anybody's, and the guest gets what its files contain."""
    source, private = form(FILES, tmp_path), tmp_path / "private"
    private.write_bytes(b"CONFIG_SECRET=y\n")
    (source / name).unlink(missing_ok=True)
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).symlink_to(private)
    done = tool("kernels", "add", "mine", str(source))
    assert done.returncode == 2
    assert f"{source.name}/{name}: a link out of " in done.stderr
    assert "SECRET" not in done.stdout + done.stderr


def test_a_folder_of_modules_may_link_to_modules_alone(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret")
    (tmp_path / "other.ko.xz").write_bytes(b"")
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "weak.ko.xz").symlink_to("../other.ko.xz")
    assert paths(folder) == [folder / "weak.ko.xz"]
    (folder / "x.ko").symlink_to("../private")
    with pytest.raises(InputError, match=r"x\.ko: a link out of"):
        paths(folder)


def test_a_build_tree_beside_the_folder_of_kernels_yml_keeps_its_modules(
    tool: Tool, opened: Opener, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = forms.tree(FILES, tmp_path)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    done = tool("kernels", "add", "mine", f"../{source.name}", "--arch", "aarch64")
    assert done.returncode == 0, done.stderr
    _, kept = found(opened, store)
    assert set(kept.modules) == {"mod_a", "mod_b"}


def test_a_kernel_without_a_module_that_the_spec_names_is_refused(
    tool: Tool, opened: Opener, store: Store, tmp_path: Path
) -> None:
    done = tool("kernels", "add", "mine", str(forms.tree(FILES, tmp_path)))
    assert done.returncode == 0, done.stderr
    kernel, kept = found(opened, store)
    check_modules(kernel, kept, ("mod-a", "inside"))
    with pytest.raises(BuildError, match=r"the kernel mine .* has no module mod_c, which the spec needs"):
        check_modules(kernel, kept, ("mod-a", "mod-c"))


def test_an_unfinished_build_tree_is_refused(tool: Tool, tmp_path: Path) -> None:
    source = forms.tree(FILES, tmp_path)
    for image in ("arch/mine/boot/Image", "vmlinux"):
        (source / image).unlink()
    status, shown = add(tool, source)
    assert status == 2
    assert "linux: a build tree without a kernel: no arch/*/boot image" in shown
    assert "Has make finished?" in shown


def test_a_configuration_that_is_newer_than_its_kernel_is_told(tool: Tool, tmp_path: Path) -> None:
    source = forms.tree(FILES, tmp_path)
    note = f"note: {source}/.config is newer than the kernel"
    for age_s, is_told in ((-60, False), (60, True)):
        built = (source / "vmlinux").stat().st_mtime
        os.utime(source / ".config", (built + age_s, built + age_s))
        done = tool("kernels", "add", f"mine{age_s}", str(source))
        assert (done.returncode, note in done.stdout) == (0, is_told), done.stdout + done.stderr


def test_a_board_of_ones_own_does_not_make_its_architecture_ambiguous(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "arch").mkdir(exist_ok=True)
    board = (
        "extends: aarch64\ndescription: a board\nmachines:\n  board: {extends: aarch64/virt, description: a board}\n"
    )
    (tmp_path / "arch/a-board.yml").write_text(board, encoding="utf-8")
    done = tool("kernels", "add", "mine", str(forms.tree(FILES, tmp_path)))
    assert done.returncode == 0, done.stderr
    assert "mine for aarch64: " in done.stdout


def test_what_a_kernel_says_of_itself() -> None:
    config = b"IKCFG_ST" + gzip.compress(CONFIG) + b"IKCFG_ED"
    inside = b"..." + IMAGE + config
    packed = b"unpacker\x1f\x8b\x08" + b"no gzip" + gzip.compress(inside) + b"rest"
    assert (release_of(packed), embedded_config(packed)) == (RELEASE, CONFIG)
    assert (release_of(b"Linux version"), embedded_config(b"IKCFG_ST IKCFG_ED")) == ("", None)
    boot_header = bytearray(IMAGE)
    boot_header[0x202:0x206], boot_header[0x20E:0x210] = b"HdrS", b"\x80\0"
    boot_header[0x280:0x290] = b"6.8.0-pc (tests)"
    assert release_of(bytes(boot_header)) == "6.8.0-pc"


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (b"", 4),
        (b"CONFIG_PPC_64K_PAGES=y\n", 64),
        (b"# CONFIG_ARM64_64K_PAGES is not set\nCONFIG_ARM64_16K_PAGES=y\n", 16),
        (b"CONFIG_PAGE_SIZE_16KB=y\n", 16),
        (b"CONFIG_X_3K_PAGES=y\n", 4),
    ],
)
def test_the_size_of_a_page(config: bytes, size: int) -> None:
    assert page_kib_of(config) == size


def add(tool: Tool, source: Path, *more: str) -> tuple[int, str]:
    done = tool("kernels", "add", "mine", str(source), *more)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or not Path("kernels.yml").exists()
    return done.returncode, done.stderr


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


OTHERS = kernel_files(IMAGE, "6.8.0")
FAULTY: dict[str, tuple[Callable[[Path], Path], list[str], str]] = {
    "no kernel": (lambda at: written(at / "x", b"#!/bin/sh\n"), [], "x: this is not a kernel of a known architecture"),
    "empty": (lambda at: written(at / "x", b""), [], "x: this is an empty file"),
    "not there": (lambda at: at / "x", [], "x: no such file or folder"),
    "some folder": (lambda at: at, [], "not a kernel"),
    "no kernel, for one": (
        lambda at: written(at / "x", b"text"),
        ["--arch", "armv7"],
        "not a kernel of this architecture",
    ),
    "another architecture": (lambda at: forms.deb(FILES, at), ["--arch", "armv7"], "not a kernel of this architecture"),
    "unknown architecture": (lambda at: at, ["--arch", "armv77"], "unknown architecture 'armv77'. Did you mean"),
    "another form": (
        lambda at: written(at / "vmlinux", make_kernel(MINE, "vmlinux")),
        ["--arch", "aarch64"],
        "is a vmlinux, and the machines boot a Image",
    ),
    "package without kernel": (
        lambda at: forms.rpm({"etc/x": b"x"}, at),
        ["--arch", "aarch64"],
        "it contains no kernel",
    ),
    "modules of another release": (
        lambda at: forms.deb(OTHERS | {"boot/vmlinuz-6.8.0": IMAGE}, at),
        [],
        f"is of the release {RELEASE}, and the modules beside it are of 6.8.0",
    ),
    "no release": (
        lambda at: written(at / "x", IMAGE.partition(b"Linux version")[0]),
        [],
        "the release of boot/vmlinuz cannot be determined",
    ),
    "wrong digest": (lambda at: forms.deb(FILES, at), ["--sha256", "0" * 64], f"expected {'0' * 64}"),
    "no digest": (lambda at: forms.deb(FILES, at), ["--sha256", "abc"], "--sha256: expected 64 hexadecimal digits"),
    "two digests": (lambda at: forms.deb(FILES, at), ["--sha256", "0" * 64] * 2, "must be repeated for each SOURCE"),
    "no modules": (lambda at: forms.deb(FILES, at), ["--modules", "."], "no modules found in"),
    "apk 3": (
        lambda at: written(at / "x.apk", b"ADBd" + bytes(99)),
        ["--arch", "aarch64"],
        "packages of apk 3 are not supported",
    ),
    "damaged gzip": (lambda at: written(at / "x", b"\x1f\x8b\x08" + bytes(99)), [], "the kernel is damaged"),
    "an image for others": (
        lambda at: forms.oci_folder(FILES, at, ("linux/s390x", "linux/arm/v7")),
        ["--arch", "aarch64"],
        "has no image for linux/arm64; available: linux/arm/v7, linux/s390x",
    ),
    "an image for whom": (lambda at: forms.oci_folder(FILES, at), [], "for several architectures"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_what_is_refused(tool: Tool, tmp_path: Path, case: str) -> None:
    make, more, message = FAULTY[case]
    status, shown = add(tool, make(tmp_path), *more)
    assert (status, message in shown) == (2, True), shown


@pytest.mark.parametrize("kind", ["deb", "rpm", "apk", "oci archive"])
def test_a_package_that_breaks_off(tool: Tool, tmp_path: Path, kind: str) -> None:
    source = PACKAGES[kind](FILES, tmp_path)
    whole = source.read_bytes()
    for count in range(0, len(whole) * (6 if "oci" in kind else 10) // 10 - 1, len(whole) // 12):
        source.write_bytes(whole[:count])
        status, shown = add(tool, source, "--arch", "aarch64")
        assert status == 2, (count, shown)


@pytest.mark.parametrize("kind", ["rpm", "apk"])
def test_a_package_that_is_a_bomb(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(safe_archive, "FREE_BYTES", 1 << 20)
    source = PACKAGES[kind]({**FILES, "boot/System.map": bytes(20 << 20)}, tmp_path)
    assert source.stat().st_size < 40_000
    status, shown = add(tool, source, "--arch", "aarch64")
    assert (status, "more than 200 times its size" in shown) == (2, True), shown


@pytest.mark.parametrize("at", range(3))
def test_an_image_that_was_changed(tool: Tool, tmp_path: Path, at: int) -> None:
    layout = forms.oci_folder(FILES, tmp_path)
    blob = sorted((layout / "blobs/sha256").iterdir(), key=lambda file: file.stat().st_size)[1 + at]
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    status, shown = add(tool, layout, "--arch", "aarch64")
    assert (status, "SHA-256 mismatch" in shown) == (2, True), shown


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", "layout: its index.json lists no image"),
        ("[]", "layout: index.json is not a JSON object"),
        ('{"manifests": [3]}', "layout: its index.json lists no image"),
        ('{"manifests": [{"digest": "../../x"}]}', "only sha256 is supported"),
        ("x", "layout: index.json is invalid JSON"),
    ],
)
def test_an_image_whose_index_is_nonsense(tool: Tool, tmp_path: Path, index: str, message: str) -> None:
    layout = forms.oci_folder(FILES, tmp_path)
    (layout / "index.json").write_text(index)
    status, shown = add(tool, layout, "--arch", "aarch64")
    assert (status, message in shown) == (2, True), shown


def test_a_name_of_the_archives(tool: Tool, tmp_path: Path) -> None:
    done = tool("kernels", "add", "6.1", str(forms.deb(FILES, tmp_path)))
    refused(done, "'6.1' is the name of an archive kernel on aarch64")


def test_what_is_no_configuration(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "Image").write_bytes(IMAGE)
    (tmp_path / "map").write_text("ffff800008000000 t _text\n")
    done = tool("kernels", "add", "mine", str(tmp_path / "Image"), "--config", str(tmp_path / "map"))
    refused(done, ".config is not a kernel's configuration")


def test_what_is_no_name_is_not_written(tool: Tool, tmp_path: Path) -> None:
    refused(tool("kernels", "add", "a b", str(forms.deb(FILES, tmp_path))), "'a b' is not a valid kernel name")
    assert not Path("kernels.yml").exists()


def test_a_kernel_that_changes_after_it_was_added(tool: Tool, opened: Opener, store: Store, tmp_path: Path) -> None:
    source = forms.deb(FILES, tmp_path)
    assert add(tool, source)[0] == 0
    source.write_bytes(source.read_bytes() + b"\n")
    other = Store(tmp_path / "other")
    for kept in (store, other):
        with pytest.raises(InputError, match=r"has changed: its SHA-256 is .*, expected"):
            found(opened, kept)
    source.unlink()
    assert found(opened, store)[0].release == RELEASE, "the cache has it still"
    with pytest.raises(InputError, match="file or folder of a kernel not found"):
        found(opened, other)


def test_a_tree_that_is_followed(tool: Tool, opened: Opener, store: Store, tmp_path: Path) -> None:
    source = forms.tree(FILES, tmp_path)
    assert add(tool, source, "--follow")[0] == 0
    assert "sha256" not in Path("kernels.yml").read_text()
    first, _ = found(opened, store)
    image = make_kernel(MINE, release="6.9.2-mine")
    (source / "arch/mine/boot/Image").write_bytes(image)
    second, kept = found(opened, store)
    assert (first.release, second.release) == (RELEASE, "6.9.2-mine")
    assert store.verified(kept.image).read_bytes() == image
    assert first.parts[0].sha256 != second.parts[0].sha256


def test_an_address_that_is_no_web_address(tool: Tool) -> None:
    done = tool("kernels", "add", "mine", "file:///boot/vmlinuz", "--sha256", "0" * 64)
    refused(done, "file:///boot/vmlinuz: a kernel's URL must start with http:// or https://")


def test_a_kernel_from_a_url(tool: Tool, opened: Opener, store: Store, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    source = forms.apk(FILES, tmp_path / "served")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    with serve(tmp_path / "served") as server:
        url = f"{server.address}/{source.name}"
        for more, message in (
            ((), "a kernel from a URL needs its SHA-256"),
            (("--sha256", "0" * 64), "is corrupt: expected SHA-256"),
        ):
            done = tool("kernels", "add", "mine", url, *more)
            assert (done.returncode, message in done.stderr) == (2 if not more else 3, True), done.stderr
        gone = tool("kernels", "add", "mine", f"{url}x", "--sha256", digest)
        assert (gone.returncode, "does not exist on the server" in gone.stderr) == (3, True)
        assert tool("kernels", "add", "mine", url, "--sha256", digest).returncode == 0
        assert entry_of()["parts"] == [
            {"kind": "apk", "url": url, "sha256": digest, "size_bytes": source.stat().st_size}
        ]
        assert found(opened, Store(tmp_path / "other"))[0].release == RELEASE
    assert found(opened, store)[0].parts[0].sha256 == digest


def test_a_lock_holds_the_digest(tool: Tool, opened: Opener, store: Store, tmp_path: Path) -> None:
    source = forms.tree(FILES, tmp_path)
    add(tool, source, "--follow")
    profile = with_custom_kernels(PROFILES, Path("kernels.yml"))["aarch64"]
    free = builder(opened, store)
    kernel = find_kernel("mine", profile.own["mine"], profile, free)
    lock = free.archive.resolved()
    assert lock.kernels["arm64/own/mine"] == kernel
    locked = Builder(store, opened(lock=lock))
    assert find_kernel("mine", profile.own["mine"], profile, locked) == kernel
    (source / ".config").write_bytes(CONFIG + b"CONFIG_MORE=y\n")
    with pytest.raises(BuildError, match="kernel mine differs from the locked one"):
        find_kernel("mine", profile.own["mine"], profile, locked)


def test_list_and_remove(tool: Tool, tmp_path: Path) -> None:
    add(tool, forms.deb(FILES, tmp_path))
    listed = tool("kernels", "--arch", "aarch64", "--offline").stdout
    assert [line.split()[1:] for line in listed.splitlines() if " mine " in line] == [
        ["mine", RELEASE, "linux-image.deb"]
    ]
    refused(tool("kernels", "remove", "min"), "kernels.yml has no kernel 'min'. Did you mean 'mine'?")
    refused(tool("kernels", "remove", "mine", "--arch", "armv7"), "kernels.yml has no kernel 'mine' for armv7")
    assert tool("kernels", "remove", "mine").returncode == 0
    assert " mine " not in tool("kernels", "--arch", "aarch64", "--offline").stdout


def test_a_name_that_no_file_can_hold_is_not_written(tool: Tool, tmp_path: Path) -> None:
    """Else kernels.yml would be no YAML afterwards, and no command would run beside it."""
    file = written(tmp_path / "k\udcff", make_kernel(PROFILES["armv7"]))
    refused(tool("kernels", "add", "mine", str(file), "--arch=armv7"), "the file name is not valid UTF-8")
    assert tool("plan", "hello", "--arch", "armv7").returncode == 0


def test_a_kernel_is_a_file_that_stays(tool: Tool, tmp_path: Path) -> None:
    refused(tool("kernels", "add", "mine", "/dev/stdin", "--arch=armv7"), "/dev/stdin: not a file that stays")
    file = written(tmp_path / "zImage", make_kernel(PROFILES["armv7"]))
    refused(tool("kernels", "add", "mine", str(file), "--arch=x86_64"), "zImage: boot/vmlinuz is not a kernel of this")


def test_two_architectures_of_a_name(tool: Tool, tmp_path: Path) -> None:
    add(tool, forms.deb(FILES, tmp_path))
    other = tool(
        "kernels", "add", "mine", str(written(tmp_path / "zImage", make_kernel(PROFILES["armv7"]))), "--arch=armv7"
    )
    assert other.returncode == 0, other.stderr
    done = tool("plan", "hello", "--arch", "aarch64,armv7,x86_64", "--kernel", "mine")
    assert "hello/aarch64/mine" in done.stdout
    assert "hello/armv7/mine" in done.stdout
    assert "x86_64 has no kernel 'mine'" in " ".join(done.stdout.split())


PART = "{kind: deb, path: x.deb}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kernels: {mine: {aarch65: {parts: [" + PART + "]}}}",
            "kernels.yml:1: unknown architecture 'aarch65'. Did you mean",
        ),
        (
            'kernels:\n  "6.1":\n    aarch64: {parts: [' + PART + "]}",
            "kernels.yml:2: '6.1' is the name of an archive kernel",
        ),
        (
            "kernels:\n  mine:\n    aarch64: {parts: [{kind: debb, path: x}]}",
            "kernels.yml:3: unknown kind 'debb'. Did you",
        ),
        (
            "kernels: {mine: {aarch64: {parts: [{kind: deb}]}}}",
            "kernels.yml:1: set exactly one of 'path', 'url' and 'image'",
        ),
        ("kernels: {mine: {aarch64: {parts: []}}}", "kernels.yml:1: 'parts' is empty"),
        ("kernels: {mine: {aarch64: {part: []}}}", "kernels.yml:1: unknown key 'part'. Did you mean 'parts'?"),
        ("kernels: [mine]", "kernels.yml:1: 'kernels' must be a mapping"),
        ("mine: {}", "kernels.yml:1: unknown key 'mine'"),
    ],
)
def test_a_faulty_file(tool: Tool, tmp_path: Path, text: str, message: str) -> None:
    Path("kernels.yml").write_text(text)
    refused(tool("plan", "hello", "--kernel", "mine"), message)


def test_the_file_may_be_elsewhere(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTMATRIX_KERNELS", str(tmp_path / "etc/own.yml"))
    source = forms.deb(FILES, tmp_path)
    refused(tool("kernels", "add", "mine", str(source)), "own.yml: no such folder")
    (tmp_path / "etc").mkdir()
    assert tool("kernels", "add", "mine", str(source)).returncode == 0
    data = yaml.safe_load((tmp_path / "etc/own.yml").read_text())
    assert data["kernels"]["mine"]["aarch64"]["parts"][0]["path"] == "../linux-image.deb"
    assert "hello/aarch64/mine" in tool("plan", "hello", "--kernel", "mine", "--arch", "aarch64").stdout
    assert json.dumps(data)


def test_one_module_is_not_two(tmp_path: Path) -> None:
    """A folder of another checkout, with a module less, would be the known one."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    digest = hashlib.sha256(b"b").hexdigest()
    (tmp_path / f"one/a.ko\n{digest}  b.ko").write_text("a")
    (tmp_path / "two/a.ko").write_text("a")
    (tmp_path / "two/b.ko").write_text("b")
    assert digest_of("modules", tmp_path / "one") != digest_of("modules", tmp_path / "two")
