"""Packages that images are made from: of the archive and local ones, and what they depend on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from archive_client import Opener
from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.errors import BuildError, NoSuchPackage
from bootmatrix.model import ImageRecipe, Lock
from kitchen import Kitchen, files, of_recipe
from packages import Deb, entry, folder, hard_link, link
from small_archive import SmallArchive

pytest_plugins = ("archive_fixtures", "kitchen")


def test_packages_with_what_they_depend_on(kitchen: Kitchen, small: SmallArchive) -> None:
    small.add("bookworm", "server", "2.0-1", depends="library (>= 1), gone-without")
    small.add("bookworm", "library", "1.5-1")
    small.publish()
    image = kitchen.make(packages=["server"], without=["gone-without"])
    assert files(image_tree(image, kitchen.builder.store)) == {
        "usr/share/server": b"2.0-1",
        "usr/share/library": b"1.5-1",
    }
    assert image.packages == ("library 1.5-1", "server 2.0-1")


def test_a_package_that_an_architecture_lacks(kitchen: Kitchen, small: SmallArchive) -> None:
    small.add("bookworm", "server")
    small.add("bookworm", "other", arch="arm64")
    small.publish()
    kitchen.make(packages=["server"])
    with pytest.raises(NoSuchPackage, match="server"):
        kitchen.make(arch="aarch64", packages=["server"])


def test_what_the_base_has_is_not_fetched_again(kitchen: Kitchen, small: SmallArchive) -> None:
    small.add("bookworm", "server", depends="library")
    small.add("bookworm", "library", "1.5-1")
    small.publish()
    kitchen.recipe("base", packages=["library"], files=[{"path": "usr/share/library", "contents": "changed"}])
    image = kitchen.make(base="base", packages=["server"])
    assert files(image_tree(image, kitchen.builder.store))["usr/share/library"] == b"changed"
    assert image.packages == ("library 1.5-1", "server 1.0-1")


def test_a_lock_names_no_packages_of_other_projects(kitchen: Kitchen, small: SmallArchive, opened: Opener) -> None:
    """The cache is everybody's, and a lock gives any name to a package of its digest."""
    small.add("bookworm", "server", depends="library")
    small.add("bookworm", "library", "1.5-1")
    small.add("bookworm", "python3", "3.11-1")
    small.publish()
    kitchen.recipe("base", packages=["server"])
    suite, names = ("bookworm",), ["server"]
    listed = {entry.name: entry for entry in kitchen.builder.archive.closure(names, [], suite, "amd64")}
    lied = {
        "python3": listed["library"].model_copy(update={"name": "python3", "version": "9"}),
        "server": listed["server"].model_copy(update={"depends": ("python3",)}),
    }
    confined = opened(lock=Lock(kernels={}, packages={"amd64": lied}))
    assert replace(kitchen, builder=replace(kitchen.builder, archive=confined)).make("base").packages[0] == "python3 9"
    image = kitchen.make(base="base", packages=["python3"])
    assert image.packages == ("library 1.5-1", "server 1.0-1", "python3 3.11-1")
    assert image.package_sums["library 1.5-1"] == listed["library"].sha256


def test_a_local_package_and_what_it_depends_on(kitchen: Kitchen, small: SmallArchive) -> None:
    small.add("bookworm", "library", "1.5-1")
    small.add("bookworm", "mine", "0.1-1")
    small.add("bookworm", "helper", depends="mine (>= 1)")
    small.publish()
    more = "Pre-Depends: library (>= 1.2)\nDepends: helper:any | nothing,\n , absent\n"
    path = kitchen.deb("mine_9_amd64.deb", Deb("mine", "9", "amd64", more).of(entry("./usr/bin/mine", b"program")))
    image = kitchen.make(debs=[path.replace("amd64", "{debian_arch}")], without=["absent"])
    found = files(image_tree(image, kitchen.builder.store))
    assert found == {"usr/bin/mine": b"program", "usr/share/library": b"1.5-1", "usr/share/helper": b"1.0-1"}
    assert image.packages == ("library 1.5-1", "helper 1.0-1", "mine 9 (mine_9_amd64.deb)")


def test_a_local_package_stands_for_that_of_the_archive_above_it_too(kitchen: Kitchen, small: SmallArchive) -> None:
    small.add("bookworm", "library", "1.5-1")
    small.add("bookworm", "server", depends="library")
    small.publish()
    path = kitchen.deb("odd-name.deb", Deb("library", "9").of(entry("usr/share/library", b"mine")))
    kitchen.recipe("base", debs=[path])
    assert files(kitchen.tree(base="base", packages=["server"]))["usr/share/library"] == b"mine"
    assert files(kitchen.tree("flat", debs=[path], packages=["server"]))["usr/share/library"] == b"mine"


def test_local_packages_satisfy_each_other(kitchen: Kitchen) -> None:
    """By name and by what they provide; no archive is asked."""
    first = kitchen.deb("first.deb", Deb("first", more="Provides: service-api (= 3), other\n").of(entry("usr/a", b"")))
    second = kitchen.deb(
        "second.deb", Deb("second", more="Depends: first (>= 1), service-api\n").of(entry("usr/b", b""))
    )
    assert set(files(kitchen.tree(debs=[first, second]))) == {"usr/a", "usr/b"}


def test_a_local_package_needs_a_newer_library(kitchen: Kitchen, small: SmallArchive) -> None:
    """Better told now than by the guest's linker."""
    small.add("bookworm", "library", "1.5-1")
    small.publish()
    path = kitchen.deb("mine.deb", Deb("mine", more="Depends: library (>= 2.40)\n").of(entry("usr/a")))
    with pytest.raises(NoSuchPackage, match=r"library \(>= 2.40\)") as caught:
        kitchen.make(debs=[path])
    assert "1.5-1" in caught.value.hint


