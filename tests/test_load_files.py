"""Profiles, matrices, images made from packages, and locks."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.errors import FileError, InputError
from bootmatrix.load import load_any
from bootmatrix.load.data_paths import arch_folders, specs_folder
from bootmatrix.load.lock import load_lock, save_lock
from bootmatrix.load.matrix import load_matrix
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import find_machine, load_profile, load_profiles
from bootmatrix.load.recipe import find_recipe, load_package, load_recipe, repository
from bootmatrix.model import ConsoleProof, Kernel, Lock, Package
from bootmatrix.plan import plan

PROFILES = load_profiles(arch_folders())

PROFILE = """\
description: a made-up one
names: {kernel: toy, qemu: toy, debian: toy64, oci: linux/toy, gnu: toy-linux-gnu, uname: toy}
endian: big
bits: 64
aliases: [plaything]
machines:
  board:
    description: the only one
    qemu: qemu-system-toy
    qemu_package: qemu-system-misc
    min_qemu: "8.0"
    machine: board
    memory_mib: 256
    console: ttyS0
    kernel_form: Image
    bus: virtio-mmio
    result: virtio-serial
    exit: poweroff
    time_factor: 1
kernels:
  "6.1": {flavour: toy64, suites: [bookworm]}
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file below an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        act()
    return str(caught.value)


# profiles


def test_a_profile_is_one_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("arch/toy.yml", PROFILE)
    assert load_any(path, PROFILES) == "a profile: 1 machine, 1 kernel"
    assert "toy" in load_profiles(arch_folders())
    write("elsewhere/toy.yml", PROFILE.replace("memory_mib: 256", "memory_mib: 300"))
    monkeypatch.setenv("BOOTMATRIX_ARCH", "elsewhere:arch")
    profiles = load_profiles(arch_folders())
    assert profiles["toy"].machines["board"].memory_mib == 300
    assert set(profiles) == {*PROFILES, "toy"}
    assert find_machine(profiles, "plaything/board") == (profiles["toy"], "board")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("console: ttyS0", "cosnole: ttyS0", "arch/toy.yml:14: unknown key 'cosnole'. Did you mean 'console'?"),
        ("bits: 64", "bits: 48", "arch/toy.yml:4: 'bits' must be 32 or 64, not the number 48"),
        ("bits: 64", 'bits: "64"', "arch/toy.yml:4: 'bits' must be 32 or 64, not the text '64'"),
        ("memory_mib: 256", "memory_mib: 1", "arch/toy.yml:13: 'memory_mib' is the number 1: input must be greater"),
        (
            "memory_mib: 256",
            "memory_mib: 1.5",
            "arch/toy.yml:13: 'memory_mib' must be a whole number, not the num",
        ),
        (
            '"8.0"',
            "8.0",
            "arch/toy.yml:11: 'min_qemu' must be text, not the number 8.0. Put it in quotes: \"8.0\"",
        ),
        ('"8.0"', "new", "arch/toy.yml:11: 'min_qemu' must be a version such as \"7.2\", not the text 'new'"),
        ("qemu: qemu-system-toy", "qemu: rm", "arch/toy.yml:9: 'qemu' must be the name of a QEMU system emulator"),
        ("linux/toy", "toy", "arch/toy.yml:2: 'oci' must be an OCI platform"),
        ("console: ttyS0", "console: ttyS0\n    dtb: a/b.dtb", "arch/toy.yml:15: 'dtb' must be the name of a file"),
        ("    bus: virtio-mmio\n", "", "arch/toy.yml:16: 'result' is virtio-serial, for which 'bus' must be"),
        ("exit: poweroff", "exit: poweroff\n    accelerators: [kmv]", "arch/toy.yml:19: unknown accelerator 'kmv'."),
        (
            "endian: big",
            "endian: big\nguest: {target: toy-linux-gnu}",
            "arch/toy.yml:4: 'target' must be",
        ),
        ('"6.1"', "6.1", "arch/toy.yml:21: a key must be text, and the number 6.1 is not. Put it in quotes"),
        ("suites: [bookworm]", "suites: []", "arch/toy.yml:21: 'suites' is empty"),
        ("aliases: [plaything]", "name: toy", "arch/toy.yml:5: unknown key 'name'."),
    ],
)
def test_faults_of_a_profile(write: Write, old: str, new: str, message: str) -> None:
    assert old in PROFILE
    path = write("arch/toy.yml", PROFILE.replace(old, new))
    assert refusal(lambda: load_profile(path)).startswith(message)


