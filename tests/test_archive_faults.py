"""What goes wrong with an archive: each is said as what it is, and nothing wrong is kept."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive_client import Listener, Opener, files_of, kernel_source
from bootmatrix.errors import HostError, InfraError, Interrupted, NetworkError, Offline, StaleMirror, UntrustedError
from bootmatrix.model import Package
from bootmatrix.source import download
from bootmatrix.source.archive import open_archive
from bootmatrix.source.release import Release, signed_text
from bootmatrix.store import Store
from small_archive import Signer, SmallArchive
from small_disk import run_on_small_disk
from small_server import Fault, Server

pytest_plugins = ("archive_fixtures",)

LARGE_BYTES = 600_000
SOURCE = kernel_source(suites="new old")


@pytest.fixture
def published(small: SmallArchive) -> SmallArchive:
    """A kernel in each of two suites, the newer one in `new`, and a package that takes a while."""
    small.add("old", "linux-image-6.12.1-cloud-amd64", "6.12.1-1")
    small.add("new", "linux-image-6.12.2-cloud-amd64", "6.12.2-1")
    small.add("old", "large", size_bytes=LARGE_BYTES)
    small.publish()
    return small


@pytest.fixture
def large(published: SmallArchive, opened: Opener) -> Package:
    """The package that takes a while, found and not yet fetched."""
    (package,) = opened().closure(["large"], [], ["old"], "amd64")
    assert isinstance(package, Package)
    return package


def kept(store: Store) -> list[str]:
    """What the store holds besides records."""
    return [name for name in files_of(store.folder) if not name.startswith("memo/")]


def replace(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


# Trust


def test_a_changed_index_is_refused(published: SmallArchive, opened: Opener, store: Store) -> None:
    replace(published.inrelease("old"), b"Origin: Debian", b"Origin: Nobody")
    with pytest.raises(UntrustedError, match=r"(?s)not signed by a key of .*BADSIG.*BOOTMATRIX_KEYRING"):
        opened().kernel("6.12", kernel_source(suites="old"), "amd64")
    assert files_of(store.folder) == []


def test_an_index_signed_by_a_stranger_is_refused(
    published: SmallArchive, opened: Opener, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Signer.create(tmp_path_factory.mktemp("s") / "g")
    try:
        monkeypatch.setenv("BOOTMATRIX_KEYRING", str(stranger.keyring))
        with pytest.raises(UntrustedError, match="NO_PUBKEY"):
            opened().kernel("6.12", kernel_source(suites="old"), "amd64")
    finally:
        stranger.close()


def test_only_what_is_signed_counts(signer: Signer) -> None:
    signed = signer.sign("Suite: old\n")
    assert signed_text(signed, signer.keyring) == b"Suite: old\n"
    with pytest.raises(NetworkError, match="did not send an InRelease file"):
        signed_text(b"Suite: forged\n" + signed, signer.keyring)
    with pytest.raises(NetworkError, match="did not send an InRelease file"):
        signed_text(signed + signed, signer.keyring)
    assert b"forged" not in signed_text(signed + b"Suite: forged\n", signer.keyring)


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b"", b"Suite: old\nCodename: old\n"])
def test_a_log_in_page_is_no_index_and_is_not_kept(
    published: SmallArchive, opened: Opener, page: bytes, store: Store
) -> None:
    index = published.inrelease("old")
    right = index.read_bytes()
    index.write_bytes(page)
    with pytest.raises(NetworkError, match="did not send an InRelease file"):
        opened().kernel("6.12", kernel_source(suites="old"), "amd64")
    assert files_of(store.folder) == []
    index.write_bytes(right)
    assert opened().kernel("6.12", kernel_source(suites="old"), "amd64")


def test_another_suites_index_is_refused(published: SmallArchive, opened: Opener, store: Store) -> None:
    published.inrelease("old").write_bytes(published.inrelease("new").read_bytes())
    with pytest.raises(UntrustedError, match=r"for suite old is signed for suite new"):
        opened().kernel("6.12", kernel_source(suites="old"), "amd64")
    assert files_of(store.folder / "blobs") == []


def test_a_suite_that_shares_a_codename_is_another() -> None:
    """As Ubuntu's: a mirror that serves proposed packages as the release is refused."""
    proposed = Release(suite="noble-proposed", codename="noble", indexes={})
    proposed.check_suite("noble-proposed")
    with pytest.raises(UntrustedError, match="for suite noble is signed for suite noble-proposed"):
        proposed.check_suite("noble")
    for name in ("noble", "stable"):
        Release(suite="stable", codename="noble", indexes={}).check_suite(name)


