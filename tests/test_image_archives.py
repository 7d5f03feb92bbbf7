"""Archives of images as engines and tools write them: named, compressed, with holes, beside signatures."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.slices import SparseSlice
from bootmatrix.assembly.tree import Tree
from bootmatrix.errors import BootmatrixError, BuildError, InputError, UntrustedError
from bootmatrix.model import ImageSource
from bootmatrix.progress import NullObserver
from bootmatrix.source import image_sources
from bootmatrix.source.images.images import Images
from bootmatrix.source.images.www_authenticate import challenges
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store
from image_maker import Json, Made, files, make_image, make_index, sha256, write_archive, write_layout, write_saved
from packages import entry, make_tar

NAME, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"
ALPHA, BETA = (make_image(files(id=name), pack=bytes) for name in ("alpha", "beta"))


def engine(folder: Path, *images: tuple[Made, str], saved: Sequence[Json] | None = None) -> Path:
    """Archive of `docker save` of engines 25 to 29: a layout with containerd's names, and manifest.json."""
    layout = write_layout(folder, {name: made for made, name in images})
    entries = [
        made.described(
            annotations={NAME: name, REF: name.rpartition(":")[2]}, platform={"os": "linux", "architecture": "amd64"}
        )
        for made, name in images
    ]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    whole = [described(made, name.removeprefix("docker.io/library/")) for made, name in images]
    (layout / "manifest.json").write_text(json.dumps(whole if saved is None else saved))
    return packed(layout, folder)


def described(made: Made, *tags: str) -> Json:
    """An image of manifest.json."""
    manifest = json.loads(made.root)
    paths = [one["digest"].replace(":", "/") for one in (manifest["config"], *manifest["layers"])]
    return {
        "Config": f"blobs/{paths[0]}",
        "RepoTags": list(tags) or None,
        "Layers": [f"blobs/{one}" for one in paths[1:]],
    }


def packed(layout: Path, folder: Path) -> Path:
    parts = sorted(file for file in layout.rglob("*") if file.is_file())
    path = folder / "image.tar"
    path.write_bytes(make_tar(entry(str(file.relative_to(layout)), file.read_bytes()) for file in parts))
    return path


def read(path: Path, name: str = "", kind: str = "docker-archive", store: Store | None = None) -> Tree:
    store = store or Store(path.parent / "cache")
    source = ImageSource(kind=kind, path=str(path), name=name)
    return image_tree(Images(store, NullObserver(), Used()).image(source, "linux/amd64"), store)


def content(tree: Tree) -> dict[str, bytes]:
    return {path: node.read() for path, node in tree.items() if node.kind == "file"}


def refused(path: Path, name: str = "", kind: str = "docker-archive") -> str:
    with pytest.raises(BuildError) as caught:
        read(path, name, kind)
    return str(caught.value)


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["beta", "beta:latest", "docker.io/library/beta", "docker.io/library/beta:latest"])
def test_an_engines_archive_by_name(tmp_path: Path, name: str) -> None:
    path = engine(tmp_path, (ALPHA, "docker.io/library/alpha:latest"), (BETA, "docker.io/library/beta:latest"))
    assert content(read(path, name)) == {"id": b"beta"}


@pytest.mark.parametrize("name", ["", "latest"])
def test_several_images_and_no_name_of_one(tmp_path: Path, name: str) -> None:
    path = engine(tmp_path, (ALPHA, "docker.io/library/alpha:latest"), (BETA, "docker.io/library/beta:latest"))
    said = refused(path, name)
    assert "several images" in said
    assert "docker.io/library/alpha:latest, docker.io/library/beta:latest" in said


def test_several_images_of_which_one_has_no_name(tmp_path: Path) -> None:
    """As `docker save ID NAME` writes them."""
    path = engine(tmp_path, (ALPHA, "docker.io/library/a:1"), (BETA, "b:1"))
    layout = tmp_path / "layout"
    index, saved = (json.loads((layout / name).read_text()) for name in ("index.json", "manifest.json"))
    del index["manifests"][1]["annotations"]
    saved[1]["RepoTags"] = None
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "manifest.json").write_text(json.dumps(saved))
    assert "several images: docker.io/library/a:1, 1 without a name" in refused(packed(layout, path.parent))


