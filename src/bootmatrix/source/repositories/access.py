"""A format's access to network, cache and keys, and its values."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from bootmatrix.errors import StaleMirror, UntrustedError
from bootmatrix.model.base import Model
from bootmatrix.model.distribution import Signed
from bootmatrix.progress import Observer
from bootmatrix.source.download import Downloader, DownloadRequest
from bootmatrix.source.replies import NotFound
from bootmatrix.source.repositories.index_cache import IndexCache
from bootmatrix.source.settings import Settings
from bootmatrix.store import Codec, Store

DIGESTS = ("sha256", "sha384", "sha512")
MAX_PACKAGE_BYTES = 2 << 30
MAX_WORD = 256
"""Characters of a name or a version; an index, which may be unsigned, has many of them."""


class RepositoryPackage(Model):
    """A package of a repository.

    `checksum` is `sha256:HEX` or another digest of the whole file, or in the format's own notation.
    `signature` is the URL of a detached signature, or its bytes in base64.
    """

    name: str
    version: str
    url: str
    size_bytes: int
    checksum: str
    signature: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Keys:
    """A repository's keys: `keyring` for gpgv, `files` by name."""

    keyring: Path
    files: dict[str, bytes]
    revoked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RepositoryAccess:
    """The means by which a format reads a repository."""

    settings: Settings
    store: Store
    downloader: Downloader
    progress: Observer
    indexes: IndexCache
    keys: Keys
    signed: Signed
    architecture: str
    archived: bool = False

    def file(self, url: str, checksum: str, size_bytes: int, label: str) -> Path:
        """Fetch a file of a known digest.

        Raises NotFound if the server lacks it, UntrustedError if its size or digest differs.
        """
        kind, _, digest = checksum.partition(":")
        if kind == "sha256":
            return self.downloader.file(DownloadRequest(url, digest, size_bytes, label))
        key = json.dumps([url, checksum])

        def make() -> str:
            sha256 = self.downloader.unpinned(url, size_bytes, label)
            if not matches_digest(self.store.verified(sha256), checksum):
                raise UntrustedError(f"{url} is corrupt: expected {checksum}")
            return sha256

        return self.store.verified(self.store.cached_digest("repository-file", key, make))


def matches_digest(path: Path, checksum: str) -> bool:
    """Return whether a file has a digest of one of DIGESTS: `sha512:HEX`."""
    kind, _, digest = checksum.partition(":")
    with path.open("rb") as file:
        return kind in DIGESTS and hashlib.file_digest(file, kind).hexdigest() == digest.lower()


class RepositoryReader(Protocol):
    """Module of a repository format."""

    PACKAGE_KIND: str
    """The kernel format of its packages."""

    def packages(
        self, repository: str, names: re.Pattern[str], access: RepositoryAccess
    ) -> tuple[RepositoryPackage, ...]:
        """List the packages whose whole name matches.

        Raises InfraError if the repository is unavailable or untrusted.
        """

    def verify(self, path: Path, package: RepositoryPackage, access: RepositoryAccess) -> None:
        """Check a downloaded package beyond a SHA-256 of the index.

        Raises UntrustedError if its digest or signature is not valid.
        """

    def outdated(self, repository: str, access: RepositoryAccess) -> None:
        """Mark a repository's index as outdated."""

    def order(self, version: str) -> Any:
        """Return the sort key of a version."""


def package_codec() -> Codec[tuple[RepositoryPackage, ...]]:
    """Return the codec of a list of packages."""
    adapter = TypeAdapter(tuple[RepositoryPackage, ...])
    return Codec(adapter.validate_json, adapter.dump_json)


def fetch_list(repository: str, fetch: Callable[[], Path]) -> Path:
    """Fetch an index's list. Raises StaleMirror if the server lacks it."""
    try:
        return fetch()
    except (NotFound, UntrustedError) as error:
        raise StaleMirror(
            f"the mirror is being updated: {repository} does not match its index ({error.message})",
            "Try again in an hour, or name another mirror in a catalogue of your own: docs/kernels.md.",
        ) from error
