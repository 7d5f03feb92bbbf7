"""`bootmatrix try`: what a thing is, the project that is written for it, and all kinds of bad input. Boots little."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootmatrix.assembly.image.packages import local_debs
from bootmatrix.assembly.image.programs import file_packages
from bootmatrix.cli.first_look import check_host
from bootmatrix.errors import BuildError, HostError, InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.matrix import load_matrix
from bootmatrix.load.profile import load_profiles
from bootmatrix.load.spec import load_one
from bootmatrix.model import Cell, ImageRecipe, Matrix, Profile
from bootmatrix.model.run_config import SourceConfig
from bootmatrix.packaged import packaged
from bootmatrix.scaffold import source_tree
from bootmatrix.scaffold.debs import read_packages
from bootmatrix.scaffold.programs import choose_programs
from bootmatrix.scaffold.source_tree import copy_tree
from bootmatrix.scaffold.thing import Thing, find_thing
from bootmatrix.scaffold.trial import ImageLooks, write_trial
from bootmatrix.scaffold.trial_request import TrialRequest
from bootmatrix.source.elf import describe, read_program
from bootmatrix.workspace.trial import find_image_faults, find_image_ports, prepare_trial
from image_maker import files, make_image, make_index, write_layout
from small_archive import make_deb
from small_disk import run_on_small_disk

PROFILES = load_profiles([CHECKOUT / "arch"])
PROGRAM = Path(sys.executable).with_name("bootmatrix")


def header(profile: Profile, size: int = 64) -> bytes:
    """The beginning of a static program for an architecture."""
    data = bytearray(size)
    for rule in profile.programs[0].split():
        offset, _, text = rule.partition(":")
        data[int(offset) : int(offset) + len(text) // 2] = bytes.fromhex(text)
    return bytes(data)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def write(path: Path, data: str | bytes = "x\n", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(mode)
    return path


def deb(name: str, architecture: str, files: dict[str, bytes]) -> bytes:
    return make_deb(f"Package: {name}\nVersion: 1\nArchitecture: {architecture}\n", files)


def project(here: Path, request: TrialRequest) -> tuple[Path, Matrix]:
    """Write a project and load it: folder and matrix."""
    folder = here / "project"
    folder.mkdir()
    matrix, _ = write_trial(folder, request, PROFILES)
    return folder, load_matrix(matrix, PROFILES)


def tool(here: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "BOOTMATRIX_CACHE": str(here / "cache"), **({"PATH": path} if path is not None else {})}
    return subprocess.run(
        [PROGRAM, "try", *words], cwd=here, env=env, capture_output=True, text=True, check=False, timeout=60
    )


# Kinds of things


def test_each_kind_is_known_by_what_it_is(here: Path) -> None:
    write(here / "src/main.c")
    write(here / "tool", header(PROFILES["s390x"]), 0o755)
    write(here / "script", "#!/bin/sh\n", 0o755)
    write(here / "layout/oci-layout", "{}")
    with tarfile.open(here / "saved.tar", "w") as archive:
        archive.add(write(here / "manifest.json", "[]"), "manifest.json")
    with tarfile.open(here / "root.tar", "w") as archive:
        archive.add(write(here / "x"), "bin/x")
    assert find_thing([]).kind == "none"
    assert find_thing(["./src"]) == Thing("folder", ("src",))
    assert find_thing(["."]).kind == "folder"
    assert find_thing(["./tool"]) == Thing("program", ("tool",))
    assert find_thing(["./script"]).kind == "program"
    assert find_thing(["./dist/tool-{oci_arch}"]) == Thing("program", ("./dist/tool-{oci_arch}",))
    assert find_thing(["a.deb", "b.deb"]) == Thing("packages", ("a.deb", "b.deb"))
    assert find_thing(["redis:7"]) == Thing("image", image="docker://redis:7")
    assert find_thing(["bootmatrix/redis"]) == Thing("image", image="bootmatrix/redis")
    assert find_thing(["./layout"]).image == f"oci:{here}/layout"
    assert find_thing(["./saved.tar"]).image == f"docker-archive:{here}/saved.tar"
    assert find_thing(["./root.tar"]).image == f"tar:{here}/root.tar"
    assert find_thing(["docker-archive:saved.tar"]).image == f"docker-archive:{here}/saved.tar"


def test_what_is_nothing_of_these_or_two(here: Path) -> None:
    write(here / "redis/x")
    write(here / "notes.txt", "no archive\n")
    write(here / "spec.yml", "init: []\n")
    write(here / "secret", header(PROFILES["s390x"]), 0)
    os.mkfifo(here / "pipe")
    for words, message in {
        ("redis",): r"'redis' may be the folder \./redis or the image docker://redis",
        ("./none",): r"\./none: No such file",
        ("redis/tool",): r"redis/tool: file not found\n.*docker://redis/tool",
        ("A B",): "is not there, and cannot be an image's name",
        ("./notes.txt",): "a file of unknown kind",
        ("./spec.yml",): "a YAML file",
        ("./pipe",): "not a regular file or folder",
        ("./redis", "./notes.txt"): "2 things are named",
        ("oci:./none",): "none not found",
        ("",): "does not name",
    }.items():
        with pytest.raises(InputError, match=message):
            find_thing(words)
    if os.geteuid() != 0:
        with pytest.raises(InputError, match="cannot be read"):
            find_thing(["./secret"])


def test_an_archive_whose_header_is_larger_than_memory_is_of_no_kind(here: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 40
    header = member.tobuf(tarfile.GNU_FORMAT)
    (here / "plain.tar").write_bytes(header)
    (here / "packed.tar.gz").write_bytes(gzip.compress(header))
    for name in ("plain.tar", "packed.tar.gz"):
        with pytest.raises(InputError, match="a file of unknown kind"):
            find_thing([f"./{name}"])


def test_compressed_archives_are_known_by_their_members(here: Path) -> None:
    write(here / "manifest.json", "[]")
    for mode in ("gz", "xz", "bz2"):
        with tarfile.open(here / f"saved.tar.{mode}", f"w:{mode}") as archive:  # type: ignore[call-overload]
            archive.add(here / "manifest.json", "manifest.json")
        assert find_thing([f"./saved.tar.{mode}"]).image == f"docker-archive:{here}/saved.tar.{mode}"


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Thing("image", image="docker://ghcr.io/me/thing:v1@sha256:00"), "thing"),
        (Thing("image", image="docker://redis:7"), "redis"),
        (Thing("image", image="docker-archive:/a/my app.tar"), "my-app"),
        (Thing("program", ("./dist/tool-{oci_arch}",)), "tool"),
        (Thing("packages", ("./influxdb_1.8_{debian_arch}.deb",)), "influxdb"),
        (Thing("none"), "try"),
        (Thing("program", ("./---",)), "try"),
    ],
)
def test_the_name_of_a_cell(thing: Thing, name: str) -> None:
    assert thing.name == name


# Programs


def test_a_program_runs_where_its_header_says(here: Path) -> None:
    write(here / "tool", header(PROFILES["s390x"]), 0o755)
    thing = find_thing(["./tool"])
    folder, matrix = project(here, TrialRequest(thing, words=("--version",), arch=("all",)))
    assert {entry.arch for entry in matrix.exclude} == set(PROFILES) - {"s390x"}
    assert "program for 64-bit big-endian S390" in matrix.exclude[0].reason
    spec = load_one(folder / "tool.yml")[0]
    assert spec.services[0].command == ("/usr/local/bin/tool", "--version")
    assert spec.services[0].check == "5m"
    assert (folder / "images/tool/bin/tool").read_bytes() == header(PROFILES["s390x"])


def test_one_program_and_no_named_architecture(here: Path) -> None:
    write(here / "tool", header(PROFILES["s390x"]), 0o755)
    _, matrix = project(here, TrialRequest(find_thing(["./tool"]), arch=("all",), is_open=True))
    assert (matrix.arch, matrix.exclude) == (("s390x",), ())
    write(here / "dist/tool-s390x", header(PROFILES["s390x"]), 0o755)
    request = TrialRequest(find_thing(["dist/tool-{arch}"]), arch=("s390x", "armv7"), is_open=True)
    write(here / "dist/tool-armv7", header(PROFILES["s390x"]), 0o755)
    path, notes = write_trial(here / "other", request, PROFILES)
    assert notes == []
    reasons = [(entry.arch, entry.reason) for entry in load_matrix(path, PROFILES).exclude]
    assert reasons == [("armv7", "dist/tool-armv7 is a program for 64-bit big-endian S390, and not for armv7")]


def test_a_program_for_none_of_the_wanted_architectures(here: Path) -> None:
    write(here / "tool", header(PROFILES["s390x"]), 0o755)
    done = tool(here, "./tool", "--arch", "armv7,s390x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "tool is a program for 64-bit big-endian S390, and not for armv7\n  It is for --arch s390x.\n"
    )
    write(here / "alpha", b"\x7fELF\2\1\1" + bytes(11) + b"\x26\x90" + bytes(44), 0o755)
    done = tool(here, "./alpha")
    assert done.returncode == 2
    assert "no architecture is left" in done.stderr


def test_a_pipe_is_no_program_or_package(here: Path) -> None:
    """Of a folder that may be anybody's: nobody ever writes to it."""
    for name in ("tool-arm64", "x.deb"):
        os.mkfifo(here / name)
    with pytest.raises(InputError, match="not a regular file"):
        choose_programs("tool-{oci_arch}", ["aarch64"], PROFILES, explicit=True)
    with pytest.raises(InputError, match="not a regular file"):
        read_packages(["x.deb"], PROFILES)


