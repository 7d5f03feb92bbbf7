"""The archive's answers: kernels by name, packages with what they depend on, files, locks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from archive_client import Listener, Opener, files_of, kernel_source
from bootmatrix.errors import BuildError, NetworkError, NoSuchPackage, UntrustedError
from bootmatrix.model import Lock, Package
from bootmatrix.source import suites
from bootmatrix.store import Store, sha256_of
from small_archive import SmallArchive
from small_server import Server

pytest_plugins = ("archive_fixtures",)


def add_kernel(small: SmallArchive, suite: str, release: str, version: str, arch: str = "amd64") -> None:
    small.add(suite, f"linux-image-{release}", version, arch, depends="kmod, linux-base (>= 4.3~)")


def add_split_kernel(small: SmallArchive, suite: str, release: str, version: str) -> None:
    """A kernel as it is from 7.x on."""
    parts = [f"linux-{part}-{release}" for part in ("base", "binary", "modules")]
    for part in parts:
        small.add(suite, part, version)
    small.add(suite, f"linux-binary-unsigned-{release}", version)
    depends = ", ".join(f"{part} (= {version})" for part in parts)
    small.add(suite, f"linux-image-{release}", version, depends=f"dracut | initramfs-tools, {depends}")


@pytest.fixture
def kernels(small: SmallArchive) -> SmallArchive:
    """Suites `old` and `new` with kernels of all sorts."""
    small.add("old", "linux-image-cloud-amd64", "6.1.176-1", depends="linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)")
    add_kernel(small, "old", "6.1.0-47-cloud-amd64", "6.1.170-3")
    add_kernel(small, "old", "6.1.0-50-cloud-amd64", "6.1.176-1")
    add_kernel(small, "old", "6.1.0-51-amd64", "6.1.180-1")
    add_kernel(small, "old", "6.1.0-52-cloud-amd64-unsigned", "6.1.181-1")
    add_kernel(small, "old", "6.1.0-52-cloud-amd64-dbg", "6.1.181-1")
    add_kernel(small, "old", "6.1.0-50-arm64-16k", "6.1.176-1", "arm64")
    add_kernel(small, "new", "6.12.43+deb12-cloud-amd64", "6.12.43-1~bpo12+1")
    add_kernel(small, "new", "6.12.9+deb12-cloud-amd64", "6.12.9-1")
    add_kernel(small, "new", "6.12.90+deb12.1-cloud-amd64", "6.12.90-2~bpo12+1")
    add_split_kernel(small, "new", "7.2.13+deb14-cloud-amd64", "7.2.13-1")
    add_split_kernel(small, "new", "7.3-rc7-cloud-amd64", "7.3~rc7-1~exp1")
    small.publish()
    return small


@pytest.mark.parametrize(
    ("name", "release", "suite"),
    [
        ("6.1", "6.1.0-50-cloud-amd64", "old"),
        ("6.1.170", "6.1.0-47-cloud-amd64", "old"),
        ("6.1.170-3", "6.1.0-47-cloud-amd64", "old"),
        ("6.12", "6.12.90+deb12.1-cloud-amd64", "new"),
        ("6.12.43", "6.12.43+deb12-cloud-amd64", "new"),
        ("6.12.9", "6.12.9+deb12-cloud-amd64", "new"),
        ("6", "6.12.90+deb12.1-cloud-amd64", "new"),
        ("7.3", "7.3-rc7-cloud-amd64", "new"),
    ],
)
def test_a_name_is_a_version_prefix(kernels: SmallArchive, opened: Opener, name: str, release: str, suite: str) -> None:
    kernel = opened().kernel(name, kernel_source(), "amd64")
    assert (kernel.name, kernel.release, kernel.packages[0].suite) == (name, release, suite)


def test_flavours_are_exact(kernels: SmallArchive, opened: Opener) -> None:
    assert opened().kernel("6.1", kernel_source("amd64"), "amd64").release == "6.1.0-51-amd64"
    kernel = opened().kernel("any", kernel_source("arm64-16k", version=""), "arm64")
    assert kernel.release == "6.1.0-50-arm64-16k"


def test_the_newest_of_all_suites_by_debians_order(kernels: SmallArchive, opened: Opener) -> None:
    source = kernel_source(suites="new old", version="")
    assert opened().kernel("newest", source, "amd64").version == "7.3~rc7-1~exp1"
    add_kernel(kernels, "old", "7.3.1-cloud-amd64", "7.3.1-1")
    kernels.publish()
    assert opened(refresh=True).kernel("newest", source, "amd64").release == "7.3.1-cloud-amd64"


def test_a_kernel_in_one_package(kernels: SmallArchive, opened: Opener) -> None:
    kernel = opened().kernel("6.1", kernel_source(), "amd64")
    assert [package.name for package in kernel.packages] == ["linux-image-6.1.0-50-cloud-amd64"]
    assert (kernel.version, kernel.architecture) == ("6.1.176-1", "amd64")


def test_a_kernel_in_several_packages_has_its_image_first(kernels: SmallArchive, opened: Opener) -> None:
    kernel = opened().kernel("7.2", kernel_source(), "amd64")
    release = "7.2.13+deb14-cloud-amd64"
    names = [package.name for package in kernel.packages]
    assert names == [f"linux-{part}-{release}" for part in ("image", "binary", "modules", "base")]
    assert {package.version for package in kernel.packages} == {"7.2.13-1"}


def test_a_kernel_whose_parts_are_not_there_yet(small: SmallArchive, opened: Opener) -> None:
    small.add("new", "linux-image-7.2.1-cloud-amd64", "7.2.1-1", depends="linux-binary-7.2.1-cloud-amd64 (= 7.2.1-1)")
    small.publish()
    with pytest.raises(NoSuchPackage, match=r"linux-binary-7.2.1-cloud-amd64 \(= 7.2.1-1\)"):
        opened().kernel("7.2", kernel_source(suites="new"), "amd64")


@pytest.mark.parametrize(
    ("name", "flavour", "arch", "message"),
    [
        ("6.6", "cloud-amd64", "amd64", r"no kernel 6.6 of flavour cloud-amd64 .*\n.*6.1.176-1 \(old\)"),
        ("6.1.17", "cloud-amd64", "amd64", "no kernel 6.1.17 "),
        ("6.1", "cloud-arm64", "amd64", r"(?s)cloud-arm64.*Available flavours: .*cloud-amd64"),
        ("6.1", "armmp", "armhf", "(?s)armhf in old, new.*have no kernels"),
    ],
)
def test_no_such_kernel(
    kernels: SmallArchive, opened: Opener, name: str, flavour: str, arch: str, message: str
) -> None:
    with pytest.raises(NoSuchPackage, match=message):
        opened().kernel(name, kernel_source(flavour), arch)


@pytest.fixture
def tools(small: SmallArchive) -> SmallArchive:
    """Packages that depend on each other in every way."""
    small.add("old", "app", "1.0-1", depends="libb (>= 1.0), liba, mail-agent | other, awk")
    small.add("old", "liba", "1:0.9-1", depends="libb (<< 2), loop-one:any")
    small.add("old", "libb", "1.5-1", depends="libc (>= 2.30), libc (<< 3)")
    small.add("old", "libc", "2.36-9")
    small.add("old", "mail-b", "1-1", provides="mail-agent")
    small.add("old", "mail-a", "1-1", provides="mail-agent, mail-api (= 3)")
    small.add("old", "gawk", "5-1", provides="awk")
    small.add("old", "loop-one", depends="loop-two")
    small.add("old", "loop-two", depends="loop-one")
    small.add("old", "needs-api", depends="mail-api (>= 2)")
    small.add("old", "needs-new-api", depends="mail-api (>= 4)")
    small.add("old", "needs-awk-version", depends="awk (>= 1)")
    small.add("old", "picky", depends="libc (>= 3)")
    small.add("old", "odd", depends="libb, libc (>= 2.40)")
    small.add("new", "libc", "2.41-1")
    small.add("new", "libc", "2.40-1")
    small.add("new", "libnew", "1-1", depends="libc")
    small.publish()
    return small


def names_of(packages: tuple[Package, ...]) -> list[str]:
    return [package.name for package in packages]


def test_dependencies_come_first(tools: SmallArchive, opened: Opener) -> None:
    packages = opened().closure(["app"], [], ["old"], "amd64")
    assert names_of(packages) == ["libc", "libb", "loop-two", "loop-one", "liba", "mail-a", "gawk", "app"]


def test_what_is_asked_for_is_preferred(tools: SmallArchive, opened: Opener) -> None:
    packages = opened().closure(["app", "mail-b"], [], ["old"], "amd64")
    assert "mail-b" in names_of(packages)
    assert "mail-a" not in names_of(packages)


def test_nothing_is_looked_for_beyond_without(tools: SmallArchive, opened: Opener) -> None:
    packages = opened().closure(["app"], ["liba", "other", "awk", "libc"], ["old"], "amd64")
    assert names_of(packages) == ["libb", "app"]


def test_versioned_provides(tools: SmallArchive, opened: Opener) -> None:
    assert names_of(opened().closure(["needs-api"], [], ["old"], "amd64")) == ["mail-a", "needs-api"]
    for name in ("needs-new-api", "needs-awk-version"):
        with pytest.raises(NoSuchPackage, match=f"which {name} 1.0-1 amd64"):
            opened().closure([name], [], ["old"], "amd64")


def test_suites_in_order_and_the_newest_in_each(tools: SmallArchive, opened: Opener) -> None:
    archive = opened()
    found = {one.name: one for one in archive.closure(["libnew", "app"], [], ["old", "new"], "amd64")}
    assert (found["libc"].version, found["libnew"].suite) == ("2.36-9", "new")
    found = {one.name: one for one in archive.closure(["libnew"], [], ["new", "old"], "amd64")}
    assert found["libc"].version == "2.41-1"


def test_a_choice_that_does_not_do_is_made_again(tools: SmallArchive, opened: Opener) -> None:
    packages = opened().closure(["odd"], [], ["old", "new"], "amd64")
    assert [(one.name, one.version) for one in packages] == [("libc", "2.41-1"), ("libb", "1.5-1"), ("odd", "1.0-1")]


@pytest.mark.parametrize(
    ("name", "arch", "message"),
    [
        (
            "picky",
            "amd64",
            r"package libc \(>= 3\) not found for amd64 in old, which picky .*needs\n  Available: libc 2.36-9",
        ),
        ("libq", "amd64", r"package libq not found for amd64 in old\n"),
        ("maill-b", "amd64", "Did you mean 'mail-b'"),
        ("libc", "armhf", "package libc not found for armhf in old"),
    ],
)
def test_no_such_package(tools: SmallArchive, opened: Opener, name: str, arch: str, message: str) -> None:
    with pytest.raises(NoSuchPackage, match=message):
        opened().closure([name], [], ["old"], arch)


def test_a_file_is_fetched_once_and_watched(tools: SmallArchive, opened: Opener, server: Server) -> None:
    file = tools.add("old", "large", size_bytes=3_000_000)
    tools.publish()
    (package,) = opened().closure(["large"], [], ["old"], "amd64")
    path = opened().fetch(package)
    assert path.read_bytes() == file.read_bytes()
    assert opened().fetch(package) == path
    assert server.count(file.name) == 1


def test_progress_ends_with_the_whole(tools: SmallArchive, opened: Opener, listener: Listener) -> None:
    archive = opened()
    (package,) = archive.closure(["libc"], [], ["old"], "amd64")
    archive.fetch(package)
    assert listener.downloads[-1] == ("libc 2.36-9", package.size_bytes, package.size_bytes)


def test_a_second_run_asks_nothing_of_the_network(kernels: SmallArchive, opened: Opener, server: Server) -> None:
    def run() -> None:
        archive = opened()
        for package in archive.kernel("7.2", kernel_source(), "amd64").packages:
            archive.fetch(package)
        archive.closure(["linux-image-cloud-amd64"], ["kmod", "linux-base"], ["old"], "amd64")

    run()
    before = list(server.requests)
    run()
    assert server.requests == before


def test_a_day_later_the_archive_is_asked_and_may_say_that_nothing_changed(
    kernels: SmallArchive, opened: Opener, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().kernel("6.1", kernel_source(suites="old"), "amd64")
    monkeypatch.setenv("BOOTMATRIX_MAX_AGE_H", "0")
    opened().kernel("6.1", kernel_source(suites="old"), "amd64")
    assert (server.count("InRelease"), server.count(".xz")) == (2, 0)
    add_kernel(kernels, "old", "6.1.0-53-cloud-amd64", "6.1.190-1")
    kernels.publish()
    assert opened().kernel("6.1", kernel_source(suites="old"), "amd64").version == "6.1.190-1"


def test_an_archive_that_is_down_a_day_later_does_not_matter(
    kernels: SmallArchive, opened: Opener, server: Server, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = opened()
    archive.fetch(archive.kernel("6.1", kernel_source(suites="old"), "amd64").packages[0])
    monkeypatch.setenv("BOOTMATRIX_MAX_AGE_H", "0")
    kernels.inrelease("old").unlink()
    assert opened().kernel("6.1", kernel_source(suites="old"), "amd64").version == "6.1.176-1"
    assert "using the index of old that was fetched on" in listener.notes[-1]


def test_a_lock_holds_what_was_asked_for(kernels: SmallArchive, tools: SmallArchive, opened: Opener) -> None:
    archive = opened()
    kernel = archive.kernel("6.1", kernel_source(), "amd64")
    packages = archive.closure(["app"], ["awk"], ["old"], "amd64")
    newer = archive.closure(["libnew"], [], ["new"], "amd64")
    lock = Lock.model_validate_json(archive.resolved().model_dump_json())
    assert lock.kernels == {"amd64/cloud-amd64/6.1": kernel}
    assert {"libc/old", "libc/new", "libb", "libnew"} <= lock.packages["amd64"].keys()

    add_kernel(kernels, "old", "6.1.0-53-cloud-amd64", "6.1.190-1")
    tools.add("old", "libb", "1.6-1", depends="libc")
    tools.publish()
    locked = opened(lock=lock, refresh=True)
    assert locked.kernel("6.1", kernel_source(), "amd64") == kernel
    assert locked.closure(["app"], ["awk"], ["old"], "amd64") == packages
    assert locked.closure(["libnew"], [], ["new"], "amd64") == newer
    assert locked.resolved() == lock
    assert sha256_of(locked.fetch(kernel.packages[0])) == kernel.packages[0].sha256


def test_a_lock_is_made_anew_when_more_was_used(tools: SmallArchive, opened: Opener) -> None:
    archive = opened()
    before = archive.resolved()
    archive.closure(["app"], ["awk"], ["old"], "amd64")
    lock = archive.resolved()
    assert lock.packages.keys() - before.packages.keys() == {"amd64"}
    archive.closure(["app"], ["awk"], ["old"], "amd64")
    assert archive.resolved() is lock
    archive.closure(["libnew"], [], ["new"], "amd64")
    assert "libnew" in archive.resolved().packages["amd64"].keys() - lock.packages["amd64"].keys()


def test_a_lock_is_in_an_order_of_its_own(tools: SmallArchive, opened: Opener) -> None:
    asked = [("app", "old"), ("libnew", "new"), ("picky", "new"), ("odd", "old")]
    locks = []
    for order in (asked, asked[::-1]):
        archive = opened()
        for name, suite in order:
            archive.closure([name], ["libc"], [suite, "old"], "amd64")
        locks.append(archive.resolved().model_dump_json())
    assert locks[0] == locks[1]


def test_what_a_lock_has_not(kernels: SmallArchive, tools: SmallArchive, opened: Opener, server: Server) -> None:
    archive = opened(lock=Lock(kernels={}, packages={}))
    with pytest.raises(BuildError, match=r"lacks the kernel amd64/cloud-amd64/6.1\n.*bootmatrix lock"):
        archive.kernel("6.1", kernel_source(), "amd64")
    with pytest.raises(BuildError, match=r"(?s)libc not found for amd64.*bootmatrix lock"):
        archive.closure(["libc"], [], ["old"], "amd64")
    assert server.requests == []


def test_a_locked_package_that_the_archive_has_no_more(tools: SmallArchive, opened: Opener) -> None:
    archive = opened()
    (package,) = archive.closure(["libc"], [], ["old"], "amd64")
    (tools.root / package.filename).unlink()
    with pytest.raises(NetworkError, match=r"(?s)no longer has libc 2.36-9 amd64 \(old\).*outdated.*bootmatrix lock"):
        opened(lock=archive.resolved()).fetch(package)


def test_a_package_that_is_gone_makes_the_index_be_fetched_anew(tools: SmallArchive, opened: Opener) -> None:
    archive = opened()
    (package,) = archive.closure(["libc"], [], ["old"], "amd64")
    (tools.root / package.filename).unlink()
    tools.suite("old").paragraphs["amd64"] = []
    tools.add("old", "libc", "2.36-10")
    tools.publish()
    with pytest.raises(NetworkError, match=r"lacks libc 2.36-9"):
        archive.fetch(package)
    (package,) = archive.closure(["libc"], [], ["old"], "amd64")
    assert archive.fetch(package).is_file()
    assert package.version == "2.36-10"


@pytest.mark.parametrize(
    "filename", ["../../etc/passwd", "/etc/passwd", "pool/../../x", "http://else.where/x", "pool/"]
)
def test_strange_paths_are_refused(opened: Opener, server: Server, filename: str) -> None:
    package = Package(
        name="x", version="1", architecture="all", suite="old", filename=filename, size_bytes=1, sha256="a" * 64
    )
    with pytest.raises(UntrustedError, match="invalid path"):
        opened().fetch(package)
    assert server.requests == []


def test_many_threads_fetch_a_thing_once(kernels: SmallArchive, opened: Opener, server: Server) -> None:
    archive = opened()
    answers: list[Path] = []

    def work() -> None:
        kernel = archive.kernel("7.2", kernel_source(), "amd64")
        answers.extend(archive.fetch(package) for package in kernel.packages)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 32
    assert len(server.requests) == len(set(server.requests)) == 2 + 2 + 4


def test_a_closure_leaves_no_locks_and_no_temporary_files(tools: SmallArchive, opened: Opener, store: Store) -> None:
    opened().closure(["app"], [], ["old"], "amd64")
    assert [name for name in files_of(store.folder) if not name.startswith(("blobs/", "memo/"))] == []


def test_an_archive_without_by_hash(kernels: SmallArchive, opened: Opener, server: Server) -> None:
    file = kernels.packages_file("old")
    for by_hash in (file.parent / "by-hash/SHA256").iterdir():
        by_hash.unlink()
    assert opened().kernel("6.1", kernel_source(suites="old"), "amd64").version == "6.1.176-1"
    assert server.requests[-1][0].endswith("/Packages.xz")


def test_the_age_is_a_number(opened: Opener, kernels: SmallArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    opened().kernel("6.1", kernel_source(), "amd64")
    monkeypatch.setitem(os.environ, "BOOTMATRIX_MAX_AGE_H", "soon")
    with pytest.raises(Exception, match="BOOTMATRIX_MAX_AGE_H='soon' is not a number of hours"):
        opened().kernel("6.1", kernel_source(), "amd64")


def test_pauses_are_long_enough_for_a_file_and_short_enough_for_people() -> None:
    assert 1 <= sum(suites.PAUSES_S) <= 10
