"""Releases of suites that are older than what was seen before, or of the future: refused, as apt does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archive_client import Opener, kernel_source
from bootmatrix.errors import InfraError, NetworkError, UntrustedError
from bootmatrix.source.release import parse_release
from bootmatrix.source.release_order import ReleaseOrder
from bootmatrix.store import Store
from command_line import Tool
from small_archive import Signer, SmallArchive
from small_server import Fault, Server, serve

pytest_plugins = ("archive_fixtures", "command_line")

OLD = kernel_source(suites="old")
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def published(small: SmallArchive) -> SmallArchive:
    """A suite with a kernel of yesterday, which says nothing of how long it is valid."""
    small.add("old", "linux-image-6.12.1-cloud-amd64", "6.12.1-1")
    small.suite("old").date = NOW - timedelta(days=1)
    small.publish()
    return small


@pytest.fixture
def other(published: SmallArchive, tmp_path: Path, signer: Signer) -> Iterator[Server]:
    """Another mirror, which stays as it is now."""
    shutil.copytree(published.root, tmp_path / "other")
    with serve(tmp_path / "other") as server:
        yield server


def update(published: SmallArchive) -> None:
    """Publish a newer kernel now."""
    published.add("old", "linux-image-6.12.2-cloud-amd64", "6.12.2-1")
    published.suite("old").date = NOW
    published.publish()


def roll_back(published: SmallArchive) -> Callable[[], None]:
    """Return what puts the archive of now back later."""
    kept = published.root.with_name("kept")
    shutil.copytree(published.root, kept)

    def put_back() -> None:
        shutil.rmtree(published.root)
        shutil.copytree(kept, published.root)

    return put_back


def test_an_older_release_is_refused(published: SmallArchive, opened: Opener) -> None:
    """It is signed, its packages are there by their digests, and it is valid without end."""
    put_back = roll_back(published)
    update(published)
    assert opened().kernel("6.12", OLD, "amd64").version == "6.12.2-1"
    put_back()
    with pytest.raises(UntrustedError, match=r"(?s)index of old was rolled back.*--allow-older-release"):
        opened(refresh=True).kernel("6.12", OLD, "amd64")
    with pytest.raises(UntrustedError, match="rolled back"):
        opened(refresh=True).closure(["linux-image-6.12.1-cloud-amd64"], [], ["old"], "amd64")
    # What is in the cache is the newer one, and still good.
    assert opened().kernel("6.12", OLD, "amd64").version == "6.12.2-1"
    assert opened(offline=True).kernel("6.12", OLD, "amd64").version == "6.12.2-1"
    update(published)
    assert opened(refresh=True).kernel("6.12", OLD, "amd64").version == "6.12.2-1"


def test_another_mirror_may_not_be_older_either(published: SmallArchive, opened: Opener, other: Server) -> None:
    update(published)
    opened().kernel("6.12", OLD, "amd64")
    with pytest.raises(UntrustedError, match="rolled back"):
        opened(address=other.address).kernel("6.12", OLD, "amd64")
    assert opened(address=other.address, allow_older=True).kernel("6.12", OLD, "amd64").version == "6.12.1-1"
    # To allow it once is not to forget what was seen.
    with pytest.raises(UntrustedError, match="rolled back"):
        opened(address=other.address).kernel("6.12", OLD, "amd64")


def test_what_is_kept_of_a_mirror_that_fell_behind_is_asked_for_anew(
    published: SmallArchive, opened: Opener, other: Server, server: Server
) -> None:
    assert opened(address=other.address).kernel("6.12", OLD, "amd64").version == "6.12.1-1"
    update(published)
    assert opened().kernel("6.12", OLD, "amd64").version == "6.12.2-1"
    asked = other.count("InRelease")
    with pytest.raises(UntrustedError, match="rolled back"):  # though the server says that nothing has changed
        opened(address=other.address).kernel("6.12", OLD, "amd64")
    assert other.count("InRelease") == asked + 1
    other.faults.append(Fault("InRelease", status=503))
    with pytest.raises(InfraError):
        opened(address=other.address).kernel("6.12", OLD, "amd64")
    assert opened(address=other.address, offline=True).kernel("6.12", OLD, "amd64").version == "6.12.1-1"


def test_a_codename_is_the_same_suite(small: SmallArchive, opened: Opener) -> None:
    small.suite("stable", "warty")
    small.add("stable", "linux-image-6.12.1-cloud-amd64", "6.12.1-1")
    small.suite("stable").date = NOW - timedelta(days=1)
    small.publish()
    put_back = roll_back(small)
    small.suite("stable").date = NOW
    small.publish()
    opened().kernel("6.12", kernel_source(suites="stable"), "amd64")
    put_back()
    (small.root / "dists/warty").symlink_to("stable")
    with pytest.raises(UntrustedError, match="rolled back"):
        opened().kernel("6.12", kernel_source(suites="warty"), "amd64")


def test_the_same_release_again_is_no_older_one(published: SmallArchive, opened: Opener, other: Server) -> None:
    for _ in range(2):
        assert opened(refresh=True).kernel("6.12", OLD, "amd64")
        assert opened(refresh=True, address=other.address).kernel("6.12", OLD, "amd64")


def test_runs_at_the_same_time_agree_on_the_newest(tmp_path: Path) -> None:
    releases = [
        parse_release(f"Origin: Debian\nSuite: old\nDate: Mon, 02 Nov 2026 00:{minute:02}:00 UTC\n")
        for minute in range(40)
    ]

    def note(start: int) -> None:
        order = ReleaseOrder(Store(tmp_path), allows_older=True)
        for release in (*releases[start::4], *releases[:start]):
            order.accept("old", release)

    threads = [threading.Thread(target=note, args=(start,)) for start in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    order = ReleaseOrder(Store(tmp_path), allows_older=False)
    assert [order.is_behind("old", one) for one in releases] == [True] * 39 + [False]


@pytest.mark.parametrize(("ahead_s", "passes"), [(3600, False), (60, False), (5, True), (0, True)])
def test_a_release_of_the_future_is_refused(
    published: SmallArchive, opened: Opener, ahead_s: int, passes: bool
) -> None:
    published.suite("old").date = datetime.now(UTC) + timedelta(seconds=ahead_s)
    published.publish()
    if passes:
        assert opened().kernel("6.12", OLD, "amd64")
    else:
        with pytest.raises(InfraError, match=r"(?s)in the future.*Check this machine's clock"):
            opened().kernel("6.12", OLD, "amd64")


@pytest.mark.parametrize("option", ['Acquire::Check-Date "false";', "Acquire::Max-FutureTime 7200;"])
def test_what_apt_lets_pass_of_the_future(
    published: SmallArchive, opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    published.suite("old").date = datetime.now(UTC) + timedelta(hours=1)
    published.publish()
    (tmp_path / "lenient").write_text((tmp_path / "apt.conf").read_text() + option + "\n")
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "lenient"))
    assert opened().kernel("6.12", OLD, "amd64")


def test_a_release_of_the_future_is_not_remembered(published: SmallArchive, opened: Opener) -> None:
    published.suite("old").date = datetime.now(UTC) + timedelta(days=400)
    published.publish()
    with pytest.raises(InfraError, match="in the future"):
        opened().kernel("6.12", OLD, "amd64")
    published.suite("old").date = NOW
    published.publish()
    assert opened().kernel("6.12", OLD, "amd64")


def test_a_release_without_a_date_is_refused(published: SmallArchive, opened: Opener, signer: Signer) -> None:
    text = published.inrelease("old").read_text().split("\n\n", 1)[1].split("-----BEGIN PGP SIGNATURE")[0]
    for date in ("", "Date:\n", "Date: yesterday\n"):
        lines = [line for line in text.splitlines() if not line.startswith("Date:")]
        published.inrelease("old").write_bytes(signer.sign(date + "\n".join(lines) + "\n"))
        with pytest.raises(NetworkError, match="invalid date"):
            opened().kernel("6.12", OLD, "amd64")


def test_the_command_line_allows_it(tool: Tool, small: SmallArchive, opened: Opener, server: Server) -> None:
    opened()  # sets the keys, after the tool has cleared the environment
    small.suite("bookworm").date = NOW - timedelta(days=1)
    small.add("bookworm", "linux-image-6.1.0-1-cloud-amd64", "6.1.1-1")
    small.publish()
    put_back = roll_back(small)
    small.suite("bookworm").date = NOW
    small.publish()
    words = ("kernels", "--arch", "x86_64", "--archive", server.address)
    assert "6.1.1-1" in tool(*words).stdout
    put_back()
    shutil.rmtree("cache/memo/suite")
    assert "rolled" in tool(*words).stdout
    assert "6.1.1-1" in tool(*words, "--allow-older-release").stdout
