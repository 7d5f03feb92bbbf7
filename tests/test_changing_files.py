"""Files of the user's that change while they are used: what is kept has the digest that it is kept under."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kernel_forms as forms
from archive_client import Opener
from bootmatrix.assembly import assemble
from bootmatrix.assembly.formats import sbom
from bootmatrix.assembly.image import builder as image_builder
from bootmatrix.assembly.image import recipe as image_recipe
from bootmatrix.assembly.image.builder import Builder, image_tree
from bootmatrix.assembly.kernel import custom, import_kernel
from bootmatrix.assembly.kernel.package import kernel_key, known_files
from bootmatrix.assembly.prebuilt_guest import prebuilt_bootable, with_copies
from bootmatrix.errors import BootmatrixError, BuildError, HostError, InputError
from bootmatrix.model import Artefact, CustomKernel, ImageOverride, ImageSource, KernelPart, PrebuiltGuest
from bootmatrix.progress import NullObserver
from bootmatrix.qemu.disk import private_copy
from bootmatrix.source import download
from bootmatrix.source.image_sources import layouts
from bootmatrix.source.images.images import Images
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store, sha256_of
from image_maker import files as layer_of
from image_maker import make_image as made
from image_maker import write_archive, write_saved
from kernel_forms import PROFILES, kernel_files, make_kernel
from kitchen import Kitchen, files, unpacked
from packages import Deb, entry, make_tar

pytest_plugins = ("archive_fixtures", "kitchen")

IMAGE = make_kernel(PROFILES["aarch64"])
INIT = [{"path": "init", "contents": "x", "mode": "0755"}]


@contextmanager
def just_before(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[], object]
) -> Iterator[None]:
    """Do something whenever a function of ours is called: as another process might, at that moment."""
    real = getattr(module, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        act()
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, wrapped)
        yield


def refused_as_changed() -> pytest.RaisesExc[InputError]:
    return pytest.raises(InputError, match="has changed while it was read")


@pytest.mark.parametrize("size", [10, 3 << 20])
@pytest.mark.parametrize("source", ["file", "folder"])
def test_a_source_of_a_recipe(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, source: str, size: int) -> None:
    where = kitchen.recipe("mine", files=[{"path": "f", "source": source}])
    file = where / "file" if source == "file" else where / "folder/inner"
    file.parent.mkdir(exist_ok=True)
    good, evil = b"good".ljust(size), b"evil".ljust(size)
    file.write_bytes(good)
    with (
        just_before(monkeypatch, image_builder, "put_file", lambda: file.write_bytes(evil)),
        pytest.raises(InputError, match="has changed while it was read"),
    ):
        kitchen.make()
    assert set(files(kitchen.tree()).values()) == {evil}
    file.write_bytes(good)
    assert set(files(kitchen.tree()).values()) == {good}, "no memo of what the race made"


def test_a_source_that_is_another_file_by_a_link(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    where = kitchen.recipe("mine", files=[{"path": "f", "source": "file"}])
    (where / "file").write_text("good")
    (kitchen.folder / "secret").write_text("secret")

    def swap() -> None:
        (where / "file").unlink(missing_ok=True)
        (where / "file").symlink_to(kitchen.folder / "secret")

    with just_before(monkeypatch, image_recipe, "take_into", swap), pytest.raises(InputError, match="has changed"):
        kitchen.make()


def test_a_local_package(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    good, evil = (Deb("mine").of(entry("usr/a", data)) for data in (b"good", b"evil"))
    name = kitchen.deb("mine.deb", good)
    with (
        just_before(monkeypatch, image_builder, "take_deb", lambda: kitchen.deb("mine.deb", evil)),
        pytest.raises(InputError, match="has changed while it was read"),
    ):
        kitchen.make(debs=[name])
    assert files(kitchen.tree(debs=[name])) == {"usr/a": b"evil"}
    kitchen.deb("mine.deb", good)
    assert files(kitchen.tree(debs=[name])) == {"usr/a": b"good"}


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_source_of_a_spec(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    kitchen.recipe("mine", files=INIT)
    spec = 'init: ["@pkg:./images/mine"]\nfiles: [{path: f, source: file}]\nservices: []\n'
    good, evil = b"good".ljust(size), b"evil".ljust(size)
    file = kitchen.folder / "file"
    kernel = kitchen.kernel()

    def built() -> bytes:
        initrd = kitchen.build(spec, kernel).initrd
        assert initrd
        return unpacked(initrd.file)["f"].data

    file.write_bytes(good)
    with (
        just_before(monkeypatch, assemble, "segment", lambda: file.write_bytes(evil)),
        pytest.raises(InputError, match="has changed while it was read"),
    ):
        built()
    file.write_bytes(good)
    assert built() == good
    file.write_bytes(evil)
    assert built() == evil


@pytest.mark.parametrize("kind", ["image", "deb", "tree", "tar"])
def test_a_kernel(opened: Opener, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Changed while it is read, and back again before anybody looks."""
    make = {"image": forms.image_alone, "deb": forms.deb, "tree": forms.tree, "tar": forms.tar_package}[kind]
    source = make(kernel_files(IMAGE), tmp_path)
    file = source / "arch/mine/boot/Image" if kind == "tree" else source
    good, evil = file.read_bytes(), bytes(reversed(file.read_bytes()))
    own = CustomKernel(parts=(KernelPart(kind=kind, path=str(source)),), folder=str(tmp_path))
    builder = Builder(store, opened())
    with just_before(monkeypatch, import_kernel, "_members", lambda: file.write_bytes(evil)):
        kernel = custom.find_own("mine", own, PROFILES["aarch64"], builder)
    kept = known_files(kernel_key(kernel), store)
    assert kept
    assert store.verified(kept.image).read_bytes() == IMAGE
    file.write_bytes(good)
    with just_before(monkeypatch, import_kernel, "_copied", lambda: file.write_bytes(evil)):
        other = own.model_copy(update={"parts": (*own.parts, own.parts[0].model_copy(update={"sha256": None}))})
        with pytest.raises(InputError, match="has changed while it was read"):
            custom.find_own("mine", other, PROFILES["aarch64"], builder)
    assert not list((store.folder / "temp").iterdir())


