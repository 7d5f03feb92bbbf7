"""Images: a build.yml, packages and files become an OCI image, always the same, or an error that says what to do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from archive_client import Opener
from bootmatrix.build.image import Builder, image_tree, make_image
from bootmatrix.build.tree import Tree
from bootmatrix.errors import BuildError, InputError, NoSuchPackage, UntrustedError
from bootmatrix.load.places import arch_folders
from bootmatrix.load.profile import load_profiles
from bootmatrix.load.recipe import find_recipe, load_recipe
from bootmatrix.model import ImageRecipe, StoredImage
from bootmatrix.store import Store
from packages import Deb, entry, folder, hard_link, link
from small_archive import SmallArchive

pytest_plugins = ("archive_fixtures",)

PROFILES = load_profiles(arch_folders())


@dataclass(frozen=True)
class Kitchen:
    """Makes images out of folders beside a spec."""

    builder: Builder
    folder: Path

    def recipe(self, name: str, **fields: Any) -> Path:
        """Write a build.yml, and give its folder."""
        where = self.folder / "images" / name
        where.mkdir(parents=True, exist_ok=True)
        (where / "build.yml").write_text(json.dumps(fields or {"description": "nothing"}))
        return where

    def make(self, name: str = "mine", arch: str = "x86_64", base: str = "", **fields: Any) -> StoredImage:
        """Write a build.yml if there are fields, and make its image."""
        if fields or base:
            self.recipe(name, **{"from": f"@pkg:../{base}"} if base else {}, **fields)
        return make_image(f"@pkg:./images/{name}", self.folder / "spec.yml", PROFILES[arch], self.builder)

    def tree(self, name: str = "mine", **fields: Any) -> Tree:
        """The same; the image's files."""
        return image_tree(self.make(name, **fields), self.builder.store)

    def deb(self, name: str, data: bytes) -> str:
        """Write a package, and give its path relative to a recipe's folder."""
        (self.folder / "dist").mkdir(exist_ok=True)
        (self.folder / "dist" / name).write_bytes(data)
        return f"../../dist/{name}"


@pytest.fixture
def kitchen(opened: Opener, store: Store, tmp_path: Path, small: SmallArchive) -> Kitchen:
    small.root.mkdir(exist_ok=True)
    (tmp_path / "work").mkdir()
    return Kitchen(Builder(store, opened(), find_recipe, load_recipe), tmp_path / "work")


def files(tree: Tree) -> dict[str, bytes]:
    return {path: node.read() for path, node in tree.items() if node.kind == "file"}


def of_recipe(recipe: ImageRecipe) -> Callable[[Path], ImageRecipe]:
    """Stands for a recipe that never saw the loader's checks."""
    return lambda _: recipe


def test_nothing_makes_an_empty_image(kitchen: Kitchen) -> None:
    image = kitchen.make(description="nothing at all")
    assert set(image_tree(image, kitchen.builder.store).nodes) == {"usr"}
    assert image.packages == ()


@pytest.mark.parametrize("arch", sorted(PROFILES))
def test_it_is_an_oci_image(kitchen: Kitchen, arch: str) -> None:
    image = kitchen.make(
        arch=arch,
        files=[{"path": "a", "contents": "content"}],
        entrypoint=["/a"],
        cmd=["1"],
        env={"A": "1"},
        workdir="/srv",
        user="7:8",
        labels={"x": "y"},
    )
    store = kitchen.builder.store

    def blob(described: dict[str, Any]) -> bytes:
        data = store.verified(described["digest"].removeprefix("sha256:")).read_bytes()
        assert len(data) == described["size"]
        return data

    manifest = json.loads(store.verified(image.digest).read_bytes())
    config = json.loads(blob(manifest["config"]))
    layer = blob(manifest["layers"][0])
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert config["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    assert config["config"] == {
        "Entrypoint": ["/a"],
        "Cmd": ["1"],
        "Env": ["A=1"],
        "WorkingDir": "/srv",
        "User": "7:8",
        "Labels": {"x": "y"},
    }
    platform = "/".join(config[key] for key in ("os", "architecture", "variant") if key in config)
    assert platform == PROFILES[arch].names.oci
    assert image.layers == (hashlib.sha256(layer).hexdigest(),)
    assert image.size_bytes == len(layer)


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
        with pytest.raises(BuildError, match="only these names stand for something"):
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