def test_copies_of_an_archive_have_names_of_their_own(tmp_path: Path) -> None:
    images = Images(Store(tmp_path / "cache"), NullObserver(), Used())
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_bytes(files(id="same"))
        source = ImageSource(kind="tar", path=str(tmp_path / name))
        assert images.image(source, "linux/amd64").reference == source.path


def test_a_tag_alone_that_one_image_has(tmp_path: Path) -> None:
    path = engine(tmp_path, (ALPHA, "docker.io/library/alpha:1"), (BETA, "docker.io/library/beta:2"))
    assert content(read(path, "2")) == {"id": b"beta"}
    assert "has no image 'gamma'; available: docker.io/library/alpha:1" in refused(path, "gamma")


def test_two_names_of_one_image(tmp_path: Path) -> None:
    path = engine(tmp_path, (ALPHA, "docker.io/library/alpha:1"), (ALPHA, "docker.io/library/alpha:2"))
    assert content(read(path, "alpha:2")) == {"id": b"alpha"}


def test_a_name_that_only_manifest_json_has(tmp_path: Path) -> None:
    layout = write_layout(tmp_path, {"": ALPHA})
    entries = [ALPHA.described(), BETA.described()]
    for digest, data in {**BETA.blobs, BETA.digest: BETA.root}.items():
        (layout / "blobs" / digest.replace(":", "/")).write_bytes(data)
    (layout / "index.json").write_text(json.dumps({"manifests": entries}))
    (layout / "manifest.json").write_text(json.dumps([described(ALPHA, "alpha:1"), described(BETA, "beta:1")]))
    path = packed(layout, tmp_path)
    assert content(read(path, "beta:1")) == {"id": b"beta"}
    assert "several images" in refused(path)


def test_images_without_names_of_several_platforms_are_one(tmp_path: Path) -> None:
    layout = write_layout(tmp_path, {"": ALPHA})
    arm = make_image(files(id="arm"), platform="linux/arm64")
    for digest, data in {**arm.blobs, arm.digest: arm.root}.items():
        (layout / "blobs" / digest.replace(":", "/")).write_bytes(data)
    entries = [
        one.described(platform={"os": "linux", "architecture": name})
        for one, name in ((arm, "arm64"), (ALPHA, "amd64"))
    ]
    (layout / "index.json").write_text(json.dumps({"manifests": entries}))
    assert content(read(layout, kind="oci")) == {"id": b"alpha"}


@pytest.mark.parametrize(
    "links",
    [
        [("two/layer.tar", tarfile.SYMTYPE, "real.tar")],
        [("two/layer.tar", tarfile.SYMTYPE, "/two/real.tar")],
        [("two/layer.tar", tarfile.LNKTYPE, "./two/real.tar")],
        [("two/layer.tar", tarfile.SYMTYPE, "../b/layer.tar"), ("b/layer.tar", tarfile.SYMTYPE, "../two/real.tar")],
    ],
)
def test_layers_that_are_links(tmp_path: Path, links: list[tuple[str, bytes, str]]) -> None:
    layer = make_tar([entry("id", b"linked")])
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [sha256(layer)]}})
    manifest = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["two/layer.tar"]}]
    members = [entry("c.json", config.encode()), entry("manifest.json", json.dumps(manifest).encode())]
    members += [*(entry(name, kind=kind, to=to) for name, kind, to in links), entry("two/real.tar", layer)]
    (tmp_path / "saved.tar").write_bytes(make_tar(members))
    assert content(read(tmp_path / "saved.tar")) == {"id": b"linked"}


def test_the_archive_of_engine_25_0_0_has_manifests_without_layers(tmp_path: Path) -> None:
    manifest = {**json.loads(ALPHA.root), "layers": []}
    hollow = Made(json.dumps(manifest).encode(), ALPHA.blobs)
    path = engine(tmp_path, (hollow, "docker.io/library/a:1"), saved=[described(ALPHA, "a:1")])
    assert content(read(path)) == content(read(path, "a:1")) == {"id": b"alpha"}


def test_an_archive_that_is_two_images_at_once(tmp_path: Path) -> None:
    path = engine(tmp_path, (ALPHA, "docker.io/library/a:1"), saved=[described(BETA, "a:1")])
    assert "describe different images" in refused(path, "a:1")
    other = {**described(ALPHA, "a:1"), "Layers": described(BETA)["Layers"]}
    path = engine(tmp_path, (ALPHA, "docker.io/library/a:1"), saved=[other])
    assert "have different layers" in refused(path)


