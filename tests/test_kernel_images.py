"""Kernels in container images, as LinuxKit has them: added by a name, or named by a spec."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import kernel_forms as forms
from archive_client import Opener
from bootmatrix.assembly.assemble import build
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.kernel.custom import find_kernel, find_spec_kernel
from bootmatrix.assembly.kernel.package import KernelFiles, kernel_key, known_files
from bootmatrix.errors import BuildError
from bootmatrix.load.kernels import with_custom_kernels
from bootmatrix.load.merge import load_spec
from bootmatrix.model import Kernel
from bootmatrix.store import Store
from command_line import Tool, refused
from image_maker import Made, make_image, write_layout
from kernel_forms import CONFIG, PROFILES, RELEASE, kernel_files, make_kernel
from kitchen import unpacked
from registry_fixtures import Running

pytest_plugins = ("archive_fixtures", "command_line", "registry_fixtures")

MINE = PROFILES["aarch64"]
IMAGE = make_kernel(MINE)
MODULES = {name: data for name, data in kernel_files(IMAGE).items() if name.startswith("lib/")}
UCODE = forms.cpio({"kernel/x86/microcode/GenuineIntel.bin": b"microcode"})


def linuxkit_image(release: str = RELEASE, **more: bytes) -> Made:
    """What LinuxKit's kernel images hold."""
    modules = {name.replace(RELEASE, release): data for name, data in MODULES.items()}
    image = make_kernel(MINE, release=release)
    whole = {"kernel": image, "kernel.tar": forms.tar(modules), "kernel_config": CONFIG, **more}
    return make_image(forms.tar(whole), platform="linux/arm64")


@pytest.fixture
def builder(opened: Opener, store: Store) -> Builder:
    return Builder(store, opened())


def kept(kernel: Kernel, builder: Builder) -> KernelFiles:
    files = known_files(kernel_key(kernel), builder.store)
    assert files
    return files


def added(builder: Builder, name: str = "mine") -> Kernel:
    """A kernel of kernels.yml, as a cell finds it."""
    profile = with_custom_kernels(PROFILES, Path("kernels.yml"))["aarch64"]
    return find_kernel(name, profile.kernels_of(profile.default_machine())[name], profile, builder)


def test_a_kernel_of_a_registry_is_pinned(tool: Tool, plain: Running, builder: Builder) -> None:
    made = linuxkit_image()
    plain.pusher.push("kernel", made)
    source = f"docker://{plain.host}/kernel:1"
    refused(tool("kernels", "add", "mine", source), "may be an image for several architectures")
    done = tool("kernels", "add", "mine", source, "--arch", "aarch64")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"mine for aarch64: Linux {RELEASE}, in kernels.yml"
    entry = yaml.safe_load(Path("kernels.yml").read_text())["kernels"]["mine"]["aarch64"]
    digest = made.digest.removeprefix("sha256:")
    assert entry["parts"] == [{"kind": "oci", "image": source, "sha256": digest}]
    plain.pusher.push("kernel", linuxkit_image("6.9.2-other"))  # the tag means another one now
    kernel = added(builder)
    assert (kernel.release, kernel.parts[0].sha256) == (RELEASE, digest)
    files = kept(kernel, builder)
    assert builder.store.verified(files.image).read_bytes() == IMAGE
    assert files.config
    assert builder.store.verified(files.config).read_bytes() == CONFIG
    assert set(files.modules) == {"mod_a", "mod_b"}


def test_a_kernel_of_an_images_file(tool: Tool, builder: Builder, tmp_path: Path) -> None:
    write_layout(tmp_path, {"a:1": linuxkit_image(), "a:2": linuxkit_image("6.9.2-other")})
    done = tool("kernels", "add", "mine", "oci:layout:a:2", "--arch", "aarch64", "--follow")
    assert done.returncode == 0, done.stderr
    assert added(builder).release == "6.9.2-other"
    refused(
        tool("kernels", "add", "other", "oci:layout:a:3", "--arch", "aarch64"),
        "has no image 'a:3'; available: a:1, a:2",
    )
    refused(tool("kernels", "add", "other", "oci:none", "--arch", "aarch64"), "none not found")
    refused(tool("kernels", "add", "spec", "oci:layout:a:1", "--arch", "aarch64"), "'spec' is a reserved kernel name")


SPEC = "kernel: {{image: 'oci:layout', {more}}}\ninit: [linuxkit/init:1]\n"


def spec_kernel(builder: Builder, tmp_path: Path, made: Made, more: str = "") -> tuple[Kernel, KernelFiles]:
    write_layout(tmp_path, made)
    (tmp_path / "s.yml").write_text(SPEC.format(more=more))
    kernel = find_spec_kernel(load_spec(tmp_path / "s.yml"), MINE, builder)
    return kernel, kept(kernel, builder)


