"""The archive as a guest sees it by HTTP: signed indexes, packages."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bootmatrix.errors import BootmatrixError, BuildError, InfraError
from bootmatrix.model import Package
from bootmatrix.source.archive import Archive
from bootmatrix.source.replies import NotFound

REASON_CHARACTERS = 300
MAX_PACKAGES = 5000
MAX_BYTES = 8 << 30
"""Limit of all packages for one guest."""
MAX_SUITES = 16
REDUCED = "packages.bootmatrix.invalid"
"""Host of requests for lists without a signature and without what only people read."""
_REQUEST = re.compile(rb"GET (\S{1,4000}) HTTP/1\.[01]\r\n")
_INDEX = re.compile(r"dists/([a-z0-9][a-z0-9.-]{0,62})/([A-Za-z0-9][A-Za-z0-9./_-]*)")
_PACKAGE = re.compile(r"pool/[A-Za-z0-9][A-Za-z0-9_.+~:%/-]*\.deb")
_TOP = re.compile(r"(?:^|/)((?:dists|pool)/.*)")


@dataclass(frozen=True)
class Response:
    """The answer to a request: a status line's rest, and a body."""

    status: str
    body: bytes | Path

    @property
    def head(self) -> bytes:
        """Status line and header."""
        size = self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)
        kind = "application/octet-stream" if isinstance(self.body, Path) else "text/plain"
        lines = (f"HTTP/1.1 {self.status}", f"Content-Type: {kind}", f"Content-Length: {size}", "Connection: close")
        return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


class GuestRepository:
    """Answers the requests of one guest, which is hostile. Thread-safe and blocking.

    `suites` are looked in for packages beside those whose indexes the guest has asked for. `fault` is the last fault
    of the archive or the network. With `only`, reduced lists have packages of these names and what they may need.
    """

    def __init__(self, archive: Archive, debian_arch: str, suites: Sequence[str]) -> None:
        self._archive, self._arch = archive, debian_arch
        self._suites = list(suites)
        self._packages: dict[Package, None] = {}
        self._bytes_left = MAX_BYTES
        self._lock = threading.Lock()
        self.fault: InfraError | None = None
        self.only: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[Package, ...]:
        """All packages that the guest got, in this order."""
        return tuple(self._packages)

    def answer(self, head: bytes) -> Response:
        """Answer a request, given by its head. An error is an answer too."""
        request = _REQUEST.match(head)
        if request is None:
            return Response("405 Method Not Allowed", b"only GET is served\n")
        try:
            address = urlsplit(request[1].decode("latin-1"))
        except ValueError:
            return Response("400 Bad Request", b"not a URL\n")
        path = _TOP.search(unquote(address.path))
        try:
            return Response("200 OK", self._find(path[1] if path else "", is_reduced=address.netloc == REDUCED))
        except (NotFound, BuildError) as error:
            return _refusal(404, error)
        except InfraError as error:
            self.fault = error
            return _refusal(502, error)
        except BootmatrixError as error:
            return _refusal(503, error)

    def _find(self, path: str, *, is_reduced: bool) -> bytes | Path:
        if ".." in path.split("/"):
            raise BuildError("a path with '..'")
        if index := _INDEX.fullmatch(path):
            return self._index(index[1], index[2], is_reduced=is_reduced)
        if _PACKAGE.fullmatch(path):
            return self._package(path)
        raise BuildError("bootmatrix serves the indexes and packages of its archive, and nothing else")

    def _index(self, suite: str, name: str, *, is_reduced: bool) -> bytes | Path:
        with self._lock:
            if suite not in self._suites:
                if len(self._suites) >= MAX_SUITES:
                    raise BuildError("too many suites")
                self._suites.append(suite)
        if is_reduced:
            part = self._archive.reduced_part(suite, self._arch, name, self.only)
        else:
            part = self._archive.signed_part(suite, self._arch, name)
        if part is None:
            raise BuildError(f"{suite} has no {name} here")
        return part

    def _package(self, filename: str) -> Path:
        with self._lock:
            package = self._archive.package_at(filename, tuple(self._suites), self._arch)
            if package not in self._packages:
                self._bytes_left -= package.size_bytes
                if self._bytes_left < 0 or len(self._packages) >= MAX_PACKAGES:
                    raise BuildError("too many packages for one guest")
            path = self._archive.fetch(package)
            self._packages[package] = None
            self._archive.used.add_packages(self._arch, [package])
        return path


def _refusal(status: int, error: Exception) -> Response:
    """Answer with an error, of which apt prints the status line only."""
    words = " ".join(str(error).split())
    return Response(f"{status} {words.encode('ascii', 'replace').decode()[:REASON_CHARACTERS]}", f"{error}\n".encode())