@pytest.mark.parametrize("name", ["", "a:1", "1"])
def test_an_archive_whose_manifest_json_has_more_than_the_index(tmp_path: Path, name: str) -> None:
    """Older engines would load the last one under this name."""
    saved = [described(ALPHA, "a:1"), described(BETA, "a:1")]
    path = engine(tmp_path, (ALPHA, "docker.io/library/a:1"), saved=saved)
    assert "its index.json has one image" in refused(path, name)
    path = engine(tmp_path, (ALPHA, "docker.io/library/a:1"), saved=saved[:1] * 2)
    assert content(read(path, name)) == {"id": b"alpha"}


def test_images_of_several_platforms_are_those_of_manifest_json(tmp_path: Path) -> None:
    arm = make_image(files(id="arm"), platform="linux/arm64")
    layout = write_layout(tmp_path, {"": ALPHA, "x": arm})
    pairs = (("amd64", ALPHA), ("arm64", arm))
    entries = [made.described(platform={"os": "linux", "architecture": name}) for name, made in pairs]
    (layout / "index.json").write_text(json.dumps({"manifests": entries}))
    (layout / "manifest.json").write_text(json.dumps([described(ALPHA, "a:1")]))
    assert content(read(packed(layout, tmp_path))) == {"id": b"alpha"}
    (layout / "manifest.json").write_text(json.dumps([described(BETA, "a:1")]))
    assert "describe different images" in refused(packed(layout, tmp_path))


@pytest.mark.parametrize("root", [{"type": "layers", "diff_ids": None}, {"type": "layers"}, None])
@pytest.mark.parametrize("layers", [[], None])
def test_an_image_without_layers(tmp_path: Path, root: Json | None, layers: list[object] | None) -> None:
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": root}).encode()
    described_config = {"digest": sha256(config), "size": len(config)}
    manifest = json.dumps({"schemaVersion": 2, "config": described_config, "layers": layers}).encode()
    made = Made(manifest, {sha256(config): config})
    assert content(read(write_archive(tmp_path, made), kind="oci-archive")) == {}


def test_a_name_twice_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = write_saved(tmp_path, [files(id="x")], {})
    path.write_bytes(make_tar([entry("manifest.json", b"[]"), entry("./manifest.json", b"[]")]))
    assert "duplicate file 'manifest.json'" in refused(path)
    for other in (".//manifest.json", "./././manifest.json", "/manifest.json"):
        path.write_bytes(make_tar([entry("manifest.json", b"[]"), entry(other, b"[]")]))
        assert "duplicate file 'manifest.json'" in refused(path)
    path.write_bytes(make_tar([entry("manifest.json", b"[]"), entry("x/../manifest.json", b"[]")]))
    assert "'x/../manifest.json' leads out of its folder" in refused(path)
    link = entry("manifest.json", kind=tarfile.SYMTYPE, to="other.json")
    for members in ([link, entry("manifest.json", b"[]")], [entry("manifest.json", b"[]"), link], [link, link]):
        path.write_bytes(make_tar([entry("other.json", b"[]"), *members]))
        assert "duplicate file 'manifest.json'" in refused(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("manifest.json", b'{"schemaVersion": 2, "config": {}, "layers": []}', "a registry's, as in skopeo's dir:"),
        ("manifest.json", b"[]", "lists no image"),
        ("bin/sh", b"", "is not an image: no manifest.json"),
    ],
)
def test_archives_of_something_else(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(make_tar([entry(name, data)]))
    assert message in refused(path)


def test_an_index_that_is_no_file_does_not_block(tmp_path: Path) -> None:
    layout = write_layout(tmp_path, ALPHA)
    (layout / "index.json").unlink()
    os.mkfifo(layout / "index.json")
    with pytest.raises(InputError, match=r"index\.json: not a regular file"):
        image_sources.load("oci").digest(ImageSource(kind="oci", path=str(layout)))


# ---- compression --------------------------------------------------------------------------------------------------


def skippable(data: bytes) -> bytes:
    """Zstd frames as pzstd and others write them, with frames before and between that readers skip (RFC 8878)."""
    frames = [zstandard.compress(data[at : at + 4096]) for at in range(0, len(data), 4096)]
    skip = struct.pack("<II", 0x184D2A53, 4) + b"size"
    return skip + skip.join(frames)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
    "zstd with skippable frames": skippable,
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "tar"])
def test_compressed_archives(tmp_path: Path, kind: str, packer: str) -> None:
    path = tmp_path / "root.tar"
    if kind == "tar":
        path.write_bytes(files(id="x"))
    else:
        path = write_saved(tmp_path, [files(id="x")], {}) if kind == "docker-archive" else write_archive(tmp_path, GOOD)
    path.write_bytes(PACKERS[packer](path.read_bytes()))
    store = Store(tmp_path / "cache")
    assert content(read(path, kind=kind, store=store)) == {"id": b"x"}
    assert content(read(path, kind=kind, store=store)) == {"id": b"x"}, "from the cache"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BootmatrixError):
        read(path, kind=kind, store=store)