def test_a_program_for_each_architecture(here: Path) -> None:
    for name, word in (("x86_64", "amd64"), ("s390x", "s390x")):
        write(here / f"dist/tool-{word}", header(PROFILES[name]), 0o755)
    write(here / "dist/tool-arm64", header(PROFILES["x86_64"]), 0o755)
    thing = find_thing(["dist/tool-{oci_arch}"])
    folder, matrix = project(here, TrialRequest(thing, arch=("x86_64", "s390x", "aarch64", "riscv64")))
    reasons = {entry.arch: entry.reason for entry in matrix.exclude}
    assert reasons["riscv64"] == "dist/tool-riscv64: No such file or directory"
    assert "is a program for 64-bit little-endian X86_64, and not for aarch64" in reasons["aarch64"]
    assert sorted(path.parent.name for path in folder.glob("images/tool/bin/*/tool")) == ["s390x", "x86_64"]
    with pytest.raises(InputError, match="not for aarch64"):
        write_trial(here / "other", TrialRequest(thing, arch=("aarch64",), is_explicit=True), PROFILES)
    with pytest.raises(InputError, match=r"unknown placeholder \{oci_arhc\}. Did you mean 'oci_arch'"):
        write_trial(here / "third", TrialRequest(find_thing(["tool-{oci_arhc}"]), arch=("s390x",)), PROFILES)


def test_a_folder_for_each_architecture(here: Path) -> None:
    write(here / "dist/all/s390x/run", b"#!/bin/sh\n", 0o755)
    advice = f"Name the folder of all: bootmatrix try {here}/dist/all -- sh -c '… $(uname -m) …'"
    for is_explicit in (True, False):
        with pytest.raises(InputError, match="dist/all/s390x: a folder, where a program is expected") as caught:
            choose_programs("dist/all/{oci_arch}", ["s390x"], PROFILES, explicit=is_explicit)
        assert advice in caught.value.hint


def test_a_program_and_facts(here: Path) -> None:
    write(here / "tool", header(PROFILES["s390x"]), 0o755)
    keys = {"endian": ["big"], "page_size": ["4k"]}
    _, matrix = project(here, TrialRequest(find_thing(["./tool"]), arch=("all",), keys=keys))
    assert (matrix.exclude, matrix.endian, matrix.page_size) == ((), ("big",), ("4k",))


