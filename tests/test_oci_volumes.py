"""Volumes of `format: oci`: an image as an OCI layout in the guest."""

from __future__ import annotations

import json

import pytest

from bootmatrix.assembly.image import oci_volume
from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.image.oci_volume import layout_image
from bootmatrix.errors import BuildError, UntrustedError
from bootmatrix.model import ImageSource, StoredImage, Volume
from image_maker import Made, files, make_image, make_index, sha256, write_layout
from kitchen import PROFILES, Kitchen, unpacked

pytest_plugins = ("archive_fixtures", "kitchen")

IMAGES = {name: make_image(files(a=name), platform=name) for name in ("linux/amd64", "linux/arm/v7", "linux/s390x")}
INDEX = make_index(IMAGES)


def volume(*platforms: str, image: str = "oci:layout") -> Volume:
    return Volume(name="data", image=image, format="oci", platforms=platforms)


def copied(kitchen: Kitchen, wanted: Volume, made: Made = INDEX) -> StoredImage:
    write_layout(kitchen.folder, made)
    return layout_image(wanted, kitchen.folder / "s.yml", PROFILES["x86_64"], kitchen.builder)


def contents(kitchen: Kitchen, image: StoredImage) -> dict[str, bytes]:
    tree = image_tree(image, kitchen.builder.store)
    return {path: node.read() for path, node in tree.items() if node.kind == "file"}


@pytest.mark.parametrize(
    ("platforms", "there"),
    [
        ((), set(IMAGES)),
        (("linux/amd64",), {"linux/amd64"}),
        (("linux/amd64", "linux/arm"), {"linux/amd64", "linux/arm/v7"}),
        (("linux/arm/v7",), {"linux/arm/v7"}),
    ],
)
def test_a_layout_has_the_platforms_that_are_named(
    kitchen: Kitchen, platforms: tuple[str, ...], there: set[str]
) -> None:
    made = contents(kitchen, copied(kitchen, volume(*platforms)))
    assert json.loads(made.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(made.pop("index.json"))["manifests"]
    root = json.loads(made[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    assert len(root["manifests"]) == len(IMAGES)  # the index is as it was, so its digest is too
    expected = {digest for name in there for digest in (*IMAGES[name].blobs, IMAGES[name].digest)}
    assert {path.replace("blobs/sha256/", "sha256:") for path in made} == {*expected, entry["digest"]}
    assert all(sha256(data) == path.replace("blobs/sha256/", "sha256:") for path, data in made.items())


def test_what_was_copied_can_be_read_again(kitchen: Kitchen) -> None:
    image = copied(kitchen, volume("linux/amd64"))
    folder = kitchen.folder / "again"
    for path, data in contents(kitchen, image).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    again = kitchen.builder.sources().image(ImageSource(kind="oci", path=str(folder)), "linux/amd64")
    assert f"sha256:{again.digest}" == IMAGES["linux/amd64"].digest


def test_an_image_made_from_packages_is_copied_too(kitchen: Kitchen) -> None:
    kitchen.recipe("mine", files=[{"path": "a", "contents": "b"}])
    made = contents(kitchen, copied(kitchen, volume(image="@pkg:./images/mine")))
    (entry,) = json.loads(made["index.json"])["manifests"]
    manifest = json.loads(made[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    assert f"blobs/sha256/{manifest['layers'][0]['digest'].removeprefix('sha256:')}" in made


def test_a_platform_that_is_not_there(kitchen: Kitchen) -> None:
    with pytest.raises(BuildError, match="volume data: oci:layout has no image for linux/riscv64"):
        copied(kitchen, volume("linux/riscv64"))


def test_a_part_that_is_another_one(kitchen: Kitchen) -> None:
    one = IMAGES["linux/amd64"]
    layer = json.loads(one.root)["layers"][0]["digest"]
    spoilt = Made(INDEX.root, {**INDEX.blobs, layer: bytes(len(one.blobs[layer]))}, INDEX.media_type)
    with pytest.raises(UntrustedError, match="is another one"):
        copied(kitchen, volume("linux/amd64"), spoilt)


def test_too_much_is_not_even_fetched(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(len(data) for data in IMAGES["linux/amd64"].blobs.values())
    monkeypatch.setattr(oci_volume, "IMAGE_LIMIT_BYTES", size)
    copied(kitchen, volume("linux/amd64"))
    with pytest.raises(BuildError, match=r"(?s)volume data: oci:layout has more than .*List the needed platforms"):
        copied(kitchen, volume())


def test_manifests_are_bounded_in_all(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_volume, "MANIFESTS_LIMIT_BYTES", len(IMAGES["linux/amd64"].root), raising=False)
    copied(kitchen, volume("linux/amd64"))
    with pytest.raises(BuildError, match="volume data: the manifests of oci:layout have more than"):
        copied(kitchen, volume())


def test_a_spec_with_such_a_volume_is_built(kitchen: Kitchen) -> None:
    write_layout(kitchen.folder, INDEX)
    kitchen.recipe("init", files=[{"path": "init", "contents": "x", "mode": "0755"}])
    text = "[{name: data, image: 'oci:layout', format: oci, platforms: [linux/s390x]}]"
    bootable = kitchen.build(f"init: ['@pkg:./images/init']\nvolumes: {text}\n", kitchen.kernel())
    assert bootable.initrd
    below = "containers/volumes/data/lower"
    names = {path.removeprefix(f"{below}/") for path in unpacked(bootable.initrd.file) if path.startswith(f"{below}/")}
    assert {"oci-layout", "index.json", "blobs/sha256"} <= names
    assert f"blobs/sha256/{IMAGES['linux/s390x'].digest.removeprefix('sha256:')}" in names
    assert f"blobs/sha256/{IMAGES['linux/amd64'].digest.removeprefix('sha256:')}" not in names
    assert ("oci:layout", INDEX.digest.removeprefix("sha256:")) in [(one.name, one.sha256) for one in bootable.images]