GOOD = make_image(files(id="x"))


@pytest.mark.parametrize("packer", PACKERS)
def test_compressed_layers(tmp_path: Path, packer: str) -> None:
    assert content(read(write_layout(tmp_path, make_image(files(id="x"), pack=PACKERS[packer])), kind="oci")) == {
        "id": b"x"
    }


def test_a_compressed_archive_that_changes_is_another_image(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    for text in ("one", "two", "one"):
        path = write_saved(tmp_path, [files(id=text)], {})
        path.write_bytes(gzip.compress(path.read_bytes()))
        assert content(read(path, store=store)) == {"id": text.encode()}


# ---- holes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
@pytest.mark.parametrize("pieces", [3, 40])
def test_files_with_holes(tmp_path: Path, form: str, pieces: int) -> None:
    """Of all forms that GNU tar writes; 40 pieces need a second header in the old one."""
    root = tmp_path / "root"
    root.mkdir()
    with (root / "file").open("wb") as file:
        for number in range(pieces):
            file.seek((number + 1) * 65536)
            file.write(b"%05d" % number)
        file.truncate((pieces + 2) * 65536)
    (root / "last").write_text("behind it")
    flags = ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form}"]
    path = tmp_path / "root.tar"
    subprocess.run(["tar", "-C", root, "-S", *flags, "-cf", path, "file", "last"], check=True)
    tree = read(path, kind="tar")
    node = tree.nodes["file"]
    assert isinstance(node.data, SparseSlice)
    whole = (root / "file").read_bytes()
    assert b"".join(node.pieces()) == node.read() == node.open().read() == whole
    assert node.size == len(whole)
    assert tree.nodes["last"].read() == b"behind it"


def pax(name: str, data: bytes, **headers: str) -> Iterable[tarfile.TarInfo]:
    made = entry(name, data)
    made.pax_headers = {**made.pax_headers} | {key.replace("__", "."): value for key, value in headers.items()}
    return [made]


@pytest.mark.parametrize(
    ("extents", "message"),
    [
        ("0,100,50,100", "overlap"),
        ("100,10,0,10", "overlap"),
        ("0,10,990,20", "exceed its size"),
        ("-5,10", "overlap"),
        (",".join(["1,0"] * 3 + [f"{2 * number},1" for number in range(1 << 17)]), ""),
    ],
)
def test_holes_that_make_no_sense(tmp_path: Path, extents: str, message: str) -> None:
    """Pieces that overlap keep Python's reader busy for ever."""
    members = pax("a", bytes(200), GNU__sparse__map=extents, GNU__sparse__size="1000")
    path = tmp_path / "root.tar"
    path.write_bytes(make_tar(members, tarfile.PAX_FORMAT))
    assert message in refused(path, kind="tar")