@pytest.mark.parametrize("is_saved", [True, False])
def test_an_archive_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_saved: bool) -> None:
    """Its index is read once, and all else is held against the digests in it."""

    def written(text: str) -> bytes:
        layer = layer_of(id=text)
        path = write_saved(tmp_path, [layer], {}) if is_saved else write_archive(tmp_path, made(layer))
        return path.read_bytes()

    good, evil = written("good"), written("evil")
    path, store = tmp_path / "mine.tar", Store(tmp_path / "cache")
    source = ImageSource(kind="docker-archive", path=str(path))

    def read() -> dict[str, bytes]:
        return files(image_tree(Images(store, NullObserver(), Used()).image(source, "linux/amd64"), store))

    path.write_bytes(good)
    with (
        just_before(monkeypatch, layouts, "import_image", lambda: path.write_bytes(evil)),
        pytest.raises(BootmatrixError),
    ):
        read()
    path.write_bytes(good)
    assert read() == {"id": b"good"}
    path.write_bytes(evil)
    assert read() == {"id": b"evil"}


def test_a_guest_of_ones_own(tmp_path: Path, store: Store) -> None:
    for name in ("kernel", "initrd"):
        (tmp_path / name).write_bytes(b"good " + name.encode())
    profile = PROFILES["x86_64"]
    machine = profile.machines[profile.default_machine()]
    guest = prebuilt_bootable(PrebuiltGuest(kernel="kernel", initrd="initrd"), tmp_path, profile, machine)
    booted = with_copies(guest, store)
    for part in booted.parts().values():
        assert part.file.is_relative_to(store.folder)
    (tmp_path / "initrd").write_bytes(b"evil")
    assert [part.file.read_bytes() for part in with_copies(guest, store).parts().values()] == [
        b"good kernel",
        b"good initrd",
    ]
    with refused_as_changed():
        with_copies(guest, Store(tmp_path / "another"))


def test_a_disk_of_ones_own(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"good" + bytes(2 << 20) + b"end")
    artefact = Artefact(kind="disk", name="disk", path=str(disk), sha256=sha256_of(disk), size_bytes=9)
    with private_copy(artefact, tmp_path) as (copy, reader):
        copy.write(b"guest")
        copy.flush()
        assert reader.read() == b"good" + bytes(2 << 20) + b"endguest"
    disk.write_bytes(b"evil" + bytes(2 << 20) + b"end")
    with pytest.raises(InputError, match="has changed since it was digested"), private_copy(artefact, tmp_path):
        pass


