"""Everything that `bootmatrix build` writes: what it is, that it boots, and that it is the same wherever it is made."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from bootmatrix.assembly.formats import output_formats
from bootmatrix.assembly.prebuilt_guest import disk_format
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.store import default_cache, sha256_of

pytestmark = pytest.mark.boots

BOOTMATRIX = [sys.executable, "-m", "bootmatrix.cli.main"]
X86 = [name for name, one in output_formats().items() if one.start != "card"]
ARM = ["raw-efi", "iso-efi", "iso-efi-initrd", "qcow2-efi", "gcp-efi", "rpi3"]
ALONE = ("kernel+iso", "dynamic-vhd")
"""Formats whose file has the name of another one's."""


def tool(*arguments: str | Path, cwd: Path, status: int = 0, environment: dict[str, str] | None = None) -> str:
    """What bootmatrix says, on either channel."""
    done = subprocess.run(
        [*BOOTMATRIX, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def build(folder: Path, arch: str, formats: list[str], prefix: str, **environment: str) -> None:
    """`hello` in some formats."""
    command = ("build", "hello", "--arch", arch, "-o", prefix, "--sbom", "-f", ",".join(formats))
    tool(*command, cwd=folder, environment=environment)


def build_all(folder: Path, **environment: str) -> None:
    """`hello` in all formats, on two prefixes, as two names are taken twice; and those of another architecture."""
    build(folder, "x86_64", [name for name in X86 if name not in ALONE], "all", **environment)
    build(folder, "x86_64", list(ALONE), "more", **environment)
    build(
        folder,
        "aarch64",
        ["raw-efi", "iso-efi", "iso-efi-initrd", "qcow2-efi", "gcp-efi", "rpi3"],
        "arm",
        **environment,
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything."""
    folder = tmp_path_factory.mktemp("built")
    build_all(folder)
    return folder


def test_names_are_those_of_linuxkit(built: Path) -> None:
    names = {path.name for path in built.iterdir()}
    linuxkit = {
        *("all-kernel", "all-initrd.img", "all-cmdline", "all-initrd.tar", "all.tar", "all.docker"),
        *("all-squashfs.img", "all-erofs.img", "more.iso", "all.iso", "all-efi.iso", "all-efi-initrd.iso"),
        *("all-bios.img", "all-efi.img", "all.qcow2", "all-efi.qcow2", "all.img.tar.gz", "all.raw", "all.vhd"),
        *("more.vhd", "all.vmdk", "arm.tar"),
    }
    assert linuxkit <= names
    assert not [name for name in names if name.startswith(".")], "nothing is left half-written"


BOOTED = ("all-squashfs.img", "all-bios.img", "all-efi.iso")
"""By QEMU itself from a root, by BIOS from a disk, by UEFI from a CD."""
SIMILAR = (*("all-initrd.img", "all-erofs.img", "more.iso", "all.iso", "all-efi.img", "all.img.tar.gz", "all.vhd"),)


@pytest.mark.parametrize("name", [*BOOTED, *(pytest.param(name, marks=pytest.mark.long) for name in SIMILAR)])
def test_boots_with_an_account_of_init(built: Path, name: str) -> None:
    said = tool("run", name, "--arch", "x86_64", "--offline", cwd=built)
    assert "pass: 1 of 1 results passed, and the guest exited as expected" in said
    assert "hello from x86_64" in said


LONG_ARM = [pytest.param(name, marks=pytest.mark.long) for name in ("arm-efi.iso", "arm-efi.img.tar.gz")]


@pytest.mark.parametrize("name", ["arm-efi.img", *LONG_ARM])
def test_boots_by_uefi_on_another_architecture(built: Path, name: str) -> None:
    boots_on("aarch64", built, name)


@pytest.mark.long
def test_boots_by_uefi_on_32_bits(tmp_path: Path) -> None:
    build(tmp_path, "armv7", ["raw-efi"], "small")
    boots_on("armv7", tmp_path, "small-efi.img")


def boots_on(arch: str, folder: Path, name: str) -> None:
    said = tool("run", name, "--arch", arch, "--offline", cwd=folder)
    assert "pass: 1 of 1 results passed" in said
    assert f"hello from {arch}" in said


@pytest.mark.parametrize(
    ("name", "form", "disk"),
    [
        ("all.raw", "raw", "all-bios.img"),
        ("all.vhd", "vpc", "all-bios.img"),
        ("more.vhd", "vpc", "all-bios.img"),
        ("all.vmdk", "vmdk", "all-bios.img"),
        ("all.qcow2", "qcow2", "all-bios.img"),
        ("all-efi.qcow2", "qcow2", "all-efi.img"),
        ("arm-efi.qcow2", "qcow2", "arm-efi.img"),
    ],
)
def test_other_disks_have_the_content_of_one_that_boots(built: Path, name: str, form: str, disk: str) -> None:
    """As QEMU reads them, in the format that `bootmatrix run` takes them for."""
    assert disk_format(built / name) == form
    compare = ["qemu-img", "compare", "-f", "raw", "-F", form, disk, name]
    done = subprocess.run(compare, cwd=built, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_second_efi_iso_is_the_first(built: Path) -> None:
    for name in ("all", "arm"):
        assert sha256_of(built / f"{name}-efi-initrd.iso") == sha256_of(built / f"{name}-efi.iso")


def test_a_disk_of_a_guest_that_fails_is_no_pass(tmp_path: Path, built: Path) -> None:
    """The account is held against what was built: with another one's, the same disk is refused."""
    shutil.copyfile(built / "all-bios.img", tmp_path / "all-bios.img")
    told = json.loads((built / "all-bootable.json").read_text(encoding="utf-8"))
    told["bootable"]["onboot"] = ["hello", "another"]
    (tmp_path / "all-bootable.json").write_text(json.dumps(told), encoding="utf-8")
    assert "fail:" in tool("run", "all-bios.img", "--arch", "x86_64", "--offline", cwd=tmp_path, status=1)


def test_what_was_changed_is_not_booted(tmp_path: Path, built: Path) -> None:
    for name in ("all-efi.img", "all-bootable.json", "all.tar"):
        shutil.copyfile(built / name, tmp_path / name)
    with (tmp_path / "all-efi.img").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"x")
    said = tool("run", "all-efi.img", "--arch", "x86_64", "--offline", cwd=tmp_path, status=2)
    assert "all-efi.img: missing, or not the file that was built" in said
    assert "QEMU cannot boot directly" in tool("run", "all.tar", "--arch", "x86_64", cwd=tmp_path, status=2)
    assert "was built for x86_64" in tool("run", "all-efi.img", "--arch", "aarch64", cwd=tmp_path, status=2)
    assert "--shell is for" in tool("run", "all-efi.img", "--arch", "x86_64", "--shell", cwd=tmp_path, status=2)


@pytest.fixture
def other_cache(tmp_path: Path) -> Path:
    """A cache that has all downloads, and has built nothing."""
    cache, theirs = tmp_path / "cache", default_cache()
    (cache / "memo").mkdir(parents=True)
    (cache / "blobs").symlink_to(theirs / "blobs")
    made = {"format", "segment", "initrd", "image", "kernel", "kernel-form", "firmware", "disk"}
    for kind in (theirs / "memo").iterdir():
        if kind.name not in made:
            shutil.copytree(kind, cache / "memo" / kind.name)
    return cache


ELSEWHERE = {"TZ": "Pacific/Auckland", "LC_ALL": "C"}


@pytest.fixture
def other_folder(tmp_path: Path, other_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which all is made with another cache, umask, locale and time zone."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name, value in {**ELSEWHERE, "BOOTMATRIX_CACHE": str(other_cache), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    before = os.umask(0o077)
    yield folder
    os.umask(before)


def sums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}


def test_a_file_of_each_kind_is_the_same_wherever_it_is_made(built: Path, other_folder: Path) -> None:
    """An archive, a root, a CD and a disk with a file system for UEFI."""
    build(other_folder, "x86_64", ["kernel+initrd", "tar", "kernel+squashfs", "iso-bios", "raw-efi"], "all")
    made, before = sums(other_folder), sums(built)
    for name in ("all-bootable.json", "all.spdx.json"):  # they depend on the choice of formats
        del made[name]
    assert len(made) > 7
    assert made == {name: before[name] for name in made}
    assert (other_folder / "all.tar").stat().st_mode & 0o777 == 0o600, "the umask was another"


@pytest.mark.long
def test_every_file_is_the_same_wherever_it_is_made(built: Path, other_folder: Path) -> None:
    build_all(other_folder)
    assert len(sums(built)) > 30
    assert sums(other_folder) == sums(built)


def test_another_guest_has_another_disk(built: Path, tmp_path: Path) -> None:
    text = (specs_folder() / "hello.yml").read_text(encoding="utf-8")
    (tmp_path / "other.yml").write_text(text.replace("hello from", "greetings from"), encoding="utf-8")
    (tmp_path / "images").symlink_to((specs_folder() / "images").resolve())
    tool("build", "other.yml", "--arch", "x86_64", "-f", "raw-efi", "-o", "x", cwd=tmp_path)
    assert _guid(tmp_path / "x-efi.img") != _guid(built / "all-efi.img")


def _guid(disk: Path) -> bytes:
    """A disk's number in its GPT (UEFI 2.10, 5.3.2)."""
    with disk.open("rb") as file:
        header = file.read(1024)[512:]
    assert header.startswith(b"EFI PART")
    return header[56:72]


def test_the_sbom_is_valid_and_names_packages_with_digests(built: Path) -> None:
    document = parse_file(str(built / "all.spdx.json"))
    assert validate_full_spdx_document(document) == []
    versions = {package.name: package for package in document.packages}
    kernel = next(package for name, package in versions.items() if name.startswith("linux-image-"))
    for package in (versions["busybox-static"], versions["crun"], kernel):
        assert package.version
        assert len(package.checksums[0].value) == 64
    spoiled = parse_file(str(built / "all.spdx.json"))
    spoiled.packages[0].spdx_id = "no number"
    assert validate_full_spdx_document(spoiled)


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    """What is in a tar archive."""
    with tarfile.open(path) as archive:
        return {one.name: one for one in archive}


def test_archives_have_what_linuxkits_have(built: Path) -> None:
    root = members(built / "all.tar")
    assert {"init", "boot/kernel", "boot/cmdline", "containers/onboot/000-hello/config.json"} <= set(root)
    assert list(members(built / "all-initrd.tar")) == ["kernel", "initrd.img", "cmdline"]
    assert list(members(built / "all.img.tar.gz")) == ["disk.raw"]
    assert members(built / "all.img.tar.gz")["disk.raw"].size % (1 << 30) == 0
    assert (built / "all.raw").stat().st_size % (1 << 30) == 0
    card = {"kernel8.img", "initrd.img", "config.txt", "cmdline.txt", "bcm2837-rpi-3-b.dtb", "bcm2837-rpi-3-b-plus.dtb"}
    assert card == set(members(built / "arm.tar"))
    with tarfile.open(built / "all-initrd.tar") as archive, tarfile.open(built / "all.tar") as root_archive:
        initrd, kernel = archive.extractfile("initrd.img"), archive.extractfile("kernel")
        root_kernel = root_archive.extractfile("boot/kernel")
        assert initrd and kernel and root_kernel
        assert initrd.read() == (built / "all-initrd.img").read_bytes()
        assert root_kernel.read() == (as_it_came := kernel.read())
        assert as_it_came[514:518] == b"HdrS"  # a bzImage, as its package has it


def test_the_image_for_docker_holds_together(built: Path) -> None:
    with tarfile.open(built / "all.docker") as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file
            return file.read()

        saved = json.loads(read("manifest.json"))[0]
        index = json.loads(read("index.json"))
        manifest = json.loads(read("blobs/sha256/" + index["manifests"][0]["digest"].removeprefix("sha256:")))
        config = json.loads(read(saved["Config"]))
        layer = read(saved["Layers"][0])
    assert manifest["layers"][0]["digest"] == config["rootfs"]["diff_ids"][0]
    assert saved["Layers"][0].endswith(manifest["layers"][0]["digest"].removeprefix("sha256:"))
    assert layer == (built / "all.tar").read_bytes()
    assert config["config"]["Entrypoint"] == ["/init"]


def test_a_vhd_has_the_checksum_that_its_format_asks_for(built: Path) -> None:
    for name in ("all.vhd", "more.vhd"):
        data = (built / name).read_bytes()[-512:]
        total = sum(data[:64] + bytes(4) + data[68:])
        assert struct.unpack_from(">I", data, 64)[0] == ~total & 0xFFFFFFFF
    assert subprocess.run(["qemu-img", "check", built / "all.qcow2"], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("arch", "formats", "said"),
    [
        ("ppc64le", "raw-efi", "use kernel+initrd, which QEMU takes with -kernel"),
        ("aarch64", "raw-bios", "it has no BIOS"),
        ("x86_64", "rpi3", "x86_64 has no format rpi3"),
        ("x86_64", "row-bios", "Did you mean 'raw-bios'?"),
        ("x86_64", "vhd,dynamic-vhd", "would both be NAME.vhd"),
        ("x86_64", "tar -o - --sbom", "tar, an SBOM: several files, and the standard output takes one"),
        ("x86_64", "tar,docker -o -", "tar, docker: several files"),
        ("x86_64", ",", "',' contains no name"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arch: str, formats: str, said: str) -> None:
    command = ("build", "hello", "--arch", arch, "--offline", "-f", *formats.split(" "))
    assert said in tool(*command, cwd=tmp_path, status=2)
    assert not list(tmp_path.iterdir())


def test_the_standard_output_takes_a_format_of_one_file(tmp_path: Path) -> None:
    command = [*BOOTMATRIX, "build", "hello", "--arch", "x86_64", "-f", "tar", "-o"]
    for output in ("-", "beside"):
        done = subprocess.run([*command, output], cwd=tmp_path, stdout=subprocess.PIPE, check=True, timeout=300)
        if output == "-":
            assert not list(tmp_path.iterdir())
            streamed = done.stdout
    assert (tmp_path / "beside.tar").read_bytes() == streamed


@pytest.mark.parametrize("prefix", [".", "/", "..", "a/.."])
def test_a_folder_is_no_beginning_of_names(tmp_path: Path, prefix: str) -> None:
    command = ("build", "hello", "--arch", "x86_64", "--offline", "-o", prefix)
    assert "is a folder" in tool(*command, cwd=tmp_path, status=2)


def test_a_tool_that_is_missing_is_named_with_its_package(tmp_path: Path, other_cache: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("setpriv", "sh", "gpgv", "qemu-system-x86_64"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    command = ("build", "hello", "--arch", "x86_64", "--offline", "-f", "iso-bios", "--cache", other_cache)
    said = tool(*command, cwd=tmp_path, status=3, environment={"PATH": str(programs)})
    assert "xorriso is not installed" in said
    assert "apt-get install xorriso" in said


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No test leaves a folder in which something was made."""
    yield
    temporary = tmp_path / "cache" / "temp"
    assert not temporary.is_dir() or not list(temporary.iterdir())