def test_a_map_of_holes_without_end(tmp_path: Path) -> None:
    data = b"9999999\n" + b"1\n" * 2_000_000
    headers = {"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "5"}
    path = tmp_path / "root.tar"
    path.write_bytes(gzip.compress(make_tar(pax("a", data, **headers), tarfile.PAX_FORMAT)))
    assert "too long" in refused(path, kind="tar")


def test_holes_of_more_than_anybody_has(tmp_path: Path) -> None:
    members = [
        one
        for number in range(5)
        for one in pax(f"f{number}", b"x", GNU__sparse__map="0,1", GNU__sparse__size=str(1 << 30))
    ]
    path = tmp_path / "root.tar"
    path.write_bytes(make_tar(members, tarfile.PAX_FORMAT))
    assert "have holes of more than" in refused(path, kind="tar")


# ---- what is no image ---------------------------------------------------------------------------------------------


def artifact(config: bytes, layer_type: str, **more: object) -> Made:
    blob = b'{"critical": {}}'
    layers = [{"mediaType": layer_type, "digest": sha256(blob), "size": len(blob)}]
    kind = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": len(config)}
    manifest = {"schemaVersion": 2, "config": kind, "layers": layers, **more}
    return Made(json.dumps(manifest).encode(), {sha256(blob): blob, sha256(config): config})


SIGNATURE = artifact(b'{"architecture": "", "os": ""}', "application/vnd.dev.cosign.simplesigning.v1+json")
ATTESTATION = artifact(b"{}", "application/vnd.in-toto+json")
MARKS: dict[str, tuple[Made, Mapping[str, Any]]] = {
    "cosign's annotation": (SIGNATURE, {"annotations": {"kind": "dev.cosignproject.cosign/sigs"}}),
    "nothing but its layers": (SIGNATURE, {}),
    "cosign's tag": (ALPHA, {"annotations": {REF: f"sha256-{'0' * 64}.sig"}}),
    "an attestation of BuildKit": (
        ATTESTATION,
        {
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        },
    ),
    "an artifact's type": (ALPHA, {"artifactType": "application/spdx+json"}),
    "an artifact's type in the manifest": (
        artifact(b"{}", "application/octet-stream", artifactType="application/spdx+json"),
        {},
    ),
    "a media type of artifacts": (ALPHA, {"mediaType": "application/vnd.oci.artifact.manifest.v1+json"}),
}


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("is_nested", [False, True])
def test_what_is_no_image_is_passed_over(tmp_path: Path, mark: str, is_nested: bool) -> None:
    made, more = MARKS[mark]
    entries = [made.described(**more), BETA.described()]
    blobs = {**made.blobs, made.digest: made.root, **BETA.blobs, BETA.digest: BETA.root}
    if is_nested:
        inner = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        entries = [{"digest": sha256(inner), "size": len(inner)}]
        blobs[sha256(inner)] = inner
    if is_nested and "tag" in mark:
        pytest.skip("names stand in the outermost index alone")
    layout = write_layout(tmp_path, Made(BETA.root, blobs))
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    assert content(read(layout, kind="oci")) == {"id": b"beta"}


def test_nothing_but_signatures(tmp_path: Path) -> None:
    layout = write_layout(tmp_path, SIGNATURE)
    entries = [SIGNATURE.described(annotations={"n": str(number)}) for number in range(2)]
    (layout / "index.json").write_text(json.dumps({"manifests": entries}))
    assert "has no image, only signatures" in refused(layout, kind="oci")


# ---- documents that could be two things ----------------------------------------------------------------------------

MANIFEST = json.loads(ALPHA.root)
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def with_root(root: bytes) -> Made:
    return Made(root, ALPHA.blobs)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (json.dumps({**MANIFEST, "manifests": [BETA.described()]}), "is ambiguous: both an image and an index"),
        (json.dumps({"config": MANIFEST["config"], "manifests": [BETA.described()]}), "is ambiguous"),
        (json.dumps({**MANIFEST, "fsLayers": []}), "is ambiguous"),
        (json.dumps({**MANIFEST, "mediaType": OCI_INDEX}), "does not match its media type"),
        (
            json.dumps({"mediaType": MANIFEST["mediaType"], "manifests": [BETA.described()]}),
            "does not match its media type",
        ),
        (json.dumps({**MANIFEST, "mediaType": ["x"]}), "is ambiguous"),
        (json.dumps(MANIFEST)[:-1] + ', "layers": []}', "duplicate key 'layers'"),
        (json.dumps({**MANIFEST, "Layers": []}), "in two spellings"),
        (json.dumps({**MANIFEST, "config": {**MANIFEST["config"], "Digest": BETA.digest}}), "key 'Digest' in two"),
        (json.dumps({**MANIFEST, "layers": [{**MANIFEST["layers"][0], "diGest": ""}]}), "key 'diGest' in two"),
        (json.dumps({**MANIFEST, "layers": [{**MANIFEST["layers"][0], "\u017fize": 1}]}), "in two spellings"),
        (json.dumps({**MANIFEST, "Manifests": [BETA.described()]}), "key 'Manifests' instead of 'manifests'"),
        (json.dumps({**MANIFEST, "mediatype": OCI_INDEX}), "key 'mediatype' in"),
    ],
)
def test_a_document_that_could_be_two_things(tmp_path: Path, root: str, message: str) -> None:
    assert message in refused(write_layout(tmp_path, with_root(root.encode())), kind="oci")


