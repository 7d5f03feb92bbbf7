"""Images of a real Docker engine, built there or loaded into it, and what `docker save` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archive_client import Listener
from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.image.builder import make_image as make_one
from bootmatrix.errors import BootmatrixError, BuildError, InfraError, InputError
from bootmatrix.load.images import find_source
from bootmatrix.model import ImageOverride, ImageSource, StoredImage
from bootmatrix.model.image import LABEL
from bootmatrix.source.images.images import Images
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store
from engine_fixtures import Engine
from image_maker import Made, files, gzipped, make_image, make_index, write_archive, write_layout, write_saved
from kitchen import PROFILES, Kitchen
from packages import entry, make_tar

pytest_plugins = ("archive_fixtures", "engine_fixtures", "kitchen")

AMD64 = "linux/amd64"


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(Store(tmp_path / "cache"), Listener(), Used())


def contents(image: StoredImage, tmp_path: Path) -> dict[str, str]:
    tree = image_tree(image, Store(tmp_path / "cache"))
    return {path: node.read().decode() for path, node in tree.items() if node.kind == "file"}


def error_of(images: Images, source: ImageSource, kind: type[BootmatrixError], platform: str = AMD64) -> str:
    with pytest.raises(kind) as caught:
        images.image(source, platform)
    return str(caught.value)


# ---- an engine ----------------------------------------------------------------------------------------------------


def test_an_image_of_the_engine(
    engine: Engine, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    layers = [files(a="1", b="1"), make_tar([entry(".wh.a"), entry("c", b"2")])]
    config = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/c"], "Labels": {"x": "y"}}}
    engine.client.load_image(write_saved(tmp_path, layers, config, ["mine:1"]).read_bytes())
    source = ImageSource(kind="docker-daemon", name="mine:1")
    image = images.image(source, AMD64)
    assert (image.config.cmd, image.config.labels) == (("/c",), {"x": "y"})
    assert contents(image, tmp_path) == {"b": "1", "c": "2"}
    assert images.image(source, AMD64) == image
    found = error_of(images, source, BuildError, "linux/s390x")
    assert "the Docker engine has mine:1 for linux/amd64, expected linux/s390x" in found
    assert "docker pull --platform linux/s390x mine:1" in found
    faults = [images.platform_fault(source, platform) for platform in (AMD64, "linux/s390x")]
    assert faults == ["", "the Docker engine has mine:1 for linux/amd64, expected linux/s390x"]
    assert "the Docker engine has no image none:1" in error_of(
        images, ImageSource(kind="docker-daemon", name="none:1"), BuildError
    )


def test_an_engine_that_is_not_there(images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    found = error_of(images, ImageSource(kind="docker-daemon", name="x"), InfraError)
    assert "the Docker engine does not answer" in found
    assert "DOCKER_HOST" in found


@pytest.mark.parametrize("host", ["tcp://h:port", "tcp://127.0.0.1:99999", "tcp://[::::]:1", "nothing://x"])
def test_a_docker_host_that_is_none(images: Images, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    assert "DOCKER_HOST" in error_of(images, ImageSource(kind="docker-daemon", name="x"), InfraError)


def image_of(kitchen: Kitchen, arch: str) -> StoredImage:
    return make_one("@pkg:./pkg", kitchen.folder / "s.yml", PROFILES[arch], kitchen.builder)


DOCKERFILE = 'FROM scratch\nARG WORD\nCOPY file /etc/file\nLABEL word=$WORD\nENTRYPOINT ["/x"]\n'


@pytest.mark.parametrize("arch", ["x86_64", "armv7"])
def test_a_package_of_linuxkits_is_built(
    engine: Engine, kitchen: Kitchen, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # Debian's own client
    folder = kitchen.folder / "pkg"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "file").write_text("content")
    (folder / "build.yml").write_text("image: mine\nconfig: {binds: ['/a:/b']}\nbuildArgs: ['WORD=said']\n")
    image = image_of(kitchen, arch)
    assert json.loads(image.config.labels[LABEL]) == {"binds": ["/a:/b"]}
    assert (image.config.labels["word"], image.config.entrypoint) == ("said", ("/x",))
    assert image_tree(image, kitchen.builder.store).nodes["etc/file"].read() == b"content"
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY none /x\n")
    with pytest.raises(BuildError, match="not found"):
        image_of(kitchen, arch)


def test_a_package_says_what_it_is_for(kitchen: Kitchen) -> None:
    """As LinuxKit's build.yml does; nothing is asked of an engine."""
    folder = kitchen.folder / "pkg"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "build.yml").write_text("image: mine\narches: [amd64, arm64]\n")
    with pytest.raises(BuildError, match="the package is for amd64, arm64, and not for arm"):
        image_of(kitchen, "armv7")