@pytest.mark.parametrize("arch", PROFILES)
def test_each_architecture_knows_its_programs(arch: str) -> None:
    profile = PROFILES[arch]
    assert profile.programs
    data = header(profile)
    assert data[4] == {32: 1, 64: 2}[profile.bits]
    assert data[5] == {"little": 1, "big": 2}[profile.endian]
    assert "machine " not in describe(data)


def test_headers_that_are_damaged_are_left_to_the_guest() -> None:
    import io

    whole = Path(sys.executable).resolve().read_bytes()
    program = read_program(io.BytesIO(whole))
    assert program is not None
    assert "ld-" in program.interpreter
    assert any("libc" in name for name in program.libraries)
    for cut in range(0, 4096, 61):
        damaged = bytearray(whole[:8192])
        damaged[cut % 512] ^= 0xFF
        read_program(io.BytesIO(bytes(damaged[: 8192 - cut])))


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libssl.so.3", "libssl3"),
        ("libfoo2.so.1", "libfoo2-1"),
        ("libstdc++.so.6", "libstdc++6"),
        ("libdb-5.3.so", "libdb5.3"),
        ("/lib/ld-linux-armhf.so.3", "libc6"),
        ("/lib64/ld64.so.2", "libc6"),
        ("/lib/ld-musl-riscv64.so.1", "musl"),
    ],
)
def test_the_package_of_a_library(library: str, package: str) -> None:
    assert package in file_packages(library)
    assert file_packages("make") == ("make",)
    assert not file_packages("plugin.so")


# Source trees


def test_a_source_tree_is_copied_as_git_sees_it(here: Path) -> None:
    for name in ("main.c", ".git/config", "build/out.o", "keep/build.c", "a.log", "sub/b.log", "sub/important.log"):
        write(here / "tree" / name)
    write(here / "tree/run.sh", "#!/bin/sh\n", 0o750)
    write(here / "tree/.gitignore", "/build\n*.log\n")
    write(here / "tree/sub/.gitignore", "!important.log\n")
    (here / "tree/link").symlink_to("main.c")
    (here / "tree/away").symlink_to("../../etc/passwd")
    os.mkfifo(here / "tree/pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        os.chdir(here / "tree")
        unix.bind("socket")
        os.chdir(here)
    copied = copy_tree(here / "tree", here / "copy")
    found = sorted(str(path.relative_to(here / "copy")) for path in (here / "copy").rglob("*") if not path.is_dir())
    assert found == [
        *(".gitignore", "away", "keep/build.c", "link", "main.c", "run.sh", "sub/.gitignore", "sub/important.log"),
    ]
    assert (here / "copy/run.sh").stat().st_mode & 0o777 == 0o755
    assert (here / "copy/link").readlink() == Path("main.c")
    notes = list(copied.notes())
    assert notes[0].startswith("copied 8 files")
    assert notes[1:] == [
        "left out, as .gitignore says: a.log, build/, sub/b.log; --no-ignore copies them",
        "left out, as they are not files: pipe, socket",
        "links that lead out of the tree lead nowhere in the guest: away",
    ]


def test_tracked_files_are_copied_although_a_pattern_names_them(here: Path) -> None:
    for name in ("tests/data/a.log", "tests/data/b.log", "build/keep.txt", "build/out.o"):
        write(here / "repository/tree" / name)
    write(here / "repository/tree/.gitignore", "*.log\nbuild/\n")
    git = ("git", "-C", str(here / "repository"))
    subprocess.run((*git, "init", "--quiet"), check=True)
    subprocess.run((*git, "add", "--force", "tree/tests/data/a.log", "tree/build/keep.txt"), check=True)
    write(here / "watch", f"#!/bin/sh\ntouch {here}/owned\n", 0o755)
    subprocess.run((*git, "config", "core.fsmonitor", str(here / "watch")), check=True)
    copied = copy_tree(here / "repository/tree", here / "copy")
    assert sorted(str(path.relative_to(here / "copy")) for path in (here / "copy").rglob("*.*")) == [
        *(".gitignore", "build/keep.txt", "tests/data/a.log"),
    ]
    assert copied.ignored == ["build/out.o", "tests/data/b.log"]
    assert not (here / "owned").exists()
    everything = copy_tree(here / "repository/tree", here / "second", honours_ignore=False)
    assert (everything.files, everything.ignored) == (5, [])


def test_the_settings_of_a_source_tree_start_no_program(here: Path) -> None:
    write(here / "tree/sub/.gitignore", "*.o\n")
    write(here / "tree/sub/a.o")
    git = ("git", "-C", str(here / "tree"))
    for words in (
        ("init", "--quiet"),
        ("add", "--force", "sub"),
        ("update-index", "--skip-worktree", "sub/.gitignore"),
    ):
        subprocess.run((*git, *words), check=True)
    # git looks for patterns that are not checked out in the repository, and fetches what that lacks.
    (here / "tree/sub/.gitignore").unlink()
    shutil.rmtree(here / "tree/.git/objects")
    (here / "tree/.git/objects").mkdir()
    for name, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": str(here),
        "remote.origin.uploadpack": f"touch {here}/owned; false",
        "protocol.allow": "always",
        "protocol.file.allow": "always",
    }.items():
        subprocess.run((*git, "config", name, value), check=True)
    assert copy_tree(here / "tree", here / "copy").files == 1
    assert not (here / "owned").exists()


def test_a_program_behind_a_link_may_be_the_guests(here: Path) -> None:
    (here / "tree").mkdir()
    (here / "tree/tools").symlink_to("/opt/only-in-the-guest")
    (here / "copy").mkdir()
    (here / "copy/tools").symlink_to("/opt/only-in-the-guest")
    source_tree.check_program("tools/run", here / "tree", here / "copy")
    with pytest.raises(InputError, match="other/run is not in"):
        source_tree.check_program("other/run", here / "tree", here / "copy")