def test_semihosting_takes_a_qemu_that_has_it(write: Write) -> None:
    text = PROFILE.replace("exit: poweroff", "exit: semihosting")
    load_profile(write("arch/toy.yml", text))
    path = write("arch/toy.yml", text.replace('"8.0"', '"7.1"'))
    assert "from user space takes QEMU 7.2 or later" in refusal(lambda: load_profile(path))


def test_an_alias_belongs_to_one(write: Write) -> None:
    folder = write("profiles/toy.yml", PROFILE).parent
    write("profiles/zoo.yml", PROFILE)
    assert refusal(lambda: load_profiles([folder])) == (
        "profiles/zoo.yml:5: the alias 'plaything' is already an alias of 'toy'"
    )
    write("profiles/plaything.yml", PROFILE.replace("aliases: [plaything]", ""))
    assert "profiles/toy.yml:5: the alias 'plaything' is the name of another architecture" in refusal(
        lambda: load_profiles([folder])
    )


def test_no_profiles_at_all(tmp_path: Path) -> None:
    assert "no architectures" in refusal(lambda: load_profiles([tmp_path]))


def test_machines_are_found() -> None:
    for one in PROFILES.values():
        assert find_machine(PROFILES, one.name) == (one, one.default_machine())
        for alias in one.aliases:
            assert find_machine(PROFILES, alias)[0] is one
        for machine in one.machines:
            assert find_machine(PROFILES, f"{one.name}/{machine}") == (one, machine)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("aarch46", "unknown architecture 'aarch46'. Did you mean 'aarch64'?"),
        ("", "unknown architecture ''. Known: "),
        ("armv7/raspi2", "armv7 has no machine 'raspi2'. Did you mean 'raspi2b'?"),
        ("armv7/", "armv7 has no machine ''. Known: "),
        ("armv7/virt/x", "armv7 has no machine 'virt/x'."),
    ],
)
def test_machines_that_are_not_there(target: str, message: str) -> None:
    assert refusal(lambda: find_machine(PROFILES, target)).startswith(message)


# matrices

MATRIX = """\
specs: [a.yml, hello]
arch: [x86_64, armv7/raspi2b]
kernel: ["6.1", newest]
include:
  - {spec: b.yml, arch: ppc64el, kernel: 6.12-64k}
exclude:
  - {arch: armv7, kernel: newest, reason: slow}
xfail:
  - {spec: a, reason: known}
timeouts: {boot: 90s, silence: 2m, shutdown: 10}
retries: 2
"""

XFAIL = "xfail:\n  - {spec: a, reason: known}"


@pytest.fixture
def matrix(write: Write) -> Callable[[str], Path]:
    """Writes `m.matrix.yml` beside two specs."""
    write("a.yml", "init: []\n")
    write("b.yml", "init: []\n")
    return lambda text: write("m.matrix.yml", text)