def test_a_package_of_endless_alternatives_is_refused(kitchen: Kitchen, small: SmallArchive) -> None:
    """Each is looked up, with names like it: 200,000 of them would take hours."""
    small.publish()
    more = f"Depends: {' | '.join(f'none{number}' for number in range(200_000))}\n"
    path = kitchen.deb("mine_9_amd64.deb", Deb("mine", "9", "amd64", more).of(entry("./usr/bin/mine", b"program")))
    with pytest.raises(BuildError, match="199999 alternative dependencies, more than the limit of 500"):
        kitchen.make(debs=[path])


def test_the_first_alternative_that_the_archive_has(kitchen: Kitchen, small: SmallArchive) -> None:
    small.add("bookworm", "third")
    small.add("bookworm", "second")
    small.add("bookworm", "broken", depends="nothing")
    small.publish()
    path = kitchen.deb("mine.deb", Deb("mine", more="Depends: first | broken | second | third\n").of(entry("usr/a")))
    assert "second 1.0-1" in kitchen.make(debs=[path]).packages
    path = kitchen.deb("mine.deb", Deb("mine", more="Depends: first | broken\n").of(entry("usr/a")))
    with pytest.raises(NoSuchPackage, match="nothing"):
        kitchen.make(debs=[path])


def test_a_local_dependency_that_cannot_be_read(kitchen: Kitchen, capfd: pytest.CaptureFixture[str]) -> None:
    path = kitchen.deb("mine.deb", Deb("mine", more="Depends: !! what ??\n").of(entry("usr/a")))
    with pytest.raises(BuildError, match=r"mine\.deb has a dependency that cannot be read: '!! what \?\?'"):
        kitchen.make(debs=[path])
    assert capfd.readouterr() == ("", "")


def test_no_local_package(kitchen: Kitchen) -> None:
    with pytest.raises(BuildError, match=r"no file matches .*dist/mine_\*_amd64\.deb") as caught:
        kitchen.make(debs=["../../dist/mine_*_{debian_arch}.deb"])
    assert "exclude the architecture" in caught.value.hint


@pytest.mark.parametrize("pattern", ["../../" + "*/../" * 40 + "x.deb", "../../" + "*/" * 40 + "x.deb"])
def test_a_pattern_made_to_be_slow_to_match_is_not(kitchen: Kitchen, pattern: str) -> None:
    for number in range(10):
        (kitchen.folder / f"link{number}").symlink_to(".")
    begun = time.process_time()
    with pytest.raises(BuildError, match="no file matches"):
        kitchen.make(debs=[pattern])
    assert time.process_time() - begun < 10


def test_two_local_packages_where_one_is_meant(kitchen: Kitchen) -> None:
    for version in "12":
        kitchen.deb(f"mine_{version}_amd64.deb", Deb("mine", version).of(entry("a")))
    with pytest.raises(BuildError, match=r"2 files match .*mine_1_amd64\.deb, .*mine_2_amd64\.deb"):
        kitchen.make(debs=["../../dist/mine_*_{debian_arch}.deb"])


def test_a_local_package_for_another_architecture(kitchen: Kitchen) -> None:
    path = kitchen.deb("mine.deb", Deb("mine", arch="arm64").of(entry("usr/a")))
    with pytest.raises(BuildError, match=r"mine\.deb is a package for 'arm64', and the guest is 'amd64'"):
        kitchen.make(debs=[path])
    assert files(kitchen.tree(arch="aarch64", debs=[path]))


def test_a_local_package_that_is_none(kitchen: Kitchen) -> None:
    path = kitchen.deb("mine.deb", b"<html>404</html>")
    with pytest.raises(BuildError, match=r"mine\.deb is not a Debian package"):
        kitchen.make(debs=[path])


def test_a_folder_whose_name_is_a_glob(kitchen: Kitchen, tmp_path: Path) -> None:
    odd = replace(kitchen, folder=tmp_path / "[odd]*")
    odd.folder.mkdir()
    path = odd.deb("mine.deb", Deb("mine").of(entry("usr/a", b"x")))
    assert files(odd.tree(debs=[path])) == {"usr/a": b"x"}


def test_names_that_stand_for_nothing(kitchen: Kitchen) -> None:
    for pattern in ("{nothing}.deb", "{debian_arch.x}.deb", "{}.deb", "{.deb", "{0}.deb"):
        raw = replace(kitchen.builder, load_recipe=of_recipe(ImageRecipe(debs=(pattern,))))
        kitchen.recipe("mine")
        with pytest.raises(BuildError, match="the only placeholders are"):
            replace(kitchen, builder=raw).make()


def test_packages_unpack_into_the_merged_root(kitchen: Kitchen) -> None:
    """Old packages have /bin and /lib, and the guest has them in /usr."""
    path = kitchen.deb(
        "mine.deb",
        Deb().of(
            *(folder("./bin"), entry("./bin/a", b"a"), folder("./lib"), entry("./lib/b", b"b")),
            *(entry("./usr/bin/c", b"c"), link("./sbin/d", "../bin/a"), hard_link("./bin/e", "./bin/a")),
        ),
    )
    tree = kitchen.tree(debs=[path])
    assert files(tree) == {"usr/bin/a": b"a", "usr/bin/c": b"c", "usr/bin/e": b"a", "usr/lib/b": b"b"}
    links = {name: node.target for name, node in tree.items() if node.kind == "symlink"}
    assert links == {"bin": "usr/bin", "lib": "usr/lib", "sbin": "usr/sbin", "usr/sbin/d": "../bin/a"}
    assert tree.nodes["usr/bin/a"] is tree.nodes["usr/bin/e"]