def test_a_source_tree_has_limits(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_tree, "MAX_FILES", 30)
    for number in range(29):
        write(here / f"tree/modules/{number}")
    write(here / "tree/a.c")
    copy_tree(here / "tree", here / "copy")
    (here / "tree/b.c").write_bytes(bytes(1000))
    with pytest.raises(InputError, match=r"more than 30 files to copy; most of it so far: modules\n") as caught:
        copy_tree(here / "tree", here / "second")
    assert ".gitignore" in caught.value.hint
    assert not list((here / "second").iterdir()), "it is counted before it is copied"
    with pytest.raises(InputError, match=r"more than 28 files to copy\n"):
        monkeypatch.setattr(source_tree, "MAX_FILES", 28)
        copy_tree(here / "tree/modules", here / "flat")
    monkeypatch.setattr(source_tree, "MAX_FILES", 100)
    monkeypatch.setattr(source_tree, "MAX_BYTES", 1 << 20)
    with (here / "tree/large").open("wb") as file:
        file.truncate(2 << 20)
    with pytest.raises(InputError, match="1 MiB to copy; most of it so far: large"):
        copy_tree(here / "tree", here / "third")


@pytest.mark.parametrize("pattern", ["*a" * 5 + "b", "**/a/" * 5 + "b"])
def test_patterns_that_take_hours_are_refused(here: Path, pattern: str) -> None:
    write(here / "tree/a", "x")
    write(here / "tree/.gitignore", f"# * * * * *\n*.o\n{'*_' * 4}\n{'*/' * 9}x\n")
    copy_tree(here / "tree", here / "copy")
    write(here / "tree/.gitignore", f"*.o\n{pattern}\n")
    with pytest.raises(InputError, match=r"tree/\.gitignore:2: more than 4 '\*' in a pattern"):
        copy_tree(here / "tree", here / "other")


def test_patterns_have_a_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_tree, "MATCHING_S", -1.0)
    write(here / "tree/a", "x")
    write(here / "tree/.gitignore", "*\n")
    with pytest.raises(InputError, match="takes too long to match"):
        copy_tree(here / "tree", here / "copy")


def test_a_source_tree_and_no_room_in_the_cache(here: Path) -> None:
    write(here / "tree/large", bytes(2 << 20))
    (here / "cache").mkdir()
    code = "import os, sys; os.execv(sys.argv[2], [*sys.argv[2:], '--cache', sys.argv[1], '--', 'true'])"
    done = run_on_small_disk(here / "cache", 1024, code, str(PROGRAM), "try", "./tree")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"bootmatrix: no space left for the cache in {here}/cache: ")


def test_a_source_tree_without_files(here: Path) -> None:
    write(here / "tree/.gitignore", "*\n")
    (here / "empty").mkdir()
    for name, hint in (("tree", "Is everything in .gitignore?"), ("empty", "The folder is empty.")):
        with pytest.raises(InputError, match="no file is left to copy") as caught:
            copy_tree(here / name, here / f"copy-{name}")
        assert caught.value.hint == hint
    if os.geteuid() != 0:
        write(here / "other/x", "", 0)
        with pytest.raises(InputError, match="cannot be copied"):
            copy_tree(here / "other", here / "second")
        (here / "closed/sub").mkdir(mode=0, parents=True)
        with pytest.raises(InputError, match="closed/sub: cannot be read"):
            copy_tree(here / "closed", here / "third")


def test_the_project_of_a_source_tree(here: Path) -> None:
    write(here / "hello/Makefile", "check:\n")
    thing = find_thing(["./hello"])
    request = TrialRequest(thing, words=("make", "check"), arch=("s390x", "x86_64/q35"), packages=("gcc", "make"))
    folder, matrix = project(here, request)
    recipe = yaml.safe_load((folder / "images/hello/build.yml").read_text(encoding="utf-8"))
    assert recipe == {
        "from": "@pkg:../hello-base",
        "files": [{"path": "src/hello", "source": "tree"}],
        "workdir": "/src/hello",
    }
    base = yaml.safe_load((folder / "images/hello-base/build.yml").read_text(encoding="utf-8"))
    assert base["from"] == "bootmatrix/debian-small"
    assert {"path": "usr/bin/cc", "symlink": "gcc"} in base["files"]
    (container,) = load_one(folder / "hello.yml")[0].services
    assert (container.command, container.cwd) == (("make", "check"), "/src/hello")
    assert matrix.arch == ("s390x", "x86_64")
    assert (matrix.kernel, matrix.timeouts.silence) == (("default",), 300.0)


@pytest.mark.parametrize(
    ("words", "packages", "expected"),
    [
        (("make", "check"), (), ["make", "gcc", "libc6-dev"]),
        (("cmake", "-S", "."), (), ["cmake", "make", "g++"]),
        (("make", "check"), ("make", "clang"), ["make", "clang"]),
        (("./run", "make"), (), None),
    ],
)
def test_a_usual_command_brings_its_packages(
    here: Path, words: tuple[str, ...], packages: tuple[str, ...], expected: list[str] | None
) -> None:
    write(here / "hello/run", "#!/bin/sh\n", 0o755)
    request = TrialRequest(find_thing(["./hello"]), words=words, arch=("s390x",), packages=packages)
    folder = here / "made"
    folder.mkdir()
    _, notes = write_trial(folder, request, PROFILES)
    base = folder / "images/hello-base/build.yml"
    assert (yaml.safe_load(base.read_text(encoding="utf-8"))["packages"] if base.exists() else None) == expected
    assert any("brings its packages; to replace them: --packages" in note for note in notes) == (
        expected is not None and not packages
    )


# Packages