def test_a_matrix(matrix: Callable[[str], Path]) -> None:
    path = matrix(MATRIX)
    found = load_matrix(path, PROFILES)
    assert (found.timeouts.boot, found.timeouts.silence, found.timeouts.shutdown) == (90, 120, 10)
    assert found.retries == 2
    assert load_any(path, PROFILES) == "a matrix: 2 specs, 9 cells before exclusions"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '["6.1", newest]',
            "[6.1]",
            "m.matrix.yml:3: 'kernel[0]' must be text, not the number 6.1. Put it in quotes",
        ),
        (
            '["6.1", newest]',
            '["6.1", nwest]',
            "m.matrix.yml:3: none of the selected architectures has a kernel 'nwest'. Did",
        ),
        ("[x86_64, ", "[x68_64, ", "m.matrix.yml:2: unknown architecture 'x68_64'. Did you mean 'x86_64'?"),
        ("raspi2b]", "rapsi2b]", "m.matrix.yml:2: armv7 has no machine 'rapsi2b'. Did you mean 'raspi2b'?"),
        ("hello]", "helo]", "m.matrix.yml:1: helo: file not found, and no shipped spec has this name. Did"),
        ("spec: b.yml", "spec: c.yml", "m.matrix.yml:5: c.yml: file not found"),
        (
            "kernel: 6.12-64k",
            "kernel: 6.13-64k",
            "m.matrix.yml:5: none of the selected architectures has a kernel '6.13-64k'",
        ),
        ("arch: armv7, kernel", "arch: arm9, kernel", "m.matrix.yml:7: unknown architecture 'arm9'."),
        (
            "arch: armv7, kernel",
            "arch: arm64, kernel",
            "m.matrix.yml:7: this entry of 'exclude' matches no cell of the matrix",
        ),
        ("{spec: a, reason", "{spec: z, reason", "m.matrix.yml:9: this entry of 'xfail' matches no cell of the matrix"),
        (", reason: slow", "", "m.matrix.yml:7: 'exclude[0]' has no 'reason'"),
        ("reason: slow", "reason: ''", "m.matrix.yml:7: 'reason' is empty"),
        ("reason: slow", "raeson: slow", "m.matrix.yml:7: unknown key 'raeson'. Did you mean 'reason'?"),
        ("reason: known", "reason: known, forbid: [bad]", "m.matrix.yml:9: unknown key 'forbid'"),
        ("xfail:", "console:", "m.matrix.yml:9: 'console[0]' has no 'text'"),
        (XFAIL, "console: {spec: z, text: fine}", "m.matrix.yml:8: this entry of 'console' matches no cell"),
        (XFAIL, 'console: ""', "m.matrix.yml:8: 'console' is empty"),
        (XFAIL, 'console: " "', "m.matrix.yml:8: 'console' must be one line of printable text, not"),
        (XFAIL, 'console: {text: "a\\nb"}', "m.matrix.yml:8: 'text' must be one line of printable text, not"),
        (XFAIL, "expect: {spec: z, reason: known}", "m.matrix.yml:8: this entry of 'expect' matches no cell"),
        (XFAIL, "expect: {stays: true}", "m.matrix.yml:8: an entry of 'expect' must have either 'reason'"),
        (XFAIL, "expect: {reason: a, console: b}", "m.matrix.yml:8: an entry of 'expect' must have either 'reason'"),
        (XFAIL, "expect: {reason: a, forbid: [b]}", "m.matrix.yml:8: 'forbid' and 'stays' require 'console'"),
        (XFAIL, "xfail:\n  raeson: known", "m.matrix.yml:9: unknown key 'raeson'. Did you mean 'reason'?"),
        (XFAIL, "resources: {mem: 1G}", "m.matrix.yml:8: unknown key 'mem'. Did you mean 'memory'?"),
        (XFAIL, "resources: {memory: 2048}", "m.matrix.yml:8: 'memory' must be text, not the number 2048."),
        (XFAIL, "resources: {cpus: 0}", "m.matrix.yml:8: 'cpus' is the number 0: input must be greater"),
        (XFAIL, "resources: {memory: 1M}", "m.matrix.yml:8: '1M': the memory of a guest is between"),
        (XFAIL, "resources: 1G", "m.matrix.yml:8: 'resources' must be an entry, or a list of some, not the text '1G'"),
        ("boot: 90s", "boot: 90x", "m.matrix.yml:10: 'boot': '90x' is not a duration such as '60s', '2m' or '1m30s'"),
        ("boot: 90s", "boot: true", "m.matrix.yml:10: 'boot': 'true' is not a duration"),
        ("boot: 90s", "boot: 0", "m.matrix.yml:10: 'boot': '0.000s' is not a duration"),
        ("boot: 90s", "boot: [5]", "m.matrix.yml:10: 'boot' must be a number, not a list"),
        ("boot: 90s", "boto: 90s", "m.matrix.yml:10: unknown key 'boto'. Did you mean 'boot'?"),
        (
            "retries: 2",
            "retries: 99",
            "m.matrix.yml:11: 'retries' is the number 99: input must be less than or equal",
        ),
        ("specs: [a.yml, hello]", "specs: []", "m.matrix.yml:1: 'specs' is empty"),
        ("retries: 2", "fail_on: [warning]", "m.matrix.yml:11: 'warning' must be one of kernel warning"),
    ],
)
def test_faults_of_a_matrix(matrix: Callable[[str], Path], old: str, new: str, message: str) -> None:
    assert old in MATRIX
    path = matrix(MATRIX.replace(old, new))
    assert refusal(lambda: load_matrix(path, PROFILES)).startswith(message)