def test_a_suite_may_be_named_by_its_codename(small: SmallArchive, opened: Opener) -> None:
    small.suite("experimental", "rc-buggy")
    small.add("experimental", "linux-image-7.3-cloud-amd64", "7.3~rc7-1")
    small.publish()
    assert opened().kernel("7.3", kernel_source(suites="experimental"), "amd64")
    (small.root / "dists/rc-buggy").symlink_to("experimental")
    assert opened().kernel("7.3", kernel_source(suites="rc-buggy"), "amd64")


def test_an_index_whose_time_is_over(
    published: SmallArchive, opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.expire("old")
    with pytest.raises(InfraError, match=r"(?s)was valid until .*GMT.*Acquire::Check-Valid-Until"):
        opened().kernel("6.12", kernel_source(suites="old"), "amd64")
    (tmp_path / "lenient").write_text((tmp_path / "apt.conf").read_text() + 'Acquire::Check-Valid-Until "false";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "lenient"))
    assert opened().kernel("6.12", kernel_source(suites="old"), "amd64")
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    with pytest.raises(InfraError, match="was valid until"):
        opened(offline=True).kernel("6.12", kernel_source(suites="old"), "amd64")
    published.suite("old").valid_until = None
    published.publish()
    assert opened().kernel("6.12", kernel_source(suites="old"), "amd64"), "a fault of yesterday was kept"


def test_no_keys(published: SmallArchive, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTMATRIX_KEYRING", "/no/such/keys.gpg")
    with pytest.raises(HostError, match=r"(?s)not found: /no/such/keys.gpg.*debian-archive-keyring"):
        opened().kernel("6.12", SOURCE, "amd64")


def test_no_gpgv(published: SmallArchive, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    with pytest.raises(HostError, match=r"(?s)gpgv is not installed.*apt-get install gpgv"):
        opened().kernel("6.12", SOURCE, "amd64")


# A mirror being updated


def test_a_list_that_does_not_match(published: SmallArchive, opened: Opener, server: Server, store: Store) -> None:
    published.fall_out_of_step("old")
    with pytest.raises(StaleMirror, match=r"(?s)being updated.*Try again in an hour"):
        opened().kernel("6.12", kernel_source(suites="old"), "amd64")
    assert (server.count("InRelease"), server.count("Packages.xz")) == (3, 3), "no retries"
    assert [name for name in kept(store) if "partial" in name] == []


def test_the_next_suite_helps_out(published: SmallArchive, opened: Opener, listener: Listener) -> None:
    assert opened().kernel("6.12", SOURCE, "amd64").version == "6.12.2-1"
    published.fall_out_of_step("new", "amd64")
    # What is known by its digest already is as good as before.
    assert opened().kernel("6.12", SOURCE, "amd64").version == "6.12.2-1"


def test_the_next_suite_helps_out_and_it_is_said(published: SmallArchive, opened: Opener, listener: Listener) -> None:
    published.fall_out_of_step("new")
    assert opened().kernel("6.12", SOURCE, "amd64").version == "6.12.1-1"
    assert "6.12 for amd64 is 6.12.1-1 of old: the mirror is being updated" in listener.notes[-1]


def test_the_next_suite_helps_out_for_a_package_that_is_not_there(
    published: SmallArchive, opened: Opener, listener: Listener
) -> None:
    archive = opened()
    newest = archive.kernel("6.12", SOURCE, "amd64")
    (published.root / newest.packages[0].filename).unlink()
    with pytest.raises(StaleMirror, match="which its index lists"):
        archive.fetch(newest.packages[0])
    assert archive.kernel("6.12", SOURCE, "amd64").version == "6.12.1-1"
    assert "6.12 for amd64 is 6.12.1-1 of old: the archive at" in listener.notes[-1]
    asked = archive.kernel("6.12.2", SOURCE, "amd64")
    assert asked.packages == newest.packages, "one that no other suite has is to be asked for again"


def test_a_kernel_that_only_the_stale_suite_has(published: SmallArchive, opened: Opener) -> None:
    published.fall_out_of_step("new")
    with pytest.raises(StaleMirror):
        opened().kernel("6.12.2", SOURCE, "amd64")


def test_a_stale_list_of_one_architecture_is_no_others(published: SmallArchive, opened: Opener) -> None:
    published.add("old", "linux-image-6.12.1-cloud-arm64", "6.12.1-1", "arm64")
    published.publish()
    published.fall_out_of_step("old")
    archive = opened()
    with pytest.raises(StaleMirror):
        archive.closure(["large"], [], ["old"], "amd64")
    assert archive.kernel("6.12", kernel_source("cloud-arm64", "old"), "arm64")


def test_an_update_that_ends_while_we_wait(
    published: SmallArchive, opened: Opener, server: Server, listener: Listener
) -> None:
    server.faults.append(Fault("Packages.xz", times=1, status=404))
    for by_hash in (published.packages_file("old").parent / "by-hash/SHA256").iterdir():
        by_hash.unlink()
    assert opened().kernel("6.12", kernel_source(suites="old"), "amd64")
    assert "trying again" in listener.notes[0]


def test_other_cells_do_not_wait_for_the_same_fault_again(
    published: SmallArchive, opened: Opener, server: Server
) -> None:
    published.fall_out_of_step("old")
    archive = opened()
    for _ in range(4):
        with pytest.raises(StaleMirror):
            archive.kernel("6.12", kernel_source(suites="old"), "amd64")
    assert server.count("Packages.xz") == 3


def test_a_suite_that_does_not_exist(published: SmallArchive, opened: Opener, listener: Listener) -> None:
    with pytest.raises(NetworkError, match=r"(?s)has no suite warty\n.*BOOTMATRIX_ARCHIVE"):
        opened().kernel("6.12", kernel_source(suites="warty"), "amd64")
    assert opened().kernel("6.12", kernel_source(suites="warty old"), "amd64").version == "6.12.1-1"
    assert "has no suite warty" in listener.notes[-1]


# Downloads


def test_a_download_goes_on_where_it_stopped(large: Package, opened: Opener, server: Server) -> None:
    server.faults.append(Fault(large.filename, times=1, cut_bytes=200_000))
    assert opened().fetch(large).stat().st_size == large.size_bytes
    assert [start for path, start in server.requests if path == large.filename] == [0, 200_000]


def test_a_download_goes_on_in_the_next_run(large: Package, opened: Opener, server: Server, store: Store) -> None:
    fault = Fault(large.filename, cut_bytes=100_000)
    server.faults.append(fault)
    with pytest.raises(NetworkError, match=r"(?s)connection.*\(tried 3 times.*downloads resume"):
        opened().fetch(large)
    assert store.partial(large.sha256).stat().st_size == 300_000
    assert not store.has(large.sha256)
    fault.times = 0
    opened().fetch(large)
    assert server.requests[-1] == (large.filename, 300_000)
    assert not store.partial(large.sha256).exists()


def test_a_download_survives_a_kill(large: Package, server: Server, store: Store, signer: Signer) -> None:
    server.faults.append(Fault(large.filename, times=1, stall_s=0.01))
    with fetching(large, server, store) as process:
        wait_for(lambda: store.partial(large.sha256).exists() and store.partial(large.sha256).stat().st_size > 50_000)
        process.kill()
    assert not store.has(large.sha256)
    with fetching(large, server, store) as process:
        assert process.wait(30) == 0
    assert server.requests[-1][1] > 50_000
    assert [name for name in kept(store) if not name.startswith("blobs/")] == []


def test_a_server_that_knows_no_ranges(large: Package, opened: Opener, server: Server) -> None:
    server.ranges = False
    server.faults.append(Fault(large.filename, times=1, cut_bytes=200_000))
    assert opened().fetch(large).stat().st_size == large.size_bytes


def test_a_partial_file_of_something_else(large: Package, opened: Opener, server: Server, store: Store) -> None:
    for length in (1000, large.size_bytes, large.size_bytes + 5):
        store.partial(large.sha256).write_bytes(b"x" * length)
        path = opened().fetch(large)
        assert path.stat().st_size == large.size_bytes
        path.unlink()


@pytest.mark.parametrize("lengths", [True, False])
def test_a_corrupt_package(large: Package, opened: Opener, server: Server, store: Store, lengths: bool) -> None:
    server.lengths = lengths
    server.faults.append(Fault(large.filename, corrupt=True))
    before = kept(store)
    with pytest.raises(UntrustedError, match=r"large_.* is corrupt: expected SHA-256"):
        opened().fetch(large)
    assert kept(store) == before


@pytest.mark.parametrize(("lengths", "message"), [(True, "has .* bytes, expected"), (False, "exceeds the expected")])
def test_more_than_was_expected(
    large: Package, opened: Opener, server: Server, store: Store, lengths: bool, message: str
) -> None:
    server.lengths = lengths
    server.faults.append(Fault(large.filename, more_bytes=50_000_000))
    before = kept(store)
    with pytest.raises(UntrustedError, match=message):
        opened().fetch(large)
    assert kept(store) == before


def test_an_index_of_endless_size(published: SmallArchive, opened: Opener, server: Server) -> None:
    server.faults.append(Fault("InRelease", more_bytes=9 << 20))
    with pytest.raises(NetworkError, match="larger than the limit of 8388608 bytes"):
        opened().kernel("6.12", kernel_source(suites="old"), "amd64")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(large: Package, opened: Opener, server: Server, status: int) -> None:
    server.faults.append(Fault(large.filename, times=2, status=status))
    assert opened().fetch(large)
    server.faults.append(Fault("InRelease", status=status))
    with pytest.raises(NetworkError, match=f"the server answered {status}.*3 times"):
        opened(refresh=True).kernel("6.12", kernel_source(suites="new"), "amd64")


def test_a_refusal_is_final(large: Package, opened: Opener, server: Server) -> None:
    server.faults.append(Fault(large.filename, status=403))
    with pytest.raises(NetworkError, match="the server answered 403 Forbidden"):
        opened().fetch(large)
    assert server.count(large.filename) == 1


def test_nobody_there(store: Store, listener: Listener, opened: Opener) -> None:
    archive = open_archive(store, offline=False, lock=None, address="http://127.0.0.1:9/debian", progress=listener)
    with pytest.raises(NetworkError, match=r"(?s)127.0.0.1:9.*refused.*Check the network"):
        archive.kernel("6.12", SOURCE, "amd64")
    assert files_of(store.folder) == []


def test_a_name_that_does_not_exist(store: Store, listener: Listener, opened: Opener) -> None:
    archive = open_archive(store, offline=False, lock=None, address="http://archive.invalid/debian", progress=listener)
    with pytest.raises(NetworkError, match=r"archive.invalid"):
        archive.kernel("6.12", SOURCE, "amd64")


@pytest.mark.parametrize(("number", "is_tried_again"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_a_name_is_asked_for_again_only_if_dns_gave_no_answer(
    store: Store, listener: Listener, opened: Opener, monkeypatch: pytest.MonkeyPatch, number: int, is_tried_again: bool
) -> None:
    def answer(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "as DNS says")

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    monkeypatch.setattr(download, "PAUSES_S", (0.0,))
    archive = open_archive(store, offline=False, lock=None, address="http://archive.invalid/debian", progress=listener)
    with pytest.raises(NetworkError, match=r"archive.invalid"):
        archive.kernel("6.12", SOURCE, "amd64")
    assert any("trying again" in note for note in listener.notes) is is_tried_again


def test_closing_ends_a_download(large: Package, opened: Opener, server: Server) -> None:
    server.faults.append(Fault(large.filename, stall_s=0.05))
    archive = opened()
    threading.Timer(0.3, archive.close).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        archive.fetch(large)
    assert time.monotonic() - started < 20


def test_a_damaged_file_of_the_cache_is_fetched_again(
    large: Package, opened: Opener, server: Server, listener: Listener
) -> None:
    path = opened().fetch(large)
    path.chmod(0o644)
    replace(path, path.read_bytes()[1000:1010], b"0123456789")
    assert opened().fetch(large).read_bytes() == (server.root / large.filename).read_bytes()
    assert "damaged" in listener.notes[-1]


def test_every_file_of_the_cache_may_be_damaged(published: SmallArchive, opened: Opener, store: Store) -> None:
    def run() -> dict[str, bytes]:
        archive = opened()
        packages = [archive.kernel("6.12", SOURCE, "amd64").packages[0]]
        packages += archive.closure(["large"], [], ["old"], "amd64")
        return {package.filename: archive.fetch(package).read_bytes() for package in packages}

    right = {name: (published.root / name).read_bytes() for name in run()}
    assert len(right) > 1
    for name in files_of(store.folder):
        path = store.folder / name
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-3] + b"???")
    assert run() == right
    assert run() == right


def test_a_damaged_list_of_packages_is_fetched_again(published: SmallArchive, opened: Opener, store: Store) -> None:
    opened().closure(["large"], [], ["old"], "amd64")
    for path in (store.folder / "blobs").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"damaged")
    assert opened().closure(["large", "linux-image-6.12.1-cloud-amd64"], [], ["old"], "amd64")


# Without a network


def test_offline_with_all_there(
    large: Package, opened: Opener, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().fetch(large)
    before = list(server.requests)
    monkeypatch.setenv("BOOTMATRIX_MAX_AGE_H", "0")
    archive = opened(offline=True)
    assert archive.closure(["large"], [], ["old"], "amd64") == (large,)
    assert archive.fetch(large)
    assert server.requests == before


def test_offline_with_nothing_there(published: SmallArchive, opened: Opener, server: Server) -> None:
    with pytest.raises(Offline, match=r"(?s)index of new is not in the cache.*bootmatrix fetch"):
        opened(offline=True).kernel("6.12", SOURCE, "amd64")
    assert server.requests == []


def test_offline_with_a_part_there(large: Package, opened: Opener, server: Server) -> None:
    before = list(server.requests)
    with pytest.raises(Offline, match=r"not in the cache, and downloads are forbidden: large 1.0-1"):
        opened(offline=True).fetch(large)
    with pytest.raises(Offline, match="index of new is not in the cache"):
        opened(offline=True).closure(["large"], [], ["new"], "amd64")
    assert server.requests == before


# The host


FETCH = """
import json, sys
from pathlib import Path
from bootmatrix.errors import BootmatrixError
from bootmatrix.model import Package
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import open_archive
from bootmatrix.store import Store
store = Store(Path(sys.argv[1]))
archive = open_archive(store, offline=False, lock=None, address=sys.argv[2], progress=NullObserver())
try:
    archive.fetch(Package.model_validate_json(sys.argv[3]))
except BootmatrixError as error:
    print(type(error).__name__, error)
print(json.dumps([str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if path.is_file()]))
"""


def test_a_full_disk(large: Package, server: Server, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    result = run_on_small_disk(tmp_path / "disk", 256, FETCH, server.address, large.model_dump_json())
    assert result.returncode == 0, result.stderr
    said, hint, left = result.stdout.splitlines()
    assert said.startswith("HostError no space left for the cache in")
    assert "BOOTMATRIX_CACHE" in hint
    assert json.loads(left) == []


def test_two_processes_fetch_a_thing_once(large: Package, server: Server, store: Store) -> None:
    server.faults.append(Fault(large.filename, stall_s=0.003))
    with fetching(large, server, store) as one, fetching(large, server, store) as two:
        assert (one.wait(30), two.wait(30)) == (0, 0)
    assert server.count(large.filename) == 1
    assert store.verified(large.sha256)


@contextmanager
def fetching(package: Package, server: Server, store: Store) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that fetches a package."""
    command = [sys.executable, "-c", FETCH, str(store.folder), server.address, package.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "NO_PROXY": "127.0.0.1"}) as process:
        yield process


def wait_for(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