def test_packages_by_architecture(here: Path) -> None:
    unit = "[Service]\nEnvironment=A=1\nEnvironmentFile=-/etc/default/x\nExecStart=-/usr/bin/xd -f\n"
    for architecture in ("amd64", "s390x"):
        data = deb("x", architecture, {"lib/systemd/system/x.service": unit.encode()})
        write(here / f"x_1_{architecture}.deb", data)
    write(here / "data_1_all.deb", deb("data", "all", {"usr/share/data": b"x"}))
    thing = find_thing(["./x_*_{debian_arch}.deb", "data_1_all.deb"])
    request = TrialRequest(thing, service="x", stays="2.1s", arch=("x86_64", "s390x", "armv7"))
    folder, matrix = project(here, request)
    assert [(entry.arch, entry.reason) for entry in matrix.exclude] == [
        ("armv7", "no package x for armhf among the files")
    ]
    assert sorted(str(path.relative_to(folder / "images/x/debs")) for path in folder.rglob("*.deb")) == [
        *("amd64/data.deb", "amd64/x.deb", "s390x/data.deb", "s390x/x.deb"),
    ]
    service, probe = load_one(folder / "x.yml")[0].services
    assert service.command is not None
    assert service.command[2].splitlines() == [
        "export A=1",
        "if [ -r /etc/default/x ]; then set -a; . /etc/default/x; set +a; fi",
        "exec /usr/bin/xd -f",
    ]
    assert "STAYS_S=3" in (probe.env or ())
    for words, message in {
        ("y",): r"the packages have no unit y\.service\. It has x\.service",
    }.items():
        with pytest.raises(InputError, match=message):
            write_trial(here / "other", TrialRequest(thing, service=words[0], arch=("s390x",)), PROFILES)


def test_a_unit_of_any_of_the_packages(here: Path) -> None:
    unit = b"[Service]\nExecStart=/usr/bin/xd\n"
    write(here / "data_1_all.deb", deb("data", "all", {"usr/share/data": b"x"}))
    write(here / "x_1_s390x.deb", deb("x", "s390x", {"usr/lib/systemd/system/x.service": unit}))
    thing = find_thing(["data_1_all.deb", "x_1_s390x.deb"])
    folder, _ = project(here, TrialRequest(thing, service="x", arch=("s390x",)))
    service = load_one(folder / "data.yml")[0].services[0]
    assert service.command == ("/bin/sh", "-c", "exec /usr/bin/xd")


def test_an_old_report_of_tests_is_not_the_runs(here: Path) -> None:
    write(here / "tree/t.sh", "exit 0", 0o755)
    junit = "<testsuite><testcase name='a'/></testsuite>"
    old = {"report.xml": junit, "out/a.xml": junit, "out/b.tap": "1..1\nok 1\n", "out/cut.xml": junit[:9]}
    kept = {"out/pom.xml": "<project/>", "out/c.txt": "x", "data.xml": junit, "sub/report.xml": junit}
    for name, text in {**old, **kept}.items():
        write(here / "tree" / name, text)
    results = ("/src/tree/report.xml", "/src/tree/out/*", "/src/tree/sub", "/src/tree", "/elsewhere/data.xml")
    request = TrialRequest(find_thing(["./tree"]), words=("./t.sh",), arch=("x86_64",), results=results)
    (here / "project").mkdir()
    _, notes = write_trial(here / "project", request, PROFILES)
    tree = here / "project/images/tree/tree"
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert files == {"t.sh", *kept}
    assert (
        notes[1] == "left out, as the command is to write what --get names: report.xml, out/a.xml, out/b.tap and 1 more"
    )


@pytest.mark.parametrize("kind", ["forking", "oneshot"])
def test_a_unit_whose_program_ends_is_for_systemd(here: Path, kind: str) -> None:
    unit = f"[Service]\nType={kind}\nExecStart=/usr/bin/xd\n".encode()
    write(here / "x_1_all.deb", deb("x", "all", {"lib/systemd/system/x.service": unit}))
    thing = find_thing(["x_1_all.deb"])
    with pytest.raises(InputError, match=f"x.service has Type={kind}"):
        write_trial(here / "other", TrialRequest(thing, service="x", arch=("x86_64",)), PROFILES)
    project(here, TrialRequest(thing, service="x", systemd=True, arch=("x86_64",)))


def test_packages_installed_for_systemd(here: Path) -> None:
    unit = b"[Service]\nExecStart=/usr/bin/xd\n"
    write(here / "x_1_all.deb", deb("x", "all", {"lib/systemd/system/x.service": unit}))
    thing = find_thing(["x_1_all.deb"])
    request = TrialRequest(thing, service="x", systemd=True, stays="3s", port=80, arch=("x86_64",), prepare=("true",))
    folder, _ = project(here, request)
    base = yaml.safe_load((folder / "images/x-base/build.yml").read_text(encoding="utf-8"))
    assert (base["from"], base["configure"], base["prepare"]) == ("bootmatrix/debian", True, ["true"])
    assert "systemd-sysv" in base["packages"]
    assert yaml.safe_load((folder / "images/x/build.yml").read_text(encoding="utf-8"))["configure"] is True
    spec = load_one(folder / "x.yml")[0]
    system, unit_probe, probe = spec.services
    assert (system.command, system.check) == (("/sbin/init",), None)
    assert any("UNIT='x.service' STAYS_S=3\n" in (file.contents or "") for file in spec.files)
    assert unit_probe.check
    assert probe.check
    with pytest.raises(InputError, match="--systemd needs --service"):
        write_trial(here / "other", TrialRequest(thing, words=("x",), systemd=True), PROFILES)
    with pytest.raises(InputError, match="have no unit y"):
        write_trial(here / "other", TrialRequest(thing, service="y", systemd=True, arch=("x86_64",)), PROFILES)


def test_roots_with_apt_are_prepared(here: Path) -> None:
    request = TrialRequest(find_thing([]), words=("x",), arch=("x86_64",), image="debian:13", packages=("jq",))
    folder, _ = project(here, request)
    base = yaml.safe_load((folder / "images/try-base/build.yml").read_text(encoding="utf-8"))
    assert (base["from"], base["packages"], base["configure"]) == ("bootmatrix/debian-13", ["jq"], True)


@pytest.mark.parametrize(
    ("commands", "written"),
    [
        (["apt-get install -y jq"], ["apt-get update", "apt-get install -y jq"]),
        (["true", "apt -y install jq && update-x"], ["true", "apt-get update", "apt -y install jq && update-x"]),
        (["apt-get -q update && apt-get install jq"], None),
        (["apt update", "apt install jq"], None),
        (["apt-get clean; make install", "adapt install"], None),
    ],
)
def test_apt_has_its_lists(here: Path, commands: list[str], written: list[str] | None) -> None:
    request = TrialRequest(find_thing([]), words=("x",), arch=("x86_64",), prepare=tuple(commands))
    folder, _ = project(here, request)
    base = yaml.safe_load((folder / "images/try-base/build.yml").read_text(encoding="utf-8"))
    assert base["prepare"] == (written or commands)


