"""Source packages of the archive: verified, kept in the cache, and unpacked by dpkg-source."""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from debian.deb822 import Sources

from bootmatrix.errors import BuildError, InfraError
from bootmatrix.progress import NullObserver
from bootmatrix.source.download import Downloader, DownloadRequest
from bootmatrix.source.settings import Settings
from bootmatrix.source.suites import Suites
from bootmatrix.store import Store

INDEX = re.compile(r"^ ([0-9a-f]{64}) +(\d+) main/source/Sources\.xz$", re.MULTILINE)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~-]*")


@dataclass(frozen=True)
class SourcePackage:
    """A source package of a suite; `tree` is where it is unpacked, with its patches."""

    name: str
    version: str
    dsc_sha256: str
    tree: Path


class SourceArchive:
    """The source packages of one suite; its threads take turns. Blocking."""

    def __init__(self, store: Store, suite: str, folder: Path) -> None:
        settings = Settings(None, False, False, allow_older=False)
        self._address, self._suite, self._folder = settings.address, suite, folder
        self._downloader = Downloader(store, NullObserver(), settings)
        self._suites = Suites(settings, store, self._downloader, NullObserver())
        self._index = b""
        self._turn = threading.Lock()

    def get(self, name: str) -> SourcePackage:
        """Fetch and unpack the newest version of a package.

        Raises:
            BuildError: the suite has no such package, or it cannot be unpacked.
            InfraError: it is unavailable or untrusted.
        """
        with self._turn:
            return self._get(name)

    def _get(self, name: str) -> SourcePackage:
        stanza = self._find(name)
        version = str(stanza["Version"])
        target = self._folder / f"{name}_{version.replace(':', '%3a')}"
        entries = [
            (str(entry["name"]), str(entry["sha256"]), int(entry["size"])) for entry in stanza["Checksums-Sha256"]
        ]
        dsc = next(entry for entry in entries if entry[0].endswith(".dsc"))
        if not target.is_dir():
            self._unpack(str(stanza["Directory"]), entries, dsc[0], target)
        return SourcePackage(name, version, dsc[1], target)

    def _unpack(self, folder: str, entries: list[tuple[str, str, int]], dsc: str, target: Path) -> None:
        with _new_folder(target.with_name(f"{target.name}.new")) as new:
            for name, sha256, size in entries:
                if not NAME.fullmatch(name):
                    raise InfraError(f"invalid name of a source file: {name!r}")
                url = f"{self._address}/{quote(folder)}/{quote(name)}"
                (new / name).symlink_to(self._downloader.file(DownloadRequest(url, sha256, size, name)))
            # The signature of the .dsc is the uploader's; the archive's own vouches for its digest.
            command = ["dpkg-source", "--no-check", "-x", str(new / dsc), str(new / "tree")]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise BuildError(f"cannot unpack {dsc}: {result.stderr.strip()[-500:]}")
            tests = new / "tree" / "debian" / "tests" / "control"
            if not tests.is_file() or "build-needed" not in tests.read_text(encoding="utf-8", errors="replace"):
                (new / "tree" / "debian" / "files").touch()  # autopkgtest need not build it
            (new / "tree").rename(target)

    def _find(self, name: str) -> Sources:
        if not self._index:
            self._index = self._fetch_index()
        start = f"\n\nPackage: {name}\n".encode()
        place = self._index.find(start)
        if place < 0:
            raise BuildError(f"{self._suite} has no source package {name}")
        return Sources(self._index[place + 2 : self._index.index(b"\n\n", place + 2)].decode())

    def _fetch_index(self) -> bytes:
        text = self._suites.in_release(self._suite).decode("utf-8", "replace")
        listed = INDEX.search(text, text.index("\nSHA256:"))
        if listed is None:
            raise InfraError(f"{self._suite} lists no source packages")
        url = f"{self._address}/dists/{self._suite}/main/source/Sources.xz"
        path = self._downloader.file(DownloadRequest(url, listed[1], int(listed[2]), f"{self._suite} Sources"))
        return b"\n\n" + lzma.decompress(path.read_bytes()) + b"\n\n"


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
