"""Client of a registry's repository: manifests and blobs.

It implements the OCI distribution protocol (Docker's version 2). The clients on PyPI, oras and python-dxf, neither
resume broken blobs nor check all digests and sizes. So this is a small client on top of the downloader of packages.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import httpx

from bootmatrix.errors import BuildError, NetworkError, UntrustedError
from bootmatrix.progress import Observer
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.download import Downloader, DownloadRequest, Manner, Reply
from bootmatrix.source.images.artifacts import IMAGE_TYPES
from bootmatrix.source.images.blobs import JSON_LIMIT_BYTES, BlobLocation, Descriptor
from bootmatrix.source.images.client import open_client
from bootmatrix.source.images.credentials import config_file, find_credentials
from bootmatrix.source.images.endpoint import Endpoint
from bootmatrix.source.images.pull import check_unambiguous
from bootmatrix.source.replies import Refused
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store

T = TypeVar("T")
AT_ONCE = 4
_VENDOR = "application/vnd."
_HINT = "Check the network and the registry's name, then run again: downloads resume."


@dataclass(frozen=True)
class RequestPolicy:
    """Permission to send requests, and pauses before retries if not the default."""

    offline: bool
    pauses_s: tuple[float, ...] | None = None


class Repository:
    """A repository of a registry or a mirror. Thread-safe, blocking."""

    def __init__(
        self, endpoint: Endpoint, repository: str, store: Store, progress: Observer, policy: RequestPolicy
    ) -> None:
        self._endpoint, self._repository = endpoint, repository
        self._store, settings = store, Settings(offline=policy.offline)
        self._downloader = Downloader(store, progress, settings, Manner(self._client, _HINT, policy.pauses_s))

    def close(self) -> None:
        """Stop running downloads. Their threads raise Interrupted."""
        self._downloader.close()

    def manifest(self, version: str) -> bytes:
        """Fetch the index or manifest of a tag, or of a digest `sha256:…`.

        Raises NotFound if the image does not exist; NetworkError if the registry does not answer, denies access, or
        answers with something else; UntrustedError if the digest differs, or the answer's media type contradicts the
        document's.
        """
        url = f"{self._endpoint.url}/{self._repository}/manifests/{version}"
        try:
            reply = self._downloader.small(url, JSON_LIMIT_BYTES)
        except Refused as error:
            raise self._refused(error) from error
        assert reply  # there was no condition
        body = reply.body
        if version.startswith("sha256:"):
            digest = hashlib.sha256(body).hexdigest()
            if version != f"sha256:{digest}":
                raise UntrustedError(f"SHA-256 mismatch of {url}: got {digest}")
        _check_media_type(url, reply)
        return body

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        """Fetch blobs into the store, several at once.

        Raises NetworkError if the registry does not answer, denies access, or lacks a blob; UntrustedError if size or
        digest of one differs.
        """
        if len(parts) < 2:
            return [self._fetch(part) for part in parts]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._fetch, parts))

    def _fetch(self, part: Descriptor) -> BlobLocation:
        if part.media_type in IMAGE_TYPES:
            return self._document(part)
        url = f"{self._endpoint.url}/{self._repository}/blobs/sha256:{part.sha256}"
        label = f"{self._repository} {part.sha256[:12]}"
        try:
            path = self._downloader.file(DownloadRequest(url, part.sha256, part.size_bytes, label))
        except Refused as error:
            raise self._refused(error) from error
        return BlobLocation(path, 0, path.stat().st_size)

    def _document(self, part: Descriptor) -> BlobLocation:
        if not self._store.is_sound(part.sha256):
            self._store.add_bytes(self.manifest(f"sha256:{part.sha256}"))
        path = self._store.verified(part.sha256)
        return BlobLocation(path, 0, path.stat().st_size)

    def _refused(self, error: Refused) -> NetworkError:
        """Return the error for denied access."""
        name, file = self._endpoint.name, config_file()
        if find_credentials(name, config_file()):
            reason = f"the credentials for {name} in {file} were rejected"
            hint = f"Log in with an account that has access: `docker login {name}`."
        else:
            reason = f"no credentials for {name} in {file}"
            hint = f"Check the name. For a private image, log in: `docker login {name}`."
        return NetworkError(f"{error.message}; {reason}", hint)

    def _client(self, _url: str) -> httpx.Client:
        return open_client(self._endpoint, self._repository)


def _check_media_type(url: str, reply: Reply) -> None:
    """Check the media type of a manifest's answer against the document's.

    Clients that believe the header would take another image. Servers of plain files send a general type, or none.

    Raises NetworkError if it is a page, such as a log-in page; UntrustedError if they contradict each other.
    """
    header = reply.media_type.partition(";")[0].strip().lower()
    if header in {"text/html", "application/xhtml+xml"}:
        raise NetworkError(f"{RedactedUrl(url)}: the server answered with a page ({header}), not a manifest", _HINT)
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):  # reported by its parser
        return
    if not isinstance(document, dict):
        return
    media_type = document.get("mediaType")
    if isinstance(media_type, str) and header.startswith(_VENDOR) and media_type.lower() != header:
        raise UntrustedError(
            f"{RedactedUrl(url)}: the registry sends it as {header[:100]}, but it says {media_type[:100]}",
            "Push the image again, or use another registry or mirror.",
        )
    with suppress(BuildError):  # a document that contradicts itself is reported by its parser
        check_unambiguous(document, url)
        try:
            check_unambiguous(document, f"the manifest at {RedactedUrl(url)}", header)
        except BuildError as error:
            raise UntrustedError(error.message, error.hint) from error


class Mirrored:
    """A repository on several servers, which are tried in order."""

    def __init__(self, repositories: Sequence[Repository], progress: Observer) -> None:
        self._repositories, self._progress = tuple(repositories), progress

    def close(self) -> None:
        for repository in self._repositories:
            repository.close()

    def manifest(self, version: str) -> bytes:
        return self._first(lambda repository: repository.manifest(version))

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        return self._first(lambda repository: repository.fetch(parts))

    def _first(self, request: Callable[[Repository], T]) -> T:
        for repository in self._repositories[:-1]:
            try:
                return request(repository)
            except (NetworkError, UntrustedError) as error:
                self._progress.note(f"skipped a mirror: {error.message}")
        return request(self._repositories[-1])