@pytest.mark.parametrize("text", ["console: fine", "console: {text: fine}", "console: [{text: fine}]"])
def test_an_expectation_of_all_cells_need_not_be_a_list(matrix: Callable[[str], Path], text: str) -> None:
    loaded = load_matrix(matrix(MATRIX.replace(XFAIL, text)), PROFILES)
    assert [entry.proof for entry in loaded.console] == [ConsoleProof(console="fine")]
    assert not loaded.notes


def test_deprecated_expect_still_loads_with_a_note(matrix: Callable[[str], Path]) -> None:
    old = "expect: [{spec: a, reason: known}, {spec: a, console: fine, forbid: [bad], stays: true}]"
    path = matrix(MATRIX.replace(XFAIL, old))
    new = "xfail: {spec: a, reason: known}\nconsole: {spec: a, text: fine, forbid: [bad], stays: true}"
    before = load_matrix(path, PROFILES)
    described = load_any(path, PROFILES)
    now = load_matrix(matrix(MATRIX.replace(XFAIL, new)), PROFILES)
    assert (before.xfail, before.console, before.expect) == (now.xfail, now.console, ())
    assert before.notes == (
        f"{path}: 'expect' is deprecated: write 'xfail' (reason) or 'console' (text, forbid, stays)",
    )
    assert described.endswith(before.notes[0])
    assert "notes" not in plan(before, path.parent, PROFILES).model_dump()
    assert plan(before, path.parent, PROFILES).notes == before.notes
    assert plan(before, path.parent, PROFILES).cells == plan(now, path.parent, PROFILES).cells


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cmdline: x\n", "g.guest.yml:1: set at least one of 'kernel', 'initrd' and 'disk'"),
        ("disk: d\ncmdline: x\n", "g.guest.yml:2: 'cmdline' cannot be combined with a disk"),
        ("disk: d\nconsole: {}\n", "g.guest.yml:2: 'console' has no 'text'"),
        ("disk: d\nexpect: {}\n", "g.guest.yml:2: 'expect' has no 'console'"),
        ("disk: d\nconsole: a\nexpect: {console: a}\n", "g.guest.yml:3: 'expect' is the deprecated form"),
        ("dsik: d\n", "g.guest.yml:1: unknown key 'dsik'. Did you mean 'disk'?"),
        ("disk: d\ninit: [x]\n", "g.guest.yml:2: unknown key 'init'."),
    ],
)
def test_faults_of_a_guest_that_is_brought_along(write: Write, text: str, message: str) -> None:
    path = write("g.guest.yml", text)
    assert refusal(lambda: load_any(path, PROFILES)).startswith(message)