def test_a_package_is_built_without_dockers_program_too(
    engine: Engine, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    monkeypatch.setenv("PATH", "")
    folder = kitchen.folder / "pkg"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY file /x\n")
    (folder / "file").write_text("content")
    assert image_tree(image_of(kitchen, "x86_64"), kitchen.builder.store).nodes["x"].read() == b"content"
    with pytest.raises(BuildError, match=r"has .* for linux/amd64, expected linux/arm/v7") as caught:
        image_of(kitchen, "armv7")
    assert "Install docker-buildx" in caught.value.hint
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY none /x\n")
    with pytest.raises(BuildError, match="COPY failed"):
        image_of(kitchen, "x86_64")


# ---- files --------------------------------------------------------------------------------------------------------


MADE = make_image(files(a="1"), config={"Cmd": ["/a"]})
OTHER = make_image(files(a="2"))


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("oci", MADE),
        ("oci-archive", MADE),
        ("oci", make_index({AMD64: MADE, "linux/s390x": OTHER})),
        ("oci-archive", {"mine:1": MADE, "mine:2": OTHER}),
        ("oci", {"mine:1": MADE, "mine:2": OTHER}),
    ],
)
def test_a_layout(images: Images, tmp_path: Path, kind: str, made: Made | dict[str, Made]) -> None:
    path = (write_layout if kind == "oci" else write_archive)(tmp_path, made)
    name = "mine:1" if isinstance(made, dict) else ""
    source = find_source(f"{kind}:{path.name}" + (f":{name}" if name else ""), tmp_path / "s.yml", ())
    assert (source.kind, source.name) == (kind, name)
    image = images.image(source, AMD64)
    assert contents(image, tmp_path) == {"a": "1"}
    assert image.config.cmd == ("/a",)
    if name:
        both = source.model_copy(update={"name": ""})
        assert "has several images: mine:1, mine:2" in error_of(images, both, BuildError)
        none = source.model_copy(update={"name": "mine:3"})
        assert "has no image 'mine:3'; available: mine:1, mine:2" in error_of(images, none, BuildError)


def test_what_docker_saved(images: Images, tmp_path: Path) -> None:
    config = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/a"]}}
    path = write_saved(tmp_path, [files(a="1"), files(b="2")], config, ["mine:1", "docker.io/library/other:2"])
    for name in ("", "mine:1", "other:2"):
        image = images.image(ImageSource(kind="docker-archive", path=str(path), name=name), AMD64)
        assert contents(image, tmp_path) == {"a": "1", "b": "2"}
        assert image.config.cmd == ("/a",)
    wrong = ImageSource(kind="docker-archive", path=str(path), name="mine:2")
    assert "has no image 'mine:2'" in error_of(images, wrong, BuildError)