@pytest.mark.parametrize("key", ["entrypoint", "CMD", "\u017fize"])
def test_a_configuration_that_programs_in_go_read_otherwise(tmp_path: Path, key: str) -> None:
    path = write_layout(tmp_path, make_image(files(id="x"), config={"Cmd": ["/good"], key: ["/other"]}))
    if key == "CMD":
        assert "in two spellings" in refused(path, kind="oci")
    elif key == "entrypoint":
        assert "key 'entrypoint' instead of 'Entrypoint'" in refused(path, kind="oci")
    else:
        assert read(path, kind="oci")  # nobody reads a size here


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"config": "other.json"}, "key 'config' in two spellings"),
        ({"layers": ["other.tar"]}, "key 'layers' in two spellings"),
        ({"repotags": ["other:1"]}, "key 'repotags' in two spellings"),
    ],
)
def test_a_manifest_json_that_programs_in_go_read_otherwise(tmp_path: Path, more: Json, message: str) -> None:
    assert message in refused(engine(tmp_path, (ALPHA, "alpha:1"), saved=[{**described(ALPHA, "alpha:1"), **more}]))


def test_names_in_maps_may_differ_in_case_alone(tmp_path: Path) -> None:
    made = make_image(files(id="x"), config={"Labels": {"a": "1", "A": "2"}}, annotations={"b": "", "B": ""})
    assert content(read(write_layout(tmp_path, made), kind="oci")) == {"id": b"x"}


def test_a_layer_of_another_size_is_refused_even_if_it_is_known(tmp_path: Path) -> None:
    assert read(write_layout(tmp_path, ALPHA), kind="oci")
    layer = {**MANIFEST["layers"][0], "size": MANIFEST["layers"][0]["size"] + 1}
    made = with_root(json.dumps({**MANIFEST, "layers": [layer]}).encode())
    with pytest.raises(UntrustedError, match="size mismatch of the layer"):
        read(write_layout(tmp_path, made), kind="oci")


def test_a_media_type_that_an_index_contradicts(tmp_path: Path) -> None:
    outer = make_index({"linux/amd64": ALPHA})
    wrong = outer.root.replace(b"image.manifest.v1+json", b"image.index.v1+json")
    assert "does not match its media type" in refused(write_layout(tmp_path, Made(wrong, outer.blobs)), kind="oci")


@pytest.mark.parametrize(
    "diff_id", ["", "sha256:", "md5:0", None, 7, "sha256:" + "g" * 64, hashlib.sha256(b"").hexdigest()]
)
def test_a_diff_id_that_says_nothing(tmp_path: Path, diff_id: object) -> None:
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [diff_id]}}).encode()
    described_config = {"digest": sha256(config), "size": len(config)}
    manifest = json.dumps({**MANIFEST, "config": described_config}).encode()
    made = Made(manifest, {**ALPHA.blobs, sha256(config): config})
    assert "expected sha256" in refused(write_layout(tmp_path, made), kind="oci")


# ---- sizes --------------------------------------------------------------------------------------------------------


