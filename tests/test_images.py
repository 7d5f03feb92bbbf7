"""Images: what is made of a build.yml, always the same, made once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archive_client import Opener
from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.errors import BuildError, UntrustedError
from bootmatrix.model import ImageRecipe
from bootmatrix.store import Store
from kitchen import PROFILES, Kitchen, files, of_recipe, spoil, stamps
from packages import Deb, entry
from small_archive import SmallArchive

pytest_plugins = ("archive_fixtures", "kitchen")


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
    with pytest.raises(BuildError, match="circular"):
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
        spoil(store.blob(digest))
        kitchen = replace(kitchen, builder=replace(kitchen.builder, store=Store(store.folder)))
        if digest != image.digest:
            with pytest.raises(UntrustedError, match="damaged"):
                kitchen.tree()
        assert files(kitchen.tree()) == {"a": b"content"}
        assert kitchen.make() == image


def test_a_failure_leaves_nothing_behind(kitchen: Kitchen) -> None:
    good = kitchen.deb("good.deb", Deb("good").of(entry("usr/a", b"x")))
    bad = kitchen.deb("bad.deb", Deb("bad").of(entry("usr/b", b"x"), entry("../c", b"x")))
    with pytest.raises(BuildError, match="leaves the image's root"):
        kitchen.make(debs=[good, bad])
    left = [path for path in kitchen.builder.store.folder.rglob("*") if path.is_file()]
    assert left == []