@pytest.mark.parametrize("pack", [bytes, gzipped])
def test_a_root_in_a_tar_archive(images: Images, tmp_path: Path, pack: type[bytes]) -> None:
    (tmp_path / "root.tar").write_bytes(pack(files(a="1", etc__b="2")))
    image = images.image(ImageSource(kind="tar", path=str(tmp_path / "root.tar")), "linux/s390x")
    assert contents(image, tmp_path) == {"a": "1", "etc/b": "2"}
    assert image.config.cmd == ()


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive", "tar"])
def test_files_that_are_no_images(images: Images, tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").write_bytes(b"nothing " * 500)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/index.json").write_text("nothing")
    path = tmp_path / ("folder" if kind == "oci" else "x")
    with pytest.raises(BuildError):
        image_tree(images.image(ImageSource(kind=kind, path=str(path)), AMD64), Store(tmp_path / "cache"))


def test_a_layout_follows_no_links(images: Images, tmp_path: Path) -> None:
    layout = write_layout(tmp_path, MADE)
    blob = next(path for path in layout.glob("blobs/sha256/*"))
    blob.rename(tmp_path / "away")
    blob.symlink_to(tmp_path / "away")
    assert "lacks the blob" in error_of(images, ImageSource(kind="oci", path=str(layout)), BuildError)


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "source"),
    [
        ("redis", "docker://docker.io/library/redis:latest"),
        ("redis:7", "docker://docker.io/library/redis:7"),
        ("docker.io/library/redis:7", "docker://docker.io/library/redis:7"),
        ("docker://redis:7", "docker://docker.io/library/redis:7"),
        ("index.docker.io/a/b", "docker://docker.io/a/b:latest"),
        ("localhost/a", "docker://localhost/a:latest"),
        ("localhost:5000/a/b:1@sha256:" + "0" * 64, "docker://localhost:5000/a/b:1@sha256:" + "0" * 64),
        ("ghcr.io/a@sha256:" + "0" * 64, "docker://ghcr.io/a@sha256:" + "0" * 64),
        ("[::1]:5000/a", "docker://[::1]:5000/a:latest"),
        ("linuxkit/sshd:1", "docker://docker.io/linuxkit/sshd:1"),
        ("docker://linuxkit/init:1", "docker://docker.io/linuxkit/init:1"),
        ("docker-daemon:a/b:1", "docker-daemon:a/b:1"),
    ],
)
def test_what_a_name_means(tmp_path: Path, reference: str, source: str) -> None:
    assert str(find_source(reference, tmp_path / "s.yml", ())) == source


@pytest.mark.parametrize(
    "reference",
    [
        *("A/B/c", "a b", "a:", "a@sha256:1", "", "/", "a/", "../a", "http://a/b", "a:b:c", "x" * 300),
        *("localhost:65536/a", "256.1.1.1/a", "[::::]:1/a", "xn--a.example/a", f"{'a' * 64}.example/a"),
    ],
)
def test_what_is_no_name(tmp_path: Path, reference: str) -> None:
    with pytest.raises(InputError, match="not a valid name of an image"):
        find_source(reference, tmp_path / "s.yml", ())


def test_names_that_have_an_image_here_mean_that_unless_others_are_given(tmp_path: Path) -> None:
    def source(reference: str, *given: tuple[str, str]) -> str:
        rules = [ImageOverride(pattern=name, source=text, folder=str(tmp_path)) for name, text in given]
        return str(find_source(reference, tmp_path / "specs/s.yml", rules))

    assert source("linuxkit/init:1").startswith("recipe:")
    assert source("linuxkit/init:1", ("linuxkit/*", "docker://")) == "docker://docker.io/linuxkit/init:1"
    assert source("redis:7", ("*", "docker-daemon:")) == "docker-daemon:redis:7"
    assert source("redis:7", ("redis:6", "docker://x"), ("redis", "docker://y/z:1")) == "docker://docker.io/y/z:1"
    (tmp_path / "root.tar").touch()
    assert source("docker.io/library/redis:7", ("redis", "tar:root.tar")) == f"tar:{tmp_path}/root.tar"
    assert source("@pkg:./x", ("@pkg:./x", "tar:root.tar")) == f"tar:{tmp_path}/root.tar"
