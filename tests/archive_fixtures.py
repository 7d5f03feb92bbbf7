"""Fixtures of the tests against a small archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from archive_client import Listener, Opener
from bootmatrix.model import Lock
from bootmatrix.source import download, suites
from bootmatrix.source.archive import Archive, open_archive
from bootmatrix.store import Store, temporary_folder
from small_archive import Signer, SmallArchive
from small_server import Server, serve

ONLY_THIS = 'Dir::Etc::Main "/nonexistent"; Dir::Etc::Parts "/nonexistent";\n'
"""Keeps the host's own configuration out of apt's."""


@pytest.fixture(scope="session")
def signer() -> Iterator[Signer]:
    with temporary_folder() as folder:  # GnuPG's sockets need a short path
        signer = Signer.create(folder / "gnupg")
        yield signer
        signer.close()


@pytest.fixture
def small(tmp_path: Path, signer: Signer) -> SmallArchive:
    return SmallArchive(tmp_path / "archive", signer)


@pytest.fixture
def server(small: SmallArchive) -> Iterator[Server]:
    with serve(small.root) as server:
        yield server


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def opened(
    store: Store, server: Server, listener: Listener, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Opener:
    """Opens the archive anew, as the next run of the tool would."""
    monkeypatch.setattr(download, "PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(suites, "PAUSES_S", (0.01, 0.02))
    monkeypatch.setenv("BOOTMATRIX_KEYRING", str(signer.keyring))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "apt.conf").write_text(ONLY_THIS)
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    def open_it(
        offline: bool = False,
        lock: Lock | None = None,
        refresh: bool = False,
        allow_older: bool = False,
        address: str = "",
    ) -> Archive:
        return open_archive(
            store,
            offline=offline,
            lock=lock,
            address=address or server.address,
            progress=listener,
            refresh=refresh,
            allow_older=allow_older,
        )

    return open_it
