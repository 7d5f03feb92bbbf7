"""Catalogues of kernels: what the files say, what is refused, and the commands that use them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from archive_client import Opener
from bootmatrix.bisect.kernels import Question, prepare_search
from bootmatrix.errors import InputError
from bootmatrix.load.catalogue import kernels_for, load_catalogues, with_catalogues
from bootmatrix.load.data_paths import CHECKOUT, specs_folder
from bootmatrix.source.repositories.versions import compare
from command_line import Tool, refused
from kernel_forms import PROFILES, kernel_files, make_kernel
from repositories import Pacman
from small_archive import Signer
from small_server import Server, serve

pytest_plugins = ("archive_fixtures", "command_line")

SHIPPED = load_catalogues([CHECKOUT / "kernels"])
MINIMAL = {
    "description": "of the tests",
    "format": "pacman",
    "keys": {"files": ["key.gpg"]},
    "architectures": {"x86_64": "x86_64"},
    "image": "linux",
    "kernels": {"mine-1": {"repositories": ["http://127.0.0.1:1/x core"]}},
}


@pytest.fixture(autouse=True)
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder's catalogues."""
    (tmp_path / "kernels").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "kernels"


def write(folder: Path, **changes: object) -> Path:
    path = folder / "mine.yml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}, sort_keys=False))
    return path


def test_what_is_shipped() -> None:
    found = {arch: {name for one in SHIPPED.values() for name, _ in kernels_for(one, arch)} for arch in PROFILES}
    assert len(SHIPPED) >= 12, "distributions, Debian among them"
    assert {"ubuntu-24.04", "fedora", "alma9", "rocky9", "al2023", "alpine-3.22", "archlinux"} <= found["x86_64"]
    assert {"ubuntu-24.04-64k", "centos-stream10-64k"} <= found["aarch64"] - found["x86_64"]
    assert {arch for one in SHIPPED.values() for arch in one.architectures} <= set(PROFILES)


def test_repositories_are_on_one_of_the_distributions_servers() -> None:
    for one in SHIPPED.values():
        for arch in one.architectures:
            for name, kernel in kernels_for(one, arch):
                assert all(text.startswith("http") and "{" not in text for text in kernel.repositories), name
                assert kernel.signed == "index" or all("https://" in text for text in kernel.repositories), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "ipkg"}, "kernels/mine.yml:2: 'format' must be 'apt', 'rpm-md', 'apk' or 'pacman'"),
        ({"signd": "index"}, "unknown key 'signd'. Did you mean 'signed'?"),
        ({"image": None}, "'image'"),
        ({"kernels": {"mine-1": {}}}, "'mine-1' has no 'repositories'"),
        ({"kernels": {"all": {"repositories": ["http://x core"]}}}, "'all' is a reserved kernel name"),
        ({"kernels": {"a": {"repositories": ["ftp://x core"]}}}, "must be of the form"),
        ({"kernels": {"a": {"repositories": ["http://x"]}}}, "'http://x' must be of the form 'ADDRESS DATABASE'"),
        (
            {"kernels": {"a": {"repositories": ["http://x/{arhc} core"]}}},
            "unknown placeholder {arhc}. Did you mean 'arch'?",
        ),
        ({"kernels": {"a": {"repositories": ["{address} core"]}}}, "the catalogue has no 'addresses'"),
        ({"keys": {"package": "x", "files": ["y"]}}, "'keys' has a package, and no suites"),
        ({"kernels": {"a": {"repositories": ["http://x c"], "architectures": ["arm"]}}}, "unknown architecture 'arm'"),
    ],
)
def test_a_faulty_file(tool: Tool, kernels: Path, changes: dict[str, object], message: str) -> None:
    write(kernels, **changes)
    refused(tool("validate", "kernels/mine.yml"), message)


def test_a_name_in_two_catalogues(kernels: Path) -> None:
    write(kernels).rename(kernels / "other.yml")
    write(kernels)
    with pytest.raises(InputError, match=r"other\.yml:\d+: 'mine-1' is a kernel of mine, too"):
        load_catalogues()


def test_an_own_catalogue_replaces_a_shipped_one(kernels: Path) -> None:
    write(kernels).rename(kernels / "fedora.yml")
    assert list(load_catalogues()["fedora"].kernels) == ["mine-1"]