def test_a_guest_that_is_brought_along(write: Write) -> None:
    path = write("g.guest.yml", "disk: d\nconsole: fine\n")
    assert load_any(path, PROFILES) == "a prebuilt guest: disk"
    now = load_spec(path)
    old = load_spec(write("g.guest.yml", "disk: d\nexpect: {console: fine}\n"))
    assert now.own and old.own and now.own.proof == old.own.proof == ConsoleProof(console="fine")
    assert "'expect: {console: …}' is deprecated" in load_any(path, PROFILES)
    assert (now.notes, len(old.notes)) == ((), 1)


def test_specs_of_one_name_are_refused(matrix: Callable[[str], Path], write: Write) -> None:
    write("other/a.yml", "init: []\n")
    path = matrix('specs: [a.yml, other/a.yml]\narch: [all]\nkernel: ["6.1"]\n')
    assert "the specs a.yml and other/a.yml have the same name 'a'" in refusal(lambda: load_matrix(path, PROFILES))


def test_a_matrix_of_too_many_cells_is_refused_early(write: Write) -> None:
    spec = write("a.yml", "init: []\n")
    names = ", ".join(f'"k{number}"' for number in range(20_000))
    path = write("many.matrix.yml", f"specs: [{', '.join([spec.name] * 5000)}]\narch: [x86_64]\nkernel: [{names}]\n")
    started = time.process_time()
    with pytest.raises(FileError, match="the matrix has more than 100000 cells"):
        load_matrix(path, PROFILES)
    assert time.process_time() - started < 60, "a hundred million cells would take hours, and all memory"


def test_a_matrix_of_too_many_entries_is_refused_early(write: Write) -> None:
    spec = write("a.yml", "init: []\n")
    entries = "".join('  - {kernel: "6.1", reason: x}\n' for _ in range(15_000))
    kernels = ", ".join(['"6.1"', *(f'"k{number}"' for number in range(2000))])
    path = write("many.matrix.yml", f"specs: [{spec.name}]\narch: [x86_64]\nkernel: [{kernels}]\nxfail:\n{entries}")
    with pytest.raises(FileError, match="15000 entries for some of 2001 cells are too many"):
        load_matrix(path, PROFILES)


def test_a_matrix_answers_for_its_specs(matrix: Callable[[str], Path], write: Write) -> None:
    path = matrix(MATRIX)
    write("b.yml", "inti: []\n")
    assert refusal(lambda: load_any(path, PROFILES)) == "b.yml:1: unknown key 'inti'. Did you mean 'init'?"


# images


def test_where_an_image_is_found(write: Write) -> None:
    spec = write("sub/s.yml", "init: []\n")
    own = write("sub/images/mine/build.yml", "packages: [x]\n")
    above = write("above/build.yml", "packages: [x]\n")
    assert find_recipe("@pkg:./images/mine", spec).resolve() == own.resolve()
    assert find_recipe("@pkg:images/mine", spec).resolve() == own.resolve()
    assert find_recipe("@pkg:../above", spec).resolve() == above.resolve()
    shipped = specs_folder().resolve() / "images"
    for name in ("linuxkit/init:0123456789abcdef", "docker.io/linuxkit/init@sha256:00", "mobylinux/init"):
        assert find_recipe(name, spec) == shipped / "init" / "build.yml"


@pytest.mark.parametrize(
    ("reference", "repo"),
    [
        ("a", "a"),
        ("a:b", "a"),
        ("h:5000/a:b", "h:5000/a"),
        ("h:5000/a", "h:5000/a"),
        ("docker.io/library/a:b@sha256:c", "a"),
        ("docker.io/x/a", "x/a"),
        ("", ""),
    ],
)
def test_a_repository_is_without_tag_and_digest(reference: str, repo: str) -> None:
    assert repository(reference) == repo


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "linuxkit/intt:1",
            "no shipped image replaces 'linuxkit/intt:1'. Did you mean 'linuxkit/init'?\n  Create a folder",
        ),
        ("", "no shipped image replaces ''."),
        ("@pkg:", "'@pkg:' should name a folder relative to s.yml"),
        ("@pkg:/etc", "'@pkg:/etc' should name a folder relative to s.yml"),
        ("@pkg:./images/mien", "the image '@pkg:./images/mien': the folder images/mien is not there. Did you mean"),
        ("@pkg:./images", "the image '@pkg:./images': the folder images holds no build.yml."),
        ("@pkg:./" + "x" * 300, "'@pkg:./xxx"),
        ("@pkg:./a\0b", "'@pkg:./a\\x00b' should name a folder"),
    ],
)
def test_images_that_are_not_there(write: Write, reference: str, message: str) -> None:
    write("images/mine/build.yml", "packages: [x]\n")
    spec = write("s.yml", "init: []\n")
    assert refusal(lambda: find_recipe(reference, spec)).startswith(message)