def test_files_of_a_recipe(kitchen: Kitchen) -> None:
    where = kitchen.recipe("mine")
    (where / "program").write_text("#!/bin/sh\n")
    (where / "program").chmod(0o700)
    (where / "plain").write_text("plain")
    (where / "plain").chmod(0o600)
    tree = kitchen.tree(
        files=[
            {"path": "usr/bin/program", "source": "program"},
            {"path": "plain", "source": "./plain"},
            {"path": "set", "source": "plain", "mode": "4750"},
            {"path": "etc/text", "contents": "a\n"},
            {"path": "tmp", "directory": True, "mode": "1777"},
            {"path": "etc/link", "symlink": "../usr"},
            {"path": "etc/link/through", "contents": "b"},
            {"path": "all", "concat": ["etc/t*", "usr/th*"], "mode": "0600"},
        ]
    )
    described = {path: (node.kind, oct(node.mode), node.target, node.read()) for path, node in tree.items()}
    assert described == {
        "all": ("file", "0o600", "", b"a\nb"),
        "etc": ("dir", "0o755", "", b""),
        "etc/link": ("symlink", "0o777", "../usr", b""),
        "etc/text": ("file", "0o644", "", b"a\n"),
        "plain": ("file", "0o644", "", b"plain"),
        "bin": ("symlink", "0o777", "usr/bin", b""),
        "set": ("file", "0o4750", "", b"plain"),
        "tmp": ("dir", "0o1777", "", b""),
        "usr": ("dir", "0o755", "", b""),
        "usr/bin": ("dir", "0o755", "", b""),
        "usr/bin/program": ("file", "0o755", "", b"#!/bin/sh\n"),
        "usr/through": ("file", "0o644", "", b"b"),
    }


def test_a_folder_as_source(kitchen: Kitchen) -> None:
    where = kitchen.recipe("mine")
    (where / "tree/empty").mkdir(parents=True)
    (where / "tree/program").write_text("x")
    (where / "tree/program").chmod(0o755)
    (where / "tree/link").symlink_to("/etc/passwd")
    os.mkfifo(where / "tree/pipe")
    fields = [{"path": "srv", "source": "tree"}, {"path": "none", "source": "tree/empty"}]
    tree = kitchen.tree(files=fields)
    assert tree.nodes["srv/link"].target == "/etc/passwd"
    assert tree.nodes["srv/program"].mode == 0o755
    assert tree.nodes["srv/empty"].kind == tree.nodes["none"].kind == "dir"
    assert "srv/pipe" not in tree.nodes
    fields[0]["mode"] = "0600"
    assert kitchen.tree(files=fields).nodes["srv/program"].mode == 0o600


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("../../spec.yml", "outside the recipe's folder"),
        ("/etc/passwd", "outside the recipe's folder"),
        ("out", "outside the recipe's folder"),
        ("out/x", "outside the recipe's folder"),
        ("none", "there is no file"),
        ("pipe", "there is no file"),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_sources_that_are_refused(kitchen: Kitchen, source: str, why: str, raw: bool) -> None:
    """Also when the recipe never saw the loader's checks, or changed since."""
    (kitchen.folder / "spec.yml").write_text("")
    fields = {"files": [{"path": "x", "source": source}]}
    where = kitchen.recipe("mine", **fields)
    (where / "out").symlink_to("../..")
    os.mkfifo(where / "pipe")
    if raw:
        builder = replace(kitchen.builder, load_recipe=of_recipe(ImageRecipe.model_validate_json(json.dumps(fields))))
        kitchen = replace(kitchen, builder=builder)
        with pytest.raises(BuildError, match=why):
            kitchen.make()
    elif source != "pipe":
        with pytest.raises(InputError, match=r"build\.yml:1: "):
            kitchen.make()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/"])
def test_files_outside_of_the_image(kitchen: Kitchen, path: str) -> None:
    fields = {"files": [{"path": path, "contents": "x"}]}
    kitchen.recipe("mine", **fields)
    builder = replace(kitchen.builder, load_recipe=of_recipe(ImageRecipe.model_validate_json(json.dumps(fields))))
    with pytest.raises(BuildError, match="root"):
        replace(kitchen, builder=builder).make()