def test_only_named_kernels_are_added(tool: Tool, kernels: Path) -> None:
    write(kernels)
    profiles = with_catalogues(PROFILES, ["mine-1", "6.1", "all"])
    assert list(profiles["x86_64"].catalogue) == ["mine-1"]
    assert with_catalogues(PROFILES, ["6.1"]) == PROFILES
    listed = tool("plan", "hello", "--arch", "x86_64", "--kernel", "all,mine-1").stdout
    assert ("hello/x86_64/mine-1" in listed, "ubuntu" in listed) == (True, False)
    assert "x86_64 has no kernel" not in tool("plan", "hello", "--arch", "x86_64", "--kernel", "mine-1").stdout
    Path("m.matrix.yml").write_text(f"specs: [{specs_folder()}/hello.yml]\narch: [x86_64]\nkernel: [mine-1, '6.1']\n")
    assert "hello/x86_64/mine-1" in tool("plan", "m.matrix.yml").stdout
    assert tool("validate", "m.matrix.yml").returncode == 0
    refused(tool("plan", "hello", "--arch", "x86_64", "--kernel", "mine-2"), "has a kernel 'mine-2'")


def test_order_of_versions() -> None:
    older = [
        "5.14.0-70~rc1",
        "5.14.0-70",
        "5.14.0-70.1",
        "5.14.0-570.el9",
        "6.1~rc2-1",
        "6.1-1",
        "6.1.9-1",
        "6.10-1",
        "1:4.18-1",
    ]
    assert all(compare(one, other) < 0 < compare(other, one) for one, other in pairwise(older))
    assert compare("6.1-1", "6.1-1") == 0


@pytest.fixture
def web(tmp_path: Path, signer: Signer, kernels: Path) -> Iterator[Server]:
    """A distribution of two releases."""
    entries: dict[str, object] = {}
    with serve(tmp_path / "served") as server:
        for release, versions in {"mine-1": ("6.9.1-1", "6.9.10-1"), "mine-2": ("6.9.10-1", "6.10.2-1")}.items():
            repository = Pacman(tmp_path / "served" / release, signer)
            for version in versions:
                image = make_kernel(PROFILES["x86_64"], release=version)
                repository.add(f"linux-{version}", version, kernel_files(image, version))
            repository.publish()
            entries[release] = {"repositories": [repository.address(f"{server.address}/{release}")], "flavour": "plain"}
        write(kernels, kernels=entries, image="linux-{release}", keys={"files": [str(signer.keyring)]})
        yield server


def test_the_kernels_of_a_distribution(tool: Tool, web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for command in (("kernels", "--distro", "mine"), ("kernels", "check", "mine")):
        done = tool(*command)
        rows = [line.split() for line in done.stdout.splitlines() if "mine-" in line]
        assert (done.returncode, rows) == (
            0,
            [["mine", "mine-1", "x86_64", "6.9.10-1"], ["mine", "mine-2", "x86_64", "6.10.2-1"]],
        ), done.stderr
    facts = tool("kernels", "--distro", "mine", "--facts", "--arch", "x86_64")
    assert facts.returncode == 0, facts.stderr
    assert "64k" in next(line for line in facts.stdout.splitlines() if "mine-2" in line)
    refused(tool("kernels", "check"), "name distributions, or give --all")
    refused(tool("kernels", "check", "mien"), "unknown distribution 'mien'. Did you mean 'mine'?")


def test_the_kernels_of_a_bisection(web: Server, opened: Opener) -> None:
    spec = specs_folder() / "hello.yml"

    def releases(**names: str) -> list[str]:
        question = Question(spec, "x86_64", names.pop("good"), names.pop("bad"), **names)
        return [step.release for step in prepare_search(question, PROFILES, opened()).state.steps]

    assert releases(good="6.9.1", bad="6.10", distro="mine") == ["6.9.1-1", "6.9.10-1", "6.10.2-1"]
    assert releases(good="6.9.10", bad="6.9.1", kernel="mine-1") == ["6.9.10-1", "6.9.1-1"]
    with pytest.raises(InputError, match=r"has no kernel '6\.10'"):
        releases(good="6.9.1", bad="6.10", kernel="mine-1")
    with pytest.raises(InputError, match="unknown distribution"):
        releases(good="6.9.1", bad="6.10", distro="mien")