def test_a_spec_is_valid_only_if_its_images_are_there(write: Write) -> None:
    spec = write("s.yml", 'init: ["@pkg:./none"]\nservices:\n  - name: a\n    image: nobody/NOTHING\n')
    lines = [line for line in refusal(lambda: load_any(spec, PROFILES)).splitlines() if line.startswith("s.yml")]
    assert lines[0].startswith("s.yml:1: the image '@pkg:./none': the folder none is not there.")
    assert lines[1].startswith("s.yml:4: 'nobody/NOTHING' is not a valid name of an image")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("package: [x]\n", "i/build.yml:1: unknown key 'package'. Did you mean 'packages'?"),
        ("base: x\n", "i/build.yml:1: unknown key 'base'."),
        ("from: '@pkg:../i'\n", "i/build.yml:1: '@pkg:../i' comes back to i/build.yml"),
        ("from: '@pkg:../j'\n", "i/build.yml:1: '@pkg:../j' comes back to"),
        ("files:\n  - {path: a, source: ../secret}\n", "i/build.yml:2: '../secret' lies outside of i"),
        ("files:\n  - {path: a, source: /etc/passwd}\n", "i/build.yml:2: '/etc/passwd' lies outside of i"),
        ("files:\n  - {path: a, source: away}\n", "i/build.yml:2: 'away' lies outside of i"),
        ("files:\n  - {path: a, source: none}\n", "i/build.yml:2: i/none is not there"),
        (
            "files:\n  - {path: a, source: 'bin/{debian_acrh}'}\n",
            "i/build.yml:2: unknown placeholder {debian_acrh}. Did you mean 'debian_arch'?",
        ),
        ("files:\n  - {path: a, source: '../{arch}'}\n", "i/build.yml:2: '../{arch}' lies outside of i"),
        ("files:\n  - {path: ../a, contents: x}\n", "i/build.yml:2: '../a' cannot be a path in an image"),
        ("files:\n  - {path: a}\n", "i/build.yml:2: the file 'a' has no content"),
        (
            "files:\n  - {path: a, contents: x, symlink: y}\n",
            "i/build.yml:2: the file 'a' has both contents and symlink",
        ),
        ("files:\n  - {path: a, contents: x, mode: '9'}\n", "i/build.yml:2: 'mode' must be octal such as"),
        (
            "files:\n  - {path: a, contents: x, mode: 0644}\n",
            "i/build.yml:2: 'mode' must be text, not the number 0644",
        ),
        ("debs: [/root/x.deb]\n", "i/build.yml:1: '/root/x.deb' must be a relative path of .deb files"),
        ("debs: [dist]\n", "i/build.yml:1: 'dist' must be a relative path of .deb files"),
        (
            "debs: ['a_{debian_acrh}.deb']\n",
            "i/build.yml:1: unknown placeholder {debian_acrh}. Did you mean 'debian_arch'?",
        ),
        ("debs: ['a_{x.__class__}.deb']\n", "i/build.yml:1: unknown placeholder {x.__class__}."),
        ("env: {'A=B': x}\n", "i/build.yml:1: 'A=B' is not a valid environment variable name"),
    ],
)
def test_faults_of_an_image(write: Write, text: str, message: str) -> None:
    path = write("i/build.yml", text)
    write("j/build.yml", "from: '@pkg:../i'\n")
    (path.parent / "away").symlink_to("/etc/hostname")
    assert refusal(lambda: load_recipe(path)).startswith(message)