def test_a_file_that_says_nothing(kitchen: Kitchen) -> None:
    kitchen.recipe("mine")
    recipe = ImageRecipe.model_validate_json('{"files": [{"path": "x"}]}')
    with pytest.raises(BuildError, match="the file x has no content"):
        replace(kitchen, builder=replace(kitchen.builder, load_recipe=of_recipe(recipe))).make()


def test_a_concat_that_names_nothing(kitchen: Kitchen) -> None:
    with pytest.raises(BuildError, match=r"no file of the image is named by etc/\*\.crt"):
        kitchen.make(files=[{"path": "all", "concat": ["etc/*.crt"]}])


def test_what_no_guest_needs_is_left_out_unless_kept(kitchen: Kitchen) -> None:
    names = [
        "usr/share/doc/a/x",
        "usr/share/doc/a/y",
        "usr/share/man/m",
        "etc/cron.daily/c",
        "usr/share/a",
        "usr/lib/z",
    ]
    path = kitchen.deb("mine.deb", Deb().of(*(entry(name) for name in names)))
    assert set(files(kitchen.tree(debs=[path]))) == {"usr/share/a", "usr/lib/z"}
    tree = kitchen.tree(debs=[path], keep=["usr/share/doc/*/x"], drop=["usr/share/a", "lib/*"])
    assert set(files(tree)) == {"usr/share/doc/a/x"}
    assert "usr/share/man" not in tree.nodes
    assert "lib" not in tree.nodes
    assert set(files(kitchen.tree(debs=[path], keep=["usr/share/doc"], drop=["usr/*", "etc"]))) == {
        "usr/share/doc/a/x",
        "usr/share/doc/a/y",
    }


def test_an_image_from_another(kitchen: Kitchen) -> None:
    kitchen.recipe(
        "base",
        files=[{"path": "usr/bin/a", "contents": "a"}, {"path": "bin/b", "contents": "b"}],
        labels={"x": "base", "y": "base"},
        env={"A": "1", "B": "2"},
        workdir="/srv",
        user="7",
    )
    image = kitchen.make(
        base="base",
        files=[{"path": "bin/b", "contents": "mine"}, {"path": "lib/c", "contents": "c"}],
        labels={"y": "mine"},
        env={"B": "3", "C": "x=y"},
    )
    found = files(image_tree(image, kitchen.builder.store))
    assert found == {"usr/bin/a": b"a", "usr/bin/b": b"mine", "usr/lib/c": b"c"}
    assert image.config.labels == {"x": "base", "y": "mine"}
    assert image.config.env == ("A=1", "B=3", "C=x=y")
    assert (image.config.workdir, image.config.user) == ("/srv", "7")


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({}, (("/base",), ("1",))),
        ({"cmd": ["2"]}, (("/base",), ("2",))),
        ({"entrypoint": ["/mine"]}, (("/mine",), ())),
        ({"entrypoint": ["/mine"], "cmd": ["2"]}, (("/mine",), ("2",))),
    ],
)
def test_entrypoint_and_command_of_the_base(kitchen: Kitchen, own: dict[str, Any], wanted: object) -> None:
    """As a Dockerfile has it."""
    kitchen.recipe("base", entrypoint=["/base"], cmd=["1"])
    config = kitchen.make(base="base", **own).config
    assert (config.entrypoint, config.cmd) == wanted


def test_images_that_are_made_from_each_other(kitchen: Kitchen) -> None:
    raw = replace(kitchen.builder, load_recipe=of_recipe(ImageRecipe.model_validate_json('{"from": "@pkg:../mine"}')))
    kitchen.recipe("mine")
    with pytest.raises(BuildError, match="form a loop"):
        replace(kitchen, builder=raw).make()


def test_the_same_image_in_another_store_at_another_time(kitchen: Kitchen, tmp_path: Path, opened: Opener) -> None:
    path = kitchen.deb("mine.deb", Deb().of(*(entry(f"usr/{name}", name.encode()) for name in "cab")))
    first = kitchen.make(debs=[path], files=[{"path": "x", "contents": "x"}])
    moved = tmp_path / "moved"
    shutil.copytree(kitchen.folder, moved)
    for file in moved.rglob("*"):
        os.utime(file, (1, 1))
    other = replace(kitchen, folder=moved, builder=replace(kitchen.builder, store=Store(tmp_path / "other")))
    assert other.make() == first