# ---- where packages may lie, and the cache -----------------------------------------------------------------------


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("has_git", [False, True])
def test_packages_stay_in_their_project(kitchen: Kitchen, tmp_path: Path, is_link: bool, has_git: bool) -> None:
    if has_git:
        (kitchen.folder / ".git").mkdir()
    outside = kitchen.folder.parent / "outside-of-it"
    outside.mkdir()
    (outside / "mine.deb").write_bytes(Deb("mine").of(entry("usr/a", b"x")))
    where = kitchen.recipe("mine", debs=["./mine.deb" if is_link else f"../../../{outside.name}/mine.deb"])
    if is_link:
        (where / "mine.deb").symlink_to(outside / "mine.deb")
    with pytest.raises(BuildError, match="lies outside of"):
        kitchen.make()


@pytest.mark.parametrize("is_link", [False, True])
def test_base_images_stay_in_their_project(kitchen: Kitchen, is_link: bool) -> None:
    """Any tar archive of the user would be in the image of a recipe from elsewhere."""
    outside = kitchen.folder.parent / "backup.tar"
    outside.write_bytes(make_tar([entry("secret", b"x")]))
    name = "./base.tar" if is_link else f"../../../{outside.name}"
    where = kitchen.recipe("mine", **{"from": f"tar:{name}"})
    if is_link:
        (where / "base.tar").symlink_to(outside)
    with pytest.raises(BuildError, match=f"the image 'tar:{name}' lies outside of"):
        kitchen.make()
    override = ImageOverride(pattern="tar:./gone.tar", source=f"tar:{outside}", folder=str(kitchen.folder))
    chosen = replace(kitchen, builder=replace(kitchen.builder, overrides=(override,)))
    assert "secret" in chosen.tree(**{"from": "tar:./gone.tar"}).nodes, "what the user names may be anywhere"
    (where / "base.tar").unlink(missing_ok=True)
    shutil.copyfile(outside, where / "base.tar")
    assert "secret" in kitchen.tree(**{"from": "tar:./base.tar"}).nodes


@pytest.mark.parametrize(("mode", "message"), [(0o777, "by everybody"), (0o772, "by everybody")])
@pytest.mark.parametrize("name", ["", "memo", "blobs/sha256"])
def test_a_cache_that_others_can_write_to(tmp_path: Path, name: str, mode: int, message: str) -> None:
    folder = tmp_path / "cache"
    Store(folder)
    (folder / name).chmod(mode)
    with pytest.raises(HostError, match=message) as caught:
        Store(folder)
    assert "set BOOTMATRIX_CACHE, or --cache" in caught.value.hint
    (folder / name).chmod(0o755)
    Store(folder)


def test_a_cache_is_made_for_its_owner_whatever_the_mask(tmp_path: Path) -> None:
    program = "import sys, pathlib; from bootmatrix.store import Store; s = Store(pathlib.Path(sys.argv[1]))"
    program += "; s.set_memo('a', 'b', b'c'); s.add_bytes(b'x')"
    done = subprocess.run(
        ["sh", "-c", 'umask 0; exec "$@"', "sh", sys.executable, "-c", program, str(tmp_path / "c")], check=False
    )
    assert done.returncode == 0
    folders = [path for path in (tmp_path / "c").rglob("*") if path.is_dir()]
    assert folders
    assert not [path for path in (tmp_path / "c", *folders) if path.stat().st_mode & 0o022]


def test_spdx_identifiers_are_of_one_package_each(kitchen: Kitchen) -> None:
    digests = ("0" * 64, "1" * 64)
    texts = ("a 1.0~rc1", "a 1.0+rc1", "a-b 1", "a b-1", "a 1:0", "a 1-0")
    found = {sbom._deb_id(text, digest) for text in texts for digest in digests}
    assert len(found) == len(texts) * len(digests)
    assert all(json.dumps(one).replace('"', "").replace("-", "").replace(".", "").isalnum() for one in found)


def test_a_download_under_way_is_its_owners_alone(tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    partial.write_bytes(b"older")
    partial.chmod(0o644)
    for append, content in ((True, b"olderx"), (False, b"x")):
        with download._open_private(partial, append=append) as file:
            file.write(b"x")
        assert partial.read_bytes() == content
        assert partial.stat().st_mode & 0o777 == 0o600