def test_the_kernel_that_a_spec_names(builder: Builder, tmp_path: Path) -> None:
    made = linuxkit_image(ucode=UCODE, other=make_kernel(MINE, release="6.9.3-x"), old=make_kernel(MINE))
    kernel, files = spec_kernel(builder, tmp_path, made)
    assert (kernel.name, kernel.release, files.form, files.ucode) == ("spec-s", RELEASE, "Image", None)
    assert set(files.modules) == {"mod_a", "mod_b"}
    _, files = spec_kernel(builder, tmp_path, made, "ucode: ucode")
    assert files.ucode
    assert builder.store.verified(files.ucode[0]).read_bytes().rstrip(b"\0") == UCODE.rstrip(b"\0")
    assert files.ucode[1] % 4 == 0
    kernel, files = spec_kernel(builder, tmp_path, made, "binary: other, tar: none")
    assert (kernel.release, files.modules) == ("6.9.3-x", {})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("binary: bzImage", "has no file bzImage; available: kernel, kernel.tar, kernel_config"),
        ("tar: modules.tar", "has no file modules.tar"),
        ("ucode: intel-ucode.cpio", "has no file intel-ucode.cpio, or it is not a cpio archive"),
        ("ucode: kernel_config", "has no file kernel_config, or it is not a cpio archive"),
    ],
)
def test_files_that_a_kernel_image_has_not(builder: Builder, tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(BuildError) as caught:
        spec_kernel(builder, tmp_path, linuxkit_image(), more)
    assert message in str(caught.value)


def test_a_kernel_image_with_a_damaged_archive(builder: Builder, tmp_path: Path) -> None:
    made = linuxkit_image(broken=b"nothing of the kind")
    with pytest.raises(BuildError, match="broken is not a tar archive, or a damaged one"):
        spec_kernel(builder, tmp_path, made, "tar: broken")


def test_the_kernels_of_a_matrix_and_that_of_a_spec(tool: Tool, tmp_path: Path) -> None:
    """The axis decides; `spec` on it is the kernel that the spec names, and a spec that names none is skipped."""
    rest = "init: [linuxkit/init:1]\nonboot: [{name: a, image: 'linuxkit/a:1'}]\n"
    (tmp_path / "with.yml").write_text("kernel: {image: 'linuxkit/kernel:6.12'}\n" + rest)
    (tmp_path / "without.yml").write_text(rest)
    done = tool("plan", "with.yml", "without.yml", "--arch", "aarch64", "--kernel", "6.1,spec")
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    for cell in ("with/aarch64/6.1", "with/aarch64/spec", "without/aarch64/6.1"):
        assert cell in shown
    assert "the spec names no kernel image of its own" in shown
    refused(tool("plan", "without.yml", "--arch", "aarch64", "--kernel", "spec"), "no spec here names a kernel image")
    alone = tool("plan", "with.yml", "--arch", "aarch64")
    assert "with/aarch64/6.1" in alone.stdout
    assert "with/aarch64/spec" not in alone.stdout


@pytest.mark.parametrize(("bind", "there"), [("/lib/modules:/lib/modules:ro", True), ("/lib:/mnt", False)])
def test_a_container_that_sees_the_modules_finds_them_all(
    builder: Builder, tmp_path: Path, bind: str, there: bool
) -> None:
    """As modprobe in LinuxKit's containers wants it; nothing else takes so much into memory."""
    write_layout(tmp_path, linuxkit_image(init=b"#!"))
    container = f"{{name: a, image: 'oci:layout', binds: ['{bind}'], command: [modprobe, mod_a], readonly: true}}"
    (tmp_path / "s.yml").write_text(f"kernel: {{image: 'oci:layout'}}\ninit: ['oci:layout']\nonboot: [{container}]\n")
    spec = load_spec(tmp_path / "s.yml")
    machine = MINE.machine(MINE.default_machine())
    made = build(spec, MINE, machine, find_spec_kernel(spec, MINE, builder), builder)
    assert made.initrd
    names = unpacked(made.initrd.file)
    assert (f"usr/lib/modules/{RELEASE}/modules.dep" in names) is there


def test_microcode_stands_before_all_else_of_an_initrd(builder: Builder, tmp_path: Path) -> None:
    """The kernel looks for it in the beginning, where nothing is packed yet (Documentation/arch/x86/microcode.rst)."""
    write_layout(tmp_path, linuxkit_image(ucode=UCODE, init=b"#!"))
    machine = MINE.machine(MINE.default_machine())
    initrds = []
    for more in ("ucode: ucode", "tar: kernel.tar"):
        (tmp_path / "s.yml").write_text(f"kernel: {{image: 'oci:layout', {more}}}\ninit: ['oci:layout']\n")
        spec = load_spec(tmp_path / "s.yml")
        made = build(spec, MINE, machine, find_spec_kernel(spec, MINE, builder), builder)
        assert made.initrd
        initrds.append(made.initrd.file.read_bytes())
    with_it, without = initrds
    assert with_it.startswith(UCODE)
    assert with_it.removeprefix(UCODE).lstrip(b"\0") == without