def test_an_image_of_a_maintainers_own_build(write: Write) -> None:
    path = write("i/build.yml", "from: busybox\ndebs: ['../dist/x_*_{debian_arch}.deb']\n")
    assert load_recipe(path).debs == ("../dist/x_*_{debian_arch}.deb",)


def test_a_linuxkit_package_is_told_apart(write: Write) -> None:
    path = write("i/build.yml", "image: foo\norg: bar\n")
    write("i/Dockerfile", "FROM scratch\n")
    assert "i/build.yml: a LinuxKit package with a Dockerfile" in refusal(lambda: load_recipe(path))
    assert load_any(path, PROFILES) == "a LinuxKit package, built from its Dockerfile with a Docker engine"
    write("i/build.yml", "image: foo\narches:\nconfig: ~\n")
    assert load_package(path.parent).arches == ()
    write("i/build.yml", "image: foo\narches:\narches:\n")
    assert refusal(lambda: load_any(path, PROFILES)).startswith("i/build.yml:3: the key 'arches' is given twice")
    write("i/build.yml", "image: foo\nimag: bar\n")
    assert refusal(lambda: load_any(path, PROFILES)).startswith(
        "i/build.yml:2: unknown key 'imag'. Did you mean 'image'"
    )
    write("i/build.yml", "image: foo\ndockerfile: other\n")
    assert refusal(lambda: load_any(path, PROFILES)) == "i/build.yml:2: file not found: i/other"
    write("i/build.yml", f"image: foo\ndockerfile: {'x' * 300}\n")
    assert "i/build.yml:2: file not found: i/xxx" in refusal(lambda: load_any(path, PROFILES))


# locks

PACKAGE = Package(
    name="a", version="1", architecture="toy", suite="s", filename="p", size_bytes=1, sha256="0" * 64, depends=("b",)
)
LOCK = Lock(
    kernels={"toy/f/6.1": Kernel(name="6.1", release="6.1.0", version="1", architecture="toy", packages=(PACKAGE,))},
    packages={"toy": {"b": PACKAGE, "a": PACKAGE}},
)


def test_a_lock_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "m.matrix.lock"
    save_lock(LOCK, path)
    assert load_lock(path) == LOCK
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    text = path.read_text()
    assert text.index('"a": {') < text.index('"b": {')
    save_lock(LOCK.model_copy(update={"packages": {"toy": {"a": PACKAGE, "b": PACKAGE}}}), path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a lock file"),
        ("{}", "not a lock file: kernels: Field required"),
        ('{"format": 9, "kernels": {}, "packages": {}}', "unsupported format 9, expected 1"),
        ('{"format": "1", "kernels": {}, "packages": {}}', "not a lock file: format"),
        ("[" * 100_000, "not a lock file"),
        ("\ud800", "not a lock file"),
    ],
)
def test_what_is_no_lock(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.lock"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert f"{path}: {message}" in refusal(lambda: load_lock(path))


def test_a_lock_that_is_not_there_or_cannot_be(tmp_path: Path) -> None:
    assert "Create it with 'bootmatrix lock'" in refusal(lambda: load_lock(tmp_path / "x.lock"))
    assert "cannot be written" in refusal(lambda: save_lock(LOCK, tmp_path / "none" / "x.lock"))
    (tmp_path / "folder").mkdir()
    assert "cannot be written" in refusal(lambda: save_lock(LOCK, tmp_path / "folder"))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_faults_know_their_lines(write: Write) -> None:
    with pytest.raises(FileError) as caught:
        load_profile(write("arch/toy.yml", PROFILE.replace("bits: 64", "bits: 1").replace("ttyS0", "..")))
    assert [fault.line for fault in caught.value.faults] == [4, 14]
