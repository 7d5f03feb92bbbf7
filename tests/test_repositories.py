"""Kernels of other distributions: found in repositories of every format, verified, pinned; or refused."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from functools import cache
from pathlib import Path

import pytest
import zstandard

from archive_client import Listener, Opener
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.initrd.segments import packing_of
from bootmatrix.assembly.kernel.custom import find_kernel
from bootmatrix.assembly.kernel.facts import config_facts
from bootmatrix.assembly.kernel.package import KernelFiles, kernel_key, known_files
from bootmatrix.errors import BuildError, InfraError, NetworkError, NoSuchPackage, Offline, StaleMirror, UntrustedError
from bootmatrix.model import Kernel, RepositoryKernel
from bootmatrix.model.distribution import RepositoryKeys
from bootmatrix.source.release import Release, parse_release
from bootmatrix.source.release_order import ReleaseOrder
from bootmatrix.source.repositories import index_cache
from bootmatrix.source.repositories.access import Keys
from bootmatrix.source.repositories.pacman import _packages as pacman_packages
from bootmatrix.source.repositories.rpm_signature import check_package
from bootmatrix.source.repositories.rpm_xml import read_packages, read_primary
from bootmatrix.store import Store, sha256_of, temporary_folder
from kernel_forms import PROFILES, kernel_files, make_kernel
from kitchen import module
from repositories import FORMATS, Apk, Apt, Pacman, Repository, RpmMd, pax, run, sign_rpm
from small_archive import Signer
from small_server import Fault, Server, serve

pytest_plugins = ("archive_fixtures",)

MINE = PROFILES["x86_64"]
OLD, NEW = "6.9.1-1", "6.10.2-1"
Maker = Callable[..., Repository]


def image(version: str) -> bytes:
    """A kernel that says its release."""
    return make_kernel(MINE, release=version)


def fill(repository: Repository, version: str, *, parts: bool = True) -> Path:
    """Put a kernel in, apart from its module `extra`; give the package with the image."""
    below = f"lib/modules/{version}/kernel"
    path = repository.add(f"kernel-{version}", version, kernel_files(image(version), version))
    if parts:
        repository.add(f"modules-{version}", version, {f"{below}/extra.ko": module()})
    return path


def source(repository: Repository, server: Server, **changes: object) -> RepositoryKernel:
    """The entry of a catalogue."""
    values = {
        "distribution": "mine",
        "format": repository.format,
        "signed": repository.signed,
        "keys": RepositoryKeys(files=(str(repository.keys),)),
        "architecture": repository.arch,
        "repositories": (repository.address(server.address),),
        "image": "kernel-{release}",
        "parts": ("modules-{release}",),
    }
    return RepositoryKernel(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "PAUSES_S", (0.01, 0.01))


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Maker:
    """Makes a repository of a format with an old and a new kernel, once for all tests."""

    @cache
    def made(kind: str, signed: str) -> Repository:
        repository = FORMATS[kind](tmp_path_factory.mktemp("repository") / "served", signer, signed)
        fill(repository, OLD)
        fill(repository, NEW)
        repository.publish()
        return repository

    return made


@pytest.fixture
def make(tmp_path: Path, templates: Maker) -> Maker:
    """Copies a repository with an old and a new kernel."""

    def made(kind: str, signed: str = "index") -> Repository:
        template = templates(kind, signed)
        copy = replace(template, root=tmp_path / "served", entries=[*template.entries])
        shutil.copytree(template.root, copy.root, dirs_exist_ok=True, symlinks=True)
        return copy

    return made


@pytest.fixture
def web(tmp_path: Path) -> object:
    (tmp_path / "served").mkdir()
    with serve(tmp_path / "served") as running:
        yield running


def found(entry: RepositoryKernel, opened: Opener, store: Store, **options: object) -> tuple[Kernel, KernelFiles]:
    """A kernel as a cell finds it."""
    builder = Builder(store, opened(**options))
    kernel = find_kernel("mine-1", entry, MINE, builder)
    files = known_files(kernel_key(kernel), store)
    assert files
    return kernel, files


@pytest.mark.parametrize(
    ("kind", "signed"),
    [
        ("apt", "index"),
        ("rpm-md", "index"),
        ("rpm-md", "packages"),
        ("pacman", "index"),
        ("pacman", "packages"),
        ("apk", "index"),
    ],
)
def test_the_newest_kernel(kind: str, signed: str, make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make(kind, signed)
    entry = source(repository, web)
    kernel, files = found(entry, opened, store)
    assert (kernel.release, "extra" in files.modules) == (NEW, True)
    assert store.verified(files.image).read_bytes() == image(NEW)
    assert [part.kind for part in kernel.parts] == [kernel.parts[0].kind] * 2
    older, _ = found(entry.model_copy(update={"version": "6.9"}), opened, store)
    assert older.release == OLD
    count = len(web.requests)
    again, _ = found(entry, opened, store, offline=True)
    assert (again, len(web.requests)) == (kernel, count)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_lock_holds_the_packages(kind: str, make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make(kind)
    entry = source(repository, web)
    builder = Builder(store, opened())
    kernel = find_kernel("mine-1", entry, MINE, builder)
    lock = builder.archive.resolved()
    assert lock.kernels["amd64/mine/mine-1"] == kernel
    fill(repository, "6.11.1-1")
    repository.publish()
    assert found(entry, opened, store, refresh=True)[0].release == "6.11.1-1"
    assert found(entry, opened, store, lock=lock)[0] == kernel
    with pytest.raises(BuildError, match="the lock lacks the kernel"):
        find_kernel("mine-2", entry, MINE, Builder(store, opened(lock=lock)))


@pytest.mark.parametrize("kind", FORMATS)
def test_an_index_of_another_key(
    kind: str, make: Maker, web: Server, opened: Opener, store: Store, tmp_path: Path
) -> None:
    repository = make(kind)
    if kind == "apk":
        keys = tmp_path / "other.rsa.pub"
        shutil.copy(repository.keys, keys)
    else:
        keys = tmp_path / "other.gpg"
        with temporary_folder() as folder:
            other = Signer.create(folder / "gnupg")
            shutil.copy(other.keyring, keys)
            other.close()
    entry = source(repository, web, keys=RepositoryKeys(files=(str(keys),)))
    with pytest.raises(UntrustedError, match=r"not signed by a key") as caught:
        found(entry, opened, store)
    assert "blobs" not in caught.value.message
    assert kind != "apt" or "of other.gpg: " in caught.value.message


@pytest.mark.parametrize("field", ["name", "ver", "href"])
def test_an_index_of_long_words(field: str, tmp_path: Path) -> None:
    """Words that pack well would fill the memory."""
    words = {"name": "kernel-6", "ver": "6", "href": "a.rpm"} | {field: "kernel-" + "6" * 10_000}
    package = (
        f"<package><name>{words['name']}</name><arch>x</arch><checksum type='sha256'>{'0' * 64}</checksum>"
        f"<version epoch='0' ver='{words['ver']}' rel='1'/><location href='{words['href']}'/>"
        "<size package='5'/></package>"
    )
    (tmp_path / "primary.xml").write_text(f"<metadata>{package}{package.replace('6' * 10_000, '6')}</metadata>")
    names = re.compile("kernel-.*")
    assert len(read_packages(tmp_path / "primary.xml", "http://x/", names, "x")) == 1
    desc = f"%NAME%\n{words['name']}\n\n%VERSION%\n{words['ver']}\n\n%FILENAME%\n{words['href']}\n\n%CSIZE%\n5\n"
    desc += f"\n%SHA256SUM%\n{'0' * 64}\n"
    database = pax({"1/desc": desc.encode(), "2/desc": desc.replace("6" * 10_000, "6").encode()})
    assert len([*pacman_packages(database, "http://x core", names)]) == 1


@pytest.mark.parametrize("kind", ["pacman", "apk"])
def test_an_index_that_is_another_one_when_it_is_read_again(
    kind: str, make: Maker, web: Server, opened: Opener, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that serves a signed index first, and then one that nobody signed, to who asks for newer ones."""
    repository = make(kind)
    entry, signed = source(repository, web), repository.index.read_bytes()
    signatures = {file: file.read_bytes() for file in repository.root.glob("*.sig")}
    fill(repository, "6.66.6-1")
    repository.publish()
    forged = repository.index.read_bytes()
    if kind == "apk":
        packed = zlib.decompressobj(31)
        packed.decompress(forged)
        forged = gzip.compress(pax({"nothing": b""}, end=False)) + packed.unused_data
    repository.index.write_bytes(signed)
    for file, data in signatures.items():
        file.write_bytes(data)
    begin = web.begin

    def replacing(path: str, start: int) -> Fault:
        if path == repository.index_path and web.count(path):
            repository.index.write_bytes(forged)
        return begin(path, start)

    monkeypatch.setattr(web, "begin", replacing)
    assert found(entry, opened, store, refresh=True)[0].release == NEW
    repository.index.write_bytes(forged)
    with pytest.raises(UntrustedError, match="not signed by a key"):
        found(entry, opened, store, refresh=True)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_changed_byte(kind: str, make: Maker, web: Server, opened: Opener, store: Store, tmp_path: Path) -> None:
    repository = make(kind)
    entry = source(repository, web)
    index = repository.index.read_bytes()
    half = len(index) // 2
    repository.index.write_bytes(index[:half] + bytes([index[half] ^ 1]) + index[half + 1 :])
    with pytest.raises(InfraError):
        found(entry, opened, store)
    repository.index.write_bytes(index)
    web.faults[:] = [Fault(next(repository.root.rglob(f"kernel-{NEW}*")).name, corrupt=True)]
    with pytest.raises(UntrustedError, match=r"corrupt|damaged"):
        found(entry, opened, store)
    web.faults.clear()
    assert found(entry, opened, store)[0].release == NEW, "nothing of it was kept"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_mirror_in_the_middle_of_an_update(kind: str, make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make(kind)
    entry = source(repository, web)
    newer = fill(repository, "6.11.1-1")
    repository.publish()
    kept = newer.read_bytes()
    newer.unlink()
    with pytest.raises(StaleMirror, match="lacks a package that its index lists"):
        found(entry, opened, store)
    count = web.count(repository.index.name)
    newer.write_bytes(kept)
    assert found(entry, opened, store)[0].release == "6.11.1-1"
    assert web.count(repository.index.name) > count, "the index is fetched again"


@pytest.mark.parametrize("kind", ["apt", "rpm-md"])
def test_a_list_of_another_state_than_its_index(
    kind: str, make: Maker, web: Server, opened: Opener, store: Store
) -> None:
    repository = make(kind)
    entry = source(repository, web)
    path = list_of(repository) if isinstance(repository, RpmMd) else next(repository.root.rglob("Packages.gz"))
    kept = path.read_bytes()
    for other in (gzip.compress(b"of before"), None):
        path.unlink() if other is None else path.write_bytes(other)
        with pytest.raises(StaleMirror, match=r"does not match its|being updated"):
            found(entry, opened, store)
    path.write_bytes(kept)
    assert found(entry, opened, store)[0].release == NEW


@pytest.mark.parametrize("kind", ["apt", "rpm-md"])
def test_deltas_that_the_server_lacks(kind: str, make: Maker, web: Server, opened: Opener, store: Store) -> None:
    """An index may list differences from earlier states, which nobody needs."""
    repository = make(kind)
    if isinstance(repository, RpmMd):
        deltas = repository.root.parent / "prestodelta.xml"
        deltas.write_text("<prestodelta/>")
        run("modifyrepo_c", "--mdtype", "prestodelta", deltas, repository.root / "repodata")
        repository.sign()
        gone = next(repository.root.rglob("*prestodelta.xml*"))
    else:
        gone = next(repository.root.rglob("Packages.gz")).parent / "Packages.diff/Index"
        gone.parent.mkdir()
        gone.write_text("SHA256-Current: 0 0\n")
        repository.publish()
    assert gone.name.removesuffix(".gz") in repository.index.read_text()
    gone.unlink()
    assert found(source(repository, web), opened, store)[0].release == NEW


@pytest.mark.parametrize("kind", FORMATS)
def test_a_kernel_without_its_modules(kind: str, make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make(kind)
    fill(repository, "6.11.1-1", parts=False)
    repository.publish()
    with pytest.raises(NoSuchPackage, match=r"needs modules-6\.11\.1-1, which .* lacks"):
        found(source(repository, web), opened, store)
    optional = source(repository, web, parts=(), optional=("modules-{release}",))
    assert found(optional, opened, store)[0].release == "6.11.1-1"


def test_modules_in_three_packages(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    """As of Ubuntu: the kernel, what all machines need, and the rest, which some flavours have not got."""
    repository, version = make("apt"), "6.11.1-1"
    fill(repository, version)
    rest = {f"lib/modules/{version}/kernel/rest.ko": module("extra")}
    repository.add(f"modules-extra-{version}", version, rest)
    repository.publish()
    kernel, files = found(source(repository, web, optional=("modules-extra-{release}",)), opened, store)
    assert [part.url.rpartition("/")[2].partition("-6")[0] for part in kernel.parts][:3] == [
        "kernel",
        "modules",
        "modules-extra",
    ]
    assert {"mod_a", "extra", "rest"} <= set(files.modules)
    assert files.modules["rest"].needs == ("extra",)


def test_a_repository_of_apk_3(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make("apk")
    package = fill(repository, "6.11.1-1")
    package.write_bytes(b"ADBd".ljust(package.stat().st_size, b"."))
    repository.publish()
    with pytest.raises(BuildError, match=r"\.apk is of apk 3, which is not supported"):
        found(source(repository, web), opened, store)
    repository.index.write_bytes(b"ADBd....")
    with pytest.raises(BuildError, match=r"APKINDEX\.tar\.gz is of apk 3"):
        found(source(repository, web), opened, store, refresh=True)


@pytest.mark.parametrize(
    "index",
    [gzip.compress(b"", mtime=0) * 400_000, gzip.compress(bytes(1 << 20), mtime=0) * 300],
    ids=["parts without data", "a flood"],
)
def test_an_index_of_apk_from_an_enemy(index: bytes, make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make("apk")
    repository.index.write_bytes(index)
    begun = time.process_time()
    with pytest.raises(NetworkError, match="it has more than 16 parts"):
        found(source(repository, web), opened, store)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("kind", FORMATS)
def test_what_the_repository_lacks(kind: str, make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make(kind)
    with pytest.raises(NoSuchPackage, match=r"no kernel 5\.4"):
        found(source(repository, web, version="5.4"), opened, store)
    gone = source(repository, web, repositories=(repository.address(f"{web.address}/elsewhere"),))
    with pytest.raises(InfraError):
        found(gone, opened, store)
    both = source(repository, web, repositories=(*gone.repositories, repository.address(web.address)))
    assert found(both, opened, store)[0].release == NEW
    with pytest.raises(Offline):
        found(gone, opened, store, offline=True)


def test_an_expired_index(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make("apt")
    assert isinstance(repository, Apt)
    repository.valid_s = "Valid-Until: Thu, 01 Jan 2026 00:00:00 UTC\n"
    repository.publish()
    with pytest.raises(InfraError, match="has expired"):
        found(source(repository, web), opened, store)
    assert found(source(repository, web, archived=True), opened, store)[0].release == NEW


def test_an_rpm_package_that_nobody_signed(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make("rpm-md")
    assert isinstance(repository, RpmMd)
    entry = source(repository, web, signed="packages")
    with pytest.raises(UntrustedError, match="has no signature"):
        found(entry, opened, store)
    newer = fill(repository, "6.11.1-1")
    sign_rpm(newer, repository.signer)
    sign_rpm(newer.with_name("modules-6.11.1-1-6.11.1-1.rpm"), repository.signer)
    data = bytearray(newer.read_bytes())
    data[-9] ^= 1  # the list is made of the changed package: only its signature can tell
    newer.write_bytes(data)
    repository.publish()
    with pytest.raises(UntrustedError, match="not those of its signed header"):
        found(entry, opened, store, refresh=True)


def test_a_signed_package_under_another_name(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make("pacman", "packages")
    assert isinstance(repository, Pacman)
    entry = source(repository, web)
    old, new = (next(repository.root.glob(f"kernel-{version}*.zst")) for version in (OLD, NEW))
    for suffix in ("", ".sig"):
        shutil.copy(f"{old}{suffix}", f"{new}{suffix}")
    index = repository.index.read_bytes()
    repository.publish()
    assert repository.index.read_bytes() != index
    kernel, _ = found(entry, opened, store)
    assert kernel.release == OLD, "a package is what it says it is"


def test_a_signed_package_of_another_version(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    """An index that nobody signed offers an old package as a new one."""
    repository = make("pacman", "packages")
    data = zlib.decompress(repository.index.read_bytes(), 31)
    assert len(OLD) == len("6.9.9-1")
    lie = data.replace(f"%VERSION%\n{OLD}\n".encode(), b"%VERSION%\n6.9.9-1\n")
    assert lie != data
    repository.index.write_bytes(gzip.compress(lie))
    entry = source(repository, web, image=f"kernel-{OLD}", parts=())
    with pytest.raises(
        UntrustedError, match=r"expected the package kernel-6\.9\.1-1 6\.9\.9-1 x86_64, and it is .* 6\.9\.1-1 x86_64'"
    ):
        found(entry, opened, store)


def test_a_catalogue_cannot_make_the_archive_old(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    """Its own keys sign a release that has the name of the archive's suite, and a newer date."""
    repository = make("apt")
    found(source(repository, web), opened, store)
    old = parse_release(f"Suite: stable\nCodename: stable\nDate: {formatdate(0, usegmt=True)}\n")
    ReleaseOrder(store, allows_older=False).accept("stable", old)
    with pytest.raises(UntrustedError, match="rolled back"):
        ReleaseOrder(store, allows_older=False, signers=sha256_of(repository.keys)).accept("stable", old)


def test_suites_of_one_codename_have_dates_of_their_own(store: Store) -> None:
    """As Ubuntu's: the first state of a release stays as it is, and its updates go on."""

    def release(suite: str, day: int) -> Release:
        return parse_release(
            f"Origin: U\nSuite: {suite}\nCodename: focal\nDate: {formatdate(day * 86400, usegmt=True)}\n"
        )

    for signers in ("", "0" * 64):
        order = ReleaseOrder(store, allows_older=False, signers=signers)
        order.accept("focal-updates", release("focal-updates", 20))
        order.accept("focal", release("focal", 10))
        assert not order.is_behind("focal", release("focal", 10))
        for suite, day in (("focal-updates", 19), ("focal", 9)):
            with pytest.raises(UntrustedError, match="rolled back"):
                order.accept(suite, release(suite, day))


def test_a_signed_package_of_another_architecture(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    """One key signs packages of the same name and version for several."""
    entry = source(make("pacman", "packages"), web, architecture="armv7h", image=f"kernel-{OLD}", parts=())
    with pytest.raises(UntrustedError, match=r"expected the package kernel-.* armv7h, and it is .* x86_64'"):
        found(entry, opened, store)


def test_a_signed_index_of_another_architecture(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    """Each folder has an index, and none says of which folder it is."""
    repository = make("apk")
    assert found(source(repository, web), opened, store)[0].release == NEW
    with pytest.raises(NoSuchPackage, match=r"no kernel .*armv7"):
        found(source(repository, web, architecture="armv7"), opened, store)


@pytest.mark.parametrize("kind", ["rpm-md", "pacman"])
def test_a_known_package_under_a_new_version(kind: str, make: Maker, web: Server, opened: Opener, store: Store) -> None:
    """An index that nobody signed offers a package again that was verified before, as a newer one."""
    repository = make(kind, "packages")
    entry = source(repository, web, image=f"kernel-{OLD}", parts=())
    assert found(entry, opened, store)[0].release == OLD
    if kind == "pacman":
        data = zlib.decompress(repository.index.read_bytes(), 31)
        repository.index.write_bytes(
            gzip.compress(data.replace(f"%VERSION%\n{OLD}\n".encode(), b"%VERSION%\n9.9.9-1\n"))
        )
    else:
        assert isinstance(repository, RpmMd)
        repository.publish("--general-compress-type=gz")
        offer_as(repository, OLD, "9.9.9-1")
    with pytest.raises(UntrustedError, match=r"expected the package kernel-6\.9\.1-1 9\.9\.9-1"):
        found(entry, opened, store, refresh=True)


def offer_as(repository: RpmMd, old: str, new: str) -> None:
    """Change a version in the list of packages."""
    number, _, release = old.partition("-")
    lie, _, again = new.partition("-")
    text = gzip.decompress(list_of(repository).read_bytes())
    changed = text.replace(f'ver="{number}" rel="{release}"'.encode(), f'ver="{lie}" rel="{again}"'.encode())
    assert changed != text
    replace_list(repository, gzip.compress(changed))


def list_of(repository: RpmMd) -> Path:
    """The list of packages, in gzip."""
    (path,) = repository.root.glob("repodata/*primary.xml.gz")
    return path


def replace_list(repository: RpmMd, packed: bytes) -> None:
    """Put another list of packages in; the index's signature is not made anew."""
    index, primary = repository.index.read_text(), list_of(repository)
    index = index.replace(
        f">{hashlib.sha256(primary.read_bytes()).hexdigest()}<", f">{hashlib.sha256(packed).hexdigest()}<"
    )
    index = re.sub(rf"<size>{primary.stat().st_size}</size>", f"<size>{len(packed)}</size>", index)
    primary.write_bytes(packed)
    repository.index.write_text(index)


def test_an_rpm_package_is_what_its_header_says(make: Maker) -> None:
    repository = make("rpm-md", "packages")
    keys = Keys(repository.keys, {})
    path = repository.root / f"kernel-{OLD}-{OLD}.rpm"
    check_package(path, f"kernel-{OLD} {OLD} x86_64", keys)
    for name in (f"kernel-{OLD} {NEW} x86_64", f"kernel-{NEW} {OLD} x86_64", f"kernel-{OLD} {OLD} aarch64"):
        with pytest.raises(UntrustedError, match=r"and it is 'kernel-6\.9\.1-1 6\.9\.1-1 x86_64'"):
            check_package(path, name, keys)


def test_an_rpm_package_whose_signature_is_no_base64(tmp_path: Path) -> None:
    header = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, 2) + struct.pack(">4I", 278, 8, 0, 1) + b"A\0"
    (tmp_path / "x.rpm").write_bytes(bytes(96) + header + bytes(-len(header) % 8) + header)
    with pytest.raises(UntrustedError, match="not an RPM package, or a damaged one"):
        check_package(tmp_path / "x.rpm", "x 1-1 x86_64", Keys(tmp_path / "none", {}))


@pytest.mark.parametrize(("kind", "signed"), [("pacman", "packages"), ("pacman", "index"), ("rpm-md", "index")])
def test_a_revoked_key(
    kind: str, signed: str, make: Maker, web: Server, opened: Opener, store: Store, tmp_path: Path
) -> None:
    repository = make(kind, signed)
    lines = repository.signer.gpg("--with-colons", "--list-keys").decode().splitlines()
    fingerprint = next(line.split(":")[9] for line in lines if line.startswith("fpr"))
    (tmp_path / "revoked").write_text(f"{fingerprint}\n")
    keys = RepositoryKeys(files=(str(repository.keys),), revoked=str(tmp_path / "revoked"))
    with pytest.raises(UntrustedError, match="revoked key"):
        found(source(repository, web, keys=keys), opened, store)


def test_an_apk_whose_files_are_others(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make("apk")
    assert isinstance(repository, Apk)
    one, other = (repository.root / f"kernel-{version}-{version}.apk" for version in (NEW, OLD))
    parts = [file.read_bytes() for file in (one, other)]
    start = parts[0].rindex(b"\x1f\x8b\x08")
    one.write_bytes(parts[0][:start] + parts[1][parts[1].rindex(b"\x1f\x8b\x08") :])
    with pytest.raises((UntrustedError, StaleMirror)):
        found(source(repository, web), opened, store)


def test_an_apk_with_a_file_in_the_place_of_its_signature(
    make: Maker, web: Server, opened: Opener, store: Store
) -> None:
    """The signature's stream has no digest: what is put into its place, of the same size, must not be read."""
    repository = make("apk")
    assert isinstance(repository, Apk)
    package = repository.root / f"modules-{NEW}-{NEW}.apk"
    data = package.read_bytes()
    control_at = data.index(b"\x1f\x8b\x08", 1)
    evil = pax({f"lib/modules/{NEW}/kernel/evil.ko": module()}, end=False)
    for name in ("", ".SIGN.RSA.x"):
        first = gzip.compress((pax({name: b"x"}, end=False) if name else b"") + evil)
        # a header of gzip may have any number of bytes more (RFC 1952, FEXTRA)
        spare = control_at - len(first) - 2
        assert spare >= 0
        padded = first[:3] + b"\x04" + first[4:10] + spare.to_bytes(2, "little") + bytes(spare) + first[10:]
        package.write_bytes(padded + data[control_at:])
        try:
            _, files = found(source(repository, web), opened, store)
        except UntrustedError:
            continue
        assert set(files.modules) == {"extra", "mod_a", "mod_b"}, name


def test_a_mirror_that_does_not_answer_any_more(
    make: Maker, web: Server, opened: Opener, store: Store, listener: Listener
) -> None:
    repository = make("rpm-md")
    entry = source(repository, web)
    found(entry, opened, store)
    web.faults.append(Fault("repomd.xml", status=500))
    assert found(entry, opened, store, refresh=True)[0].release == NEW
    assert any("using the index that was fetched on" in note for note in listener.notes)


def test_lists_are_compressed_in_any_way(make: Maker, web: Server, opened: Opener, store: Store) -> None:
    repository = make("rpm-md")
    assert isinstance(repository, RpmMd)
    for suffix in ("xz", "bz2"):
        repository.publish(f"--general-compress-type={suffix}")
        assert found(source(repository, web), opened, store, refresh=True)[0].release == NEW
    repository.publish("--general-compress-type=gz")
    replace_list(repository, zstandard.compress(gzip.decompress(list_of(repository).read_bytes())))
    repository.sign()
    assert found(source(repository, web), opened, store, refresh=True)[0].release == NEW


PACKAGE = (
    "<package><name>kernel-1</name><arch>x86_64</arch><version ver='1' rel='1'/>"
    "<checksum type='sha256'>{digest}</checksum><size package='{size}'/><location href='{href}'/></package>"
)


def read_list(tmp_path: Path, text: str) -> list[str]:
    """The packages of a list."""
    (tmp_path / "primary.xml").write_text(text)
    found = read_packages(tmp_path / "primary.xml", "http://x/", re.compile("kernel-.*"), "x86_64")
    return [package.url for package in found]


def test_a_list_from_an_enemy(tmp_path: Path) -> None:
    sound = {"digest": "0" * 64, "size": "1", "href": "a/b.rpm"}
    assert read_list(tmp_path, f"<metadata>{PACKAGE.format(**sound)}</metadata>") == ["http://x/a/b.rpm"]
    for wrong in (
        {"href": "../../etc/x"},
        {"href": "http://other/x"},
        {"href": "//other/x"},
        {"href": "/x"},
        {"size": "-1"},
        {"size": "9" * 30},
        {"digest": "x"},
    ):
        assert read_list(tmp_path, f"<metadata>{PACKAGE.format(**{**sound, **wrong})}</metadata>") == []
    entities = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    endless, attribute = "n" * (6 << 20), "='' /"
    many_names = "".join(f"<a{number}/>" for number in range(50_000))
    for text in (
        *(f"{entities}<metadata>&b;</metadata>", "<metadata><package>", "no XML", ""),
        *(f"<metadata><package a='{endless}'/></metadata>", f"<metadata><!--{endless}--></metadata>", f"<{endless}/>"),
        *("<a>" * 1000 + "</a>" * 1000, f"<m>{many_names}</m>"),
        f"<m>{many_names.replace('<', '<b ').replace('/', attribute)}</m>",
    ):
        with pytest.raises(NetworkError, match="is damaged"):
            read_list(tmp_path, text)


REPOMD = (
    "<repomd><data type='primary'><checksum type='sha256'>{digest}</checksum><location href='repodata/p.xml'/>"
    "<size>{size}</size></data>{more}</repomd>"
)


def test_an_index_from_an_enemy() -> None:
    sound = {"digest": "0" * 64, "size": "1000", "more": ""}
    assert read_primary(REPOMD.format(**sound).encode(), "l").size_bytes == 1000
    for wrong, why in (
        ({"size": "9999999999999"}, "at most 2 GiB"),
        ({"size": "9" * 5000}, "at most 2 GiB"),
        ({"size": "²"}, "at most 2 GiB"),
        ({"digest": "x"}, "a digest of sha256"),
        ({"more": f"<a b='{'n' * (6 << 20)}'/>"}, "a tag of more than 4 MiB"),
    ):
        with pytest.raises(NetworkError, match=why):
            read_primary(REPOMD.format(**{**sound, **wrong}).encode(), "l")


@pytest.mark.parametrize(
    ("config", "packing"),
    [
        (b"", "zstd"),
        (b"CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n", "zstd"),
        (b"CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n", "gzip"),
        (b"CONFIG_RD_XZ=y\n", "plain"),
    ],
)
def test_how_an_initrd_is_packed(config: bytes, packing: str) -> None:
    assert packing_of(config) == packing


def test_facts_of_a_configuration() -> None:
    config = b"CONFIG_HZ=250\nCONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_ARM64_64K_PAGES=y\nCONFIG_ARM64_VA_BITS=52\n"
    machine = MINE.machine(MINE.default_machine())
    *known, _, lacks = config_facts(config, machine)
    assert known == ["64k", "250", "voluntary", "52", "yes", "no"]
    assert lacks.startswith("64BIT, ACPI, ")
    assert config_facts(config + b"CONFIG_64BIT=y\n", machine)[4] == "no"
    assert config_facts(config + b"CONFIG_64BIT=y\nCONFIG_COMPAT=y\n", machine)[4] == "yes"
    assert config_facts(config + b"CONFIG_COMPAT_32BIT_TIME=y\n", machine)[5] == "yes"
