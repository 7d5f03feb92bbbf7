"""Small inputs that ask for much: refused or read in bounded time, without a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archive_client import Opener
from bootmatrix.assembly.kernel.module_pack import Module
from bootmatrix.assembly.kernel.package import KernelFiles, load_order
from bootmatrix.errors import BuildError, InputError
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.lock import load_lock
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Package
from bootmatrix.source import resolve
from bootmatrix.source.lock_recorder import LockedPackages
from bootmatrix.source.resolve import closure, parse_relation
from kitchen import Kitchen
from packages import Deb, entry
from small_archive import SmallArchive

pytest_plugins = ("archive_fixtures", "kitchen")

LONG = 3_000


def package(name: str, depends: tuple[str, ...] = (), version: str = "1") -> dict[str, Any]:
    """A package as a lock has it."""
    more = {"architecture": "amd64", "suite": "s", "filename": "p", "size_bytes": 1, "sha256": "0" * 64}
    return {"name": name, "version": version, "depends": depends, **more}


def locked(*packages: dict[str, Any]) -> LockedPackages:
    return LockedPackages([Package.model_validate_json(json.dumps(one)) for one in packages], ["s"])


def chain() -> LockedPackages:
    return locked(*(package(f"p{n}", (f"p{n + 1}",) if n < LONG - 1 else ()) for n in range(LONG)))


def test_a_chain_of_dependencies_longer_than_the_stack() -> None:
    found = closure(["p0"], [], chain(), "here")
    assert [one.name for one in found] == [f"p{number}" for number in reversed(range(LONG))]


def test_dependencies_in_a_circle() -> None:
    packages = locked(package("aa", ("bb",)), package("bb", ("cc",)), package("cc", ("aa",)))
    assert [one.name for one in closure(["aa"], [], packages, "here")] == ["cc", "bb", "aa"]


def test_more_packages_than_an_archive_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "MAX_PACKAGES", 100)
    with pytest.raises(BuildError, match="need more than 100 packages"):
        closure(["p0"], [], chain(), "here")


def test_a_chain_of_modules_longer_than_the_stack() -> None:
    modules = {
        f"m{n}": Module(path=f"m{n}.ko", offset=0, size=0, needs=(f"m{n + 1}",) if n < LONG - 1 else ("m0",))
        for n in range(LONG)
    }
    files = KernelFiles(image="0" * 64, image_bytes=0, config=None, dtbs={}, pack="0" * 64, modules=modules)
    order, missing = load_order(files, ("m0",))
    assert [one.path for one in order] == [f"m{number}.ko" for number in reversed(range(LONG))]
    assert missing == []


@pytest.mark.parametrize(
    "change",
    [
        {"size_bytes": -1},
        {"size_bytes": -(10**30)},
        {"size_bytes": 1 << 60},
        {"version": "1" * 5_000},
    ],
)
def test_a_lock_that_says_nonsense(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "x.lock"
    path.write_text(json.dumps({"kernels": {}, "packages": {"amd64": {"a": {**package("a"), **change}}}}))
    with pytest.raises(InputError, match=r"x\.lock: not a lock file: packages\.amd64\.a"):
        load_lock(path)


@pytest.mark.parametrize("text", ["libc (>= {})", "libc (= 1:{})"])
def test_a_relation_with_a_version_that_python_does_not_compare(text: str) -> None:
    with pytest.raises(BuildError, match="invalid dependency"):
        parse_relation(text.format("9" * 5_000))


@pytest.mark.parametrize("field", [{"version": "9" * 5_000}, {"name": "../x"}, {"version": "1 2"}])
def test_a_local_package_that_says_nonsense(kitchen: Kitchen, field: dict[str, str]) -> None:
    path = kitchen.deb("mine.deb", Deb(**field).of(entry("usr/a", b"1")))
    with pytest.raises(BuildError, match="which is invalid"):
        kitchen.make(debs=[path])


def test_an_archives_package_that_says_nonsense(small: SmallArchive, opened: Opener) -> None:
    """It is passed over: the other one of its name still counts."""
    for number, version in enumerate(("9" * 200 + "." + "9" * 200, "2.0-1")):
        file = small.add("old", "aa", "3.0-1" if number == 0 else version)
        assert file.is_file()
        if number == 0:
            paragraphs = small.suite("old").paragraphs["amd64"]
            paragraphs[-1] = paragraphs[-1].replace("Version: 3.0-1", f"Version: {version}")
    small.publish()
    (found,) = opened().closure(["aa"], [], ["old"], "amd64")
    assert found.version == "2.0-1"


def test_profiles_that_extend_each_other_in_a_long_chain(tmp_path: Path) -> None:
    for number in range(1_000):
        (tmp_path / f"toy{number}.yml").write_text(f"extends: toy{number + 1}\n")
    (tmp_path / "toy1000.yml").write_text("extends: x86_64\n")
    with pytest.raises(InputError, match="more than 32 deep"):
        load_profiles([*arch_folders(), tmp_path])