def test_packages_that_are_none(here: Path) -> None:
    write(here / "bad.deb", "x")
    for words, message in {
        ("none.deb", "--", "x"): "none.deb: no such package file",
        ("bad.deb", "--", "x"): "bad.deb is not a Debian package",
        ("bad.deb",): "packages need a command or --service",
    }.items():
        done = tool(here, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr


# Images and services


def test_an_image_is_started_and_looked_at(here: Path) -> None:
    request = TrialRequest(find_thing(["influxdb:1.8"]), arch=("x86_64",), port=8086, path="/ping", kernel=("6.1",))
    folder, _ = project(here, request)
    service, probe = load_one(folder / "influxdb.yml")[0].services
    assert (service.image, service.command, service.check) == ("docker://influxdb:1.8", None, None)
    assert probe.check == "130s"
    assert {"URL=http://127.0.0.1:8086/ping", "PORT=8086", "STAYS_S=10"} <= set(probe.env or ())


ASKED = "it answers at http://127.0.0.1:80/x"
REFUSED = "wget: can't connect to remote host (127.0.0.1): Connection refused"
PING = "http://127.0.0.1:80/ping"


@pytest.mark.parametrize(
    ("cmdline", "answers_at", "ends"),
    [
        ("quiet bootmatrix.scale=4 x", 20, "ok 3 - it still answers"),
        ("quiet bootmatrix.scale=4 x", 0, f"not ok 1 - {ASKED}: not within 12 s: connection refused"),
        ("quiet", 20, f"not ok 1 - {ASKED}: not within 3 s: connection refused"),
    ],
)
def test_a_slow_machine_has_longer_for_an_answer(here: Path, cmdline: str, answers_at: int, ends: str) -> None:
    """Limits of a probe are for the fastest machine, and a service may listen on IPv6 alone."""
    write(here / "cmdline", cmdline)
    wget = f'echo "$4" >>{here}/tries\n[ "$4" = "http://[::1]:80/x" ] && [ {answers_at} != 0 ] && '
    wget += f'[ $(wc -l <{here}/tries) -ge {answers_at} ] || {{ echo "{REFUSED}" >&2; false; }}'
    done = probe(here, wget, URL="http://127.0.0.1:80/x", PORT="80")
    assert done.stdout.splitlines()[-1] == ends
    assert done.returncode == ends.startswith("not")


def probe(here: Path, wget: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the probe with a clock that goes on by a second in each `sleep`."""
    write(here / "uptime", "7.12 3.45\n")
    sleep = f"read -r now rest <{here}/uptime; echo $((${{now%.*}} + 1)).12 3 >{here}/uptime"
    for name, text in {"wget": wget, "sleep": sleep, "timeout": 'shift; "$@"'}.items():
        write(here / f"bin/{name}", f"#!/bin/sh\n{text}\n", 0o755)
    script = packaged("scaffold/probe.sh", answer_s=3)
    for path in ("cmdline", "uptime", "net"):
        script = script.replace(f"/proc/{path}", str(here / path))
    env = {"PATH": f"{here}/bin:/usr/bin:/bin", "URL": "", "STAYS_S": "1"} | env
    return subprocess.run(["/bin/sh", "-c", script], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ("wget: server returned error: HTTP/1.1 500 Internal Server Error", 1, "HTTP status 500 Internal Server Error"),
        ("wget: server returned error: HTTP/1.0 404 Not Found", 1, "HTTP status 404 Not Found (expected 2xx)"),
        ("wget: error getting response: Connection reset by peer", 1, "connection reset"),
        ("wget: error getting response", 1, "connection closed without an HTTP response"),
        ("Terminated", 143, "no answer within 5 s"),
        ("wget: something else", 1, "wget: something else"),
        ("", 9, "wget ended with status 9"),
    ],
)
@pytest.mark.parametrize("only", ["127.0.0.1", "[::1]"])
def test_a_probe_says_why_there_is_no_answer(here: Path, only: str, said: str, status: int, reason: str) -> None:
    """An answer at one of the two addresses says more than that nothing listens at the other one."""
    write(here / "cmdline", "quiet")
    wget = f'case $4 in *"{only}"*) echo "{said}" >&2; exit {status} ;; *) echo "{REFUSED}" >&2; exit 1 ;; esac'
    done = probe(here, wget, URL=PING, PORT="80")
    told = only == "127.0.0.1" or (not said.endswith("else") and status != 9)
    reason = reason if told else "connection refused"
    assert done.stdout.splitlines()[-1].startswith(f"not ok 1 - it answers at {PING}: not within 3 s: {reason}")


def test_a_probe_of_a_port_says_that_nothing_listens(here: Path) -> None:
    write(here / "cmdline", "quiet")
    write(here / "net/tcp", "  0: 00000000:1F90 00000000:0000 0A\n")
    assert probe(here, "", PORT="8080").stdout.splitlines()[-1] == "ok 3 - it still answers"
    refused = "not ok 1 - it answers at port 8081: not within 3 s: connection refused, as nothing listens there"
    assert probe(here, "", PORT="8081").stdout.splitlines()[-1] == refused


def test_a_probe_says_why_the_answers_end(here: Path) -> None:
    write(here / "cmdline", "quiet")
    wget = f'[ ! -e {here}/asked ] && touch {here}/asked || {{ echo "{REFUSED}" >&2; false; }}'
    done = probe(here, wget, URL=PING, PORT="80")
    assert done.stdout.splitlines()[-1] == "not ok 3 - it still answers: connection refused"


@pytest.mark.parametrize(
    ("ports", "port", "said"),
    [
        ({"8086/tcp": {}, "8089/udp": {}}, 8086, "asks port 8086, the one that the image exposes. "),
        ({"80/tcp": {}, "443/tcp": {}}, 80, "asks port 80; the image exposes 80, 443. "),
        ({}, 80, "asks port 80. "),
    ],
)
def test_http_without_a_port_asks_the_only_one_of_the_image(
    here: Path, ports: dict[str, Any], port: int, said: str
) -> None:
    made = make_image(files(x="1"), config={"ExposedPorts": ports})
    write_layout(here, make_index({"linux/amd64": made}))
    sources = SourceConfig(here / "cache")

    def found(image: str, archs: Sequence[str]) -> tuple[int, ...]:
        return find_image_ports(image, archs, PROFILES, sources)

    request = TrialRequest(find_thing(["./layout"]), arch=("x86_64",), path="/ping")
    matrix, notes = prepare_trial(request, PROFILES, here / "cache", here / "out", ImageLooks(ports=found))
    service = load_one(matrix.parent / "layout.yml")[0].services[1]
    assert f"URL=http://127.0.0.1:{port}/ping" in (service.env or ())
    assert [f"--http /ping {said}To ask another one: --port N"] == notes


@pytest.mark.parametrize(
    ("lines", "is_answer"),
    [
        (["HTTP/1.1 302 Found", "Location: https://git.example/x", "wget: bad address"], True),
        (["HTTP/1.1 301 M", "location: /x", "HTTP/1.1 302 F", "Location: //git.example/", "wget: bad address"], True),
        (["HTTP/1.1 302 Found", "Location: http://localhost:80/x", "HTTP/1.1 500 Error", "wget: server error"], False),
        (["HTTP/1.1 302 Found", "Location: http://127.0.0.1/x", "wget: can't connect"], False),
        (["HTTP/1.1 302 Found", "Location: /login", "wget: too many redirections"], False),
        (["HTTP/1.1 500 Error", "Location: https://git.example/x", "wget: server error"], False),
        (["wget: can't connect to remote host"], False),
    ],
)
def test_a_redirect_that_leads_elsewhere_is_an_answer(here: Path, lines: list[str], is_answer: bool) -> None:
    write(here / "cmdline", "quiet")
    text = "".join(f"{'' if line.startswith('wget') else '  '}{line}\n" for line in lines)
    done = probe(here, f"cat >&2 <<'E'\n{text}E\nexit 1", URL=PING, PORT="80")
    assert (done.returncode == 0) is is_answer, done
    assert "Location" not in done.stdout


def test_an_image_that_is_not_for_all_architectures(here: Path) -> None:
    made = make_image(files(x="1"), platform="linux/amd64")
    write_layout(here, make_index({"linux/amd64": made, "linux/arm/v7": made}))
    thing, sources = find_thing(["./layout"]), SourceConfig(here / "cache")
    assert thing.kind == "image"

    def faults(image: str, cells: Sequence[Cell]) -> dict[str, str]:
        return find_image_faults(image, [cell.arch for cell in cells], PROFILES, sources)

    def written(name: str, **more: Any) -> Matrix:
        request = TrialRequest(thing, words=("true",), **more)
        return load_matrix(
            prepare_trial(request, PROFILES, here / "cache", here / name, ImageLooks(faults))[0], PROFILES
        )

    text = "has no image for linux/s390x; available: linux/amd64, linux/arm/v7"
    (skip,) = written("some", arch=("armv7", "s390x", "x86_64")).exclude
    assert (skip.arch, text in skip.reason) == ("s390x", True)
    assert not written("both", arch=("armv7", "x86_64"), is_explicit=True).exclude
    for more in ({"arch": ("s390x", "armv7"), "is_explicit": True}, {"arch": ("s390x",)}):
        with pytest.raises(InputError, match=text):
            written("none", **more)
    assert not (here / "none").exists()
    write_layout(here, made)
    done = tool(here, "./layout", "--arch", "x86_64,aarch64", "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("is for linux/amd64, expected linux/arm64\n  It is for --arch x86_64.\n")
    assert not list(here.glob("cache/*/*layout*")), "no project is left"
    write_layout(here, make_image(files(x="1"), platform="linux/s390x"))
    done = tool(here, "./layout", "--", "true")
    assert "is for linux/s390x, expected " in done.stderr
    assert done.stderr.endswith("\n  It is for --arch s390x.\n")


def test_an_image_with_a_command_and_an_environment(here: Path) -> None:
    thing = find_thing(["redis:7"])
    request = TrialRequest(thing, words=("redis-server", "--version"), arch=("x86_64",), env=("A=b=c",))
    folder, _ = project(here, request)
    (container,) = load_one(folder / "redis.yml")[0].services
    assert (container.command, container.check) == (("redis-server", "--version"), "5m")
    recipe = yaml.safe_load((folder / "images/redis/build.yml").read_text(encoding="utf-8"))
    assert recipe == {"from": "docker://redis:7", "env": {"A": "b=c"}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is nothing to run"),
        (("./tree",), "there is nothing to run: a command is missing"),
        (("./tree", "--port", "80"), "need a command that stays"),
        (("redis:7", "--service", "x"), "--service is for packages"),
        (("redis:7", "--packages", "gcc"), "--packages cannot be combined with an image"),
        (("x.deb", "--service", "x", "--", "curl", "localhost"), "--service starts what its unit says"),
        (("x.deb", "--service", "x", "--systemd", "--get", "/x.xml"), "--get cannot be combined with --systemd"),
        (("./tree", "--packages", "GCC", "--", "x"), "'GCC' cannot be the name of a package"),
        (("redis:7", "--port", "0"), "must be a number from 1 to 65535"),
        (("redis:7", "--http", "ping"), "--http 'ping' must be a path"),
        (("redis:7", "--env", "A"), "--env 'A' must be NAME=VALUE"),
        (("redis:7", "--get", "a.xml"), "--get 'a.xml' must be the absolute path"),
        (("redis:7", "--get", "/a/../b"), "must be the absolute path"),
        (("redis:7", "--get", "/a b"), "'/a b' cannot have spaces\n  Name it by a pattern: '/a?b'."),
        (("./saved-{oci_arch}.tar", "--arch", "x86_64"), "An archive alone: bootmatrix try saved-amd64.tar"),
        (("./saved-{oci_arch}.tar",), "An archive alone: bootmatrix try saved-amd64.tar"),
        (("redis:7", "--stays", "soon"), "'soon' is not a duration"),
        (("redis:7", "--memory", "2TB"), "--memory '2TB' is not an amount of memory such as"),
        (("redis:7", "--memory", "2M"), "--memory '2M': the memory of a guest is between"),
        (("redis:7", "--disk", "2TB"), "--disk '2TB' is not an amount of disk such as"),
        (("redis:7", "--arch", "x87"), "x87"),
        (("redis:7", "--arch", "s390x", "--kernel", "1.0"), "none of the selected architectures has a kernel '1.0'"),
        (("redis:7", "--arch", "s390x", "--page-size", "64k"), "No kernel of these architectures has such pages"),
        (("redis:7", "--no-ignore"), "--no-ignore is for a folder"),
        (("./tree", "--", "./prog"), "./prog is not in "),
        (("./tree", "--", "./x.c"), "./x.c in "),
        (("./tree", "--", "out/prog"), "out/prog is not copied, as .gitignore names it\n  Copy it, too: --no-ignore."),
        (("./tree", "--save", "tree", "--", "x"), "--save tree: exists, and is not an empty folder"),
        (("./tree", "--image", "./nowhere/at all", "--arch", "s390x", "--", "x"), "nowhere"),
    ],
)
def test_bad_input_is_one_message(here: Path, words: tuple[str, ...], message: str) -> None:
    write(here / "tree/x.c")
    write(here / "tree/.gitignore", "out\n")
    write(here / "tree/out/prog", "#!/bin/sh\n", 0o755)
    write(here / "saved-amd64.tar", "not a program")
    done = tool(here, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((here / "cache").rglob(".draft-*"))
    assert not (here / "reports").exists()


# The project's place


def test_the_same_trial_has_the_same_files(here: Path) -> None:
    write(here / "hello/Makefile", "check:\n")
    request = TrialRequest(find_thing(["./hello"]), words=("make",), arch=("s390x",))
    first, _ = prepare_trial(request, PROFILES, here / "cache", None)
    assert prepare_trial(request, PROFILES, here / "cache", None)[0] == first
    write(here / "hello/Makefile", "check: x\n")
    assert prepare_trial(request, PROFILES, here / "cache", None)[0] != first
    saved, _ = prepare_trial(request, PROFILES, here / "cache", here / "mine")
    assert saved == here / "mine/hello.matrix.yml"
    assert not list(here.rglob(".draft-*"))
    os.utime(first.parent, (0, 0))
    prepare_trial(request, PROFILES, here / "cache", None)
    assert not first.exists()


# The first look


def test_everything_that_is_missing_is_said_at_once(here: Path) -> None:
    write(here / "bin/true")
    done = tool(here, "--arch", "s390x,armv7", "--", "uname", path=str(here / "bin"))
    assert (done.returncode, done.stdout) == (3, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "bootmatrix: this host lacks what the run needs:"
    assert [line.split(":")[0].strip() for line in lines[1:5]] == [
        *("qemu-system-s390x", "qemu-system-arm", "setpriv", "gpgv"),
    ]
    if Path("/etc/debian_version").exists():
        assert lines[-1].split()[-4:] == ["qemu-system-misc", "qemu-system-arm", "util-linux", "gpgv"]
    assert not list((here / "cache/blobs/sha256").iterdir()), "nothing was downloaded"


def test_too_little_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.cli.first_look.LEAST_DISK_MIB", 1 << 40)
    with pytest.raises(HostError, match="GiB free at") as caught:
        check_host([PROFILES["x86_64"].machine("q35")], here, offline=True)
    assert "Free some" in caught.value.hint


def test_a_written_project_is_valid(here: Path) -> None:
    write(here / "hello/Makefile", "check:\n")
    request = TrialRequest(find_thing(["./hello"]), words=("make", 'a "quoted" word\n#'), arch=("s390x",))
    folder, _ = project(here, request)
    done = subprocess.run(
        [PROGRAM, "validate", *sorted(map(str, folder.rglob("*.yml")))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    (container,) = load_one(folder / "hello.yml")[0].services
    assert json.dumps(container.command) == json.dumps(["make", 'a "quoted" word\n#'])


@pytest.mark.parametrize("field", ["Package: ../../../out", "Package: /out", "Architecture: ../../out"])
def test_a_package_whose_name_is_a_path_is_refused(tmp_path: Path, field: str) -> None:
    fields = {"Package": "x", "Version": "1.0", "Architecture": "amd64"} | dict([field.split(": ")])
    control = "".join(f"{name}: {value}\n" for name, value in fields.items())
    path = tmp_path / "x_1.0_amd64.deb"
    path.write_bytes(make_deb(control, {}))
    with pytest.raises(InputError, match=f"the {field.split(':', maxsplit=1)[0]} is '.*out', which is invalid"):
        read_packages([str(path)], PROFILES)


def test_reports_of_earlier_trials_are_not_in_the_copy(here: Path) -> None:
    write(here / "tree/main.c")
    request = TrialRequest(find_thing(["./tree"]), words=("true",), arch=("x86_64",), reports=here / "tree/reports")
    first, _ = prepare_trial(request, PROFILES, here / "cache", None)
    write(here / "tree/reports/run/run.json")
    assert prepare_trial(request, PROFILES, here / "cache", None)[0] == first


def test_a_project_saved_in_the_tried_folder_is_not_in_its_own_copy(here: Path) -> None:
    write(here / "src/main.sh", "true\n")
    request = TrialRequest(find_thing(["."]), ("true",), ("x86_64",))
    prepare_trial(request, PROFILES, None, here / "out")
    (tree,) = (here / "out/images").glob("*/tree")
    assert sorted(path.name for path in tree.rglob("*")) == ["main.sh", "src"]


def test_a_pipe_among_packages_does_not_block(here: Path) -> None:
    os.mkfifo(here / "x.deb")
    with pytest.raises(BuildError, match=r"x\.deb is not a regular file"):
        local_debs(ImageRecipe(debs=("./x.deb",)), here / "build.yml", PROFILES["x86_64"])