def test_a_second_time_nothing_is_done(kitchen: Kitchen, small: SmallArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    small.add("bookworm", "server")
    small.publish()
    image = kitchen.make(packages=["server"])
    before = stamps(kitchen.builder.store)

    def never(*_: object) -> None:
        raise AssertionError("a package was fetched though the image is there")

    monkeypatch.setattr(kitchen.builder.archive, "fetch", never)
    assert kitchen.make() == image
    assert stamps(kitchen.builder.store) == before


def stamps(store: Store) -> dict[str, tuple[int, int]]:
    """Every file of a store, and whether it is still the same."""
    found = {str(path): path.lstat() for kind in ("blobs", "memo") for path in (store.folder / kind).rglob("*")}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


@pytest.mark.parametrize("change", ["recipe", "content", "mode", "deb", "tree", "base"])
def test_whatever_changes_makes_another_image(kitchen: Kitchen, change: str) -> None:
    base = kitchen.recipe("base", files=[{"path": "b", "contents": "b"}])
    where = kitchen.recipe("mine")
    (where / "file").write_text("x")
    (where / "tree").mkdir()
    (where / "tree/inner").write_text("x")
    deb = kitchen.deb("mine.deb", Deb().of(entry("usr/a", b"1")))
    fields: dict[str, Any] = {
        "base": "base",
        "debs": [deb],
        "files": [{"path": "file", "source": "file"}, {"path": "tree", "source": "tree"}],
    }
    first = kitchen.make(**fields)
    match change:
        case "recipe":
            fields["env"] = {"A": "1"}
        case "content":
            (where / "file").write_text("y")
        case "mode":
            (where / "file").chmod(0o755)
        case "deb":
            kitchen.deb("mine.deb", Deb().of(entry("usr/a", b"2")))
        case "tree":
            (where / "tree/inner").rename(where / "tree/other")
        case _:
            (base / "build.yml").write_text('{"files": [{"path": "b", "contents": "c"}]}')
    assert kitchen.make(**fields).digest != first.digest


def test_what_the_store_lost_is_made_again(kitchen: Kitchen) -> None:
    fields: dict[str, Any] = {"files": [{"path": "a", "contents": "content"}]}
    image, store = kitchen.make(**fields), kitchen.builder.store
    blobs = sorted(path for path in (store.folder / "blobs").rglob("*") if path.is_file())
    assert len(blobs) == 3, "manifest, configuration, layer"
    for path in blobs:
        path.unlink()
        assert kitchen.make(**fields) == image
        assert path.is_file()


def test_what_was_damaged_is_made_again(kitchen: Kitchen) -> None:
    """The damage is told once, and gone the next time; a damaged manifest does not even need that."""
    fields: dict[str, Any] = {"files": [{"path": "a", "contents": "content"}]}
    image, store = kitchen.make(**fields), kitchen.builder.store
    for digest in (image.digest, image.layers[0]):
        spoil(store, digest)
        kitchen = replace(kitchen, builder=replace(kitchen.builder, store=Store(store.folder)))
        if digest != image.digest:
            with pytest.raises(UntrustedError, match="damaged"):
                kitchen.tree()
        assert files(kitchen.tree()) == {"a": b"content"}
        assert kitchen.make() == image


def spoil(store: Store, digest: str) -> None:
    path = store.blob(digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_failure_leaves_nothing_behind(kitchen: Kitchen) -> None:
    good = kitchen.deb("good.deb", Deb("good").of(entry("usr/a", b"x")))
    bad = kitchen.deb("bad.deb", Deb("bad").of(entry("usr/b", b"x"), entry("../c", b"x")))
    with pytest.raises(BuildError, match="leaves the image's root"):
        kitchen.make(debs=[good, bad])
    left = [path for path in kitchen.builder.store.folder.rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.parametrize("source", ["n" * 300, "loop", "a\0b"])
def test_a_source_that_cannot_be_read(kitchen: Kitchen, source: str) -> None:
    """What reading may meet, short of a file that only others may read: root reads everything."""
    (kitchen.recipe("mine") / "loop").symlink_to("loop")
    recipe = ImageRecipe.model_validate_json(json.dumps({"files": [{"path": "x", "source": source}]}))
    with pytest.raises(BuildError, match=r"cannot be read|there is no file"):
        replace(kitchen, builder=replace(kitchen.builder, load_recipe=of_recipe(recipe))).make()