def test_layers_that_are_bombs_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is below what a small one may unpack to."""
    for module in ("pull", "layers"):
        monkeypatch.setattr(f"bootmatrix.source.images.{module}.FREE_BYTES", 1 << 20, raising=False)
    layers = [make_tar([entry(f"f{number}", bytes(900_000))]) for number in range(40)]
    path = write_layout(tmp_path, make_image(*layers, pack=lambda data: zstandard.compress(data, 19)))
    assert "unpacks to more than 200 times its size" in refused(path, kind="oci")
    assert sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*") if file.is_file()) < 4 << 20


def deep(count: int, length: int, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    names = ("/".join([f"{number}"[:length]] * count) for number in range(200))
    return make_tar((entry(f"{name}/x", b"") for name in names), tar_format)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (deep(20_000, 1), "too long"),
        (deep(1_000, 1), "folders"),
        (make_tar([entry("a" * 256, b"")], tarfile.PAX_FORMAT), "too long"),
        (make_tar([entry("a", kind=tarfile.SYMTYPE, to="b/" * 3000)], tarfile.PAX_FORMAT), "has a target of"),
    ],
)
def test_paths_of_no_use(tmp_path: Path, layer: bytes, message: str) -> None:
    path = tmp_path / "root.tar.gz"
    path.write_bytes(gzip.compress(layer))
    assert message in refused(path, kind="tar")


@pytest.mark.parametrize(("name", "value"), [("MAX_NODES", 50), ("MAX_NAMES_BYTES", 500), ("MAX_STEPS", 0)])
def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    monkeypatch.setattr(f"bootmatrix.assembly.tree.{name}", value)
    path = tmp_path / "root.tar"
    path.write_bytes(make_tar(entry(f"folder/f{number:03}", b"") for number in range(60)))
    assert refused(path, kind="tar")


def test_headers_that_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.source.safe_archive.HEADERS_BYTES", 1 << 20)
    members = [one for number in range(40) for one in pax(f"f{number}", b"", comment="x" * 50_000)]
    path = tmp_path / "root.tar.gz"
    path.write_bytes(gzip.compress(make_tar(members, tarfile.PAX_FORMAT)))
    assert "names and headers" in refused(path, kind="tar")


def test_links_through_links_take_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these paths leads through as many links as Linux follows, each of which goes to and fro."""
    monkeypatch.setattr("bootmatrix.assembly.tree.MAX_STEPS", 1_000_000)
    target = "d/../" * 800
    members = [entry("d", kind=tarfile.DIRTYPE)]
    members += [entry(f"l{n}", kind=tarfile.SYMTYPE, to=f"{target}l{n + 1}") for n in range(39)]
    members += [entry("l39", kind=tarfile.DIRTYPE), *(entry(f"l0/f{number}", b"") for number in range(10_000))]
    path = tmp_path / "root.tar.gz"
    path.write_bytes(gzip.compress(make_tar(members, tarfile.PAX_FORMAT)))
    assert "are too many" in refused(path, kind="tar")


# ---- challenges ---------------------------------------------------------------------------------------------------

REALM = "https://auth.example/token"


@pytest.mark.parametrize(
    ("header", "schemes"),
    [
        (f'Negotiate, Bearer realm="{REALM}",service="s"', ["negotiate", "bearer"]),
        (f'Negotiate YIIZ+/==, Bearer realm="{REALM}", service=s', ["negotiate", "bearer"]),
        (f'Bearer realm="{REALM}",service="s", Negotiate', ["bearer", "negotiate"]),
        (f', ,Basic realm="a, \\"b\\"" ,, bearer realm = "{REALM}" , service = "s"', ["basic", "bearer"]),
        (f'Digest qop="auth, auth-int", nonce=x, Bearer realm={REALM},service=s', ["digest", "bearer"]),
        (f'NTLM, Bearer realm="{REALM}" service="s"', ["ntlm", "bearer"]),
    ],
)
def test_several_challenges_in_one_header(header: str, schemes: list[str]) -> None:
    found = challenges([header])
    assert [one.scheme for one in found] == schemes
    bearer = next(one for one in found if one.scheme == "bearer")
    assert bearer.parameters == {"realm": REALM, "service": "s"}


# ---- users --------------------------------------------------------------------------------------------------------


def test_streams_of_holes_are_read_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"0123456789")
    data = SparseSlice(tmp_path / "data", 2, 3 << 20, ((1 << 20, 3), (2 << 20, 5)))
    whole = io.BytesIO(bytes(3 << 20)).getbuffer()
    whole[1 << 20 : (1 << 20) + 3] = b"234"
    whole[2 << 20 : (2 << 20) + 5] = b"56789"
    assert data.read() == bytes(whole)
    assert data.holes_bytes == (3 << 20) - 8
