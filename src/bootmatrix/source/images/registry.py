"""A registry by the OCI distribution protocol, version 2 of Docker's: manifests and blobs of one repository.

The clients on PyPI that were looked at (oras, python-dxf) neither go on with a blob where a connection broke off nor
check digests and sizes of all that they get, so this is a small one upon the downloads that packages come by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from bootmatrix.errors import NetworkError, UntrustedError
from bootmatrix.progress import Observer
from bootmatrix.source.connection import Guard, GuardedTransport
from bootmatrix.source.download import Downloader, DownloadRequest, Manner, Refused, new_client
from bootmatrix.source.images.artifacts import IMAGE_TYPES
from bootmatrix.source.images.auth import Authorization
from bootmatrix.source.images.blobs import JSON_LIMIT_BYTES, BlobLocation, Descriptor
from bootmatrix.source.images.credentials import Credentials, config_file, find_credentials
from bootmatrix.source.images.endpoint import Endpoint
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store

AT_ONCE = 4
_HINT = "Check the network and the registry's name, then run again: downloads go on where they stopped."


@dataclass(frozen=True)
class Tries:
    """Whether anything may be asked, and the pauses before it is asked again, if not the usual ones."""

    offline: bool
    pauses_s: tuple[float, ...] | None = None


class Repository:
    """A repository of a registry or of a mirror. Thread-safe, blocking."""

    def __init__(self, endpoint: Endpoint, repository: str, store: Store, progress: Observer, access: Tries) -> None:
        self._endpoint, self._repository = endpoint, repository
        settings = Settings(offline=access.offline)
        self._downloader = Downloader(store, progress, settings, Manner(self._client, _HINT, access.pauses_s))

    def close(self) -> None:
        """End downloads that are under way; their threads raise Interrupted."""
        self._downloader.close()

    def manifest(self, version: str) -> bytes:
        """The index or the manifest of a tag, or of a digest `sha256:…`.

        Raises:
            NotFound: there is no such image.
            NetworkError: the registry does not answer, or refuses.
            UntrustedError: what came has another digest.
        """
        url = f"{self._endpoint.url}/{self._repository}/manifests/{version}"
        try:
            reply = self._downloader.small(url, JSON_LIMIT_BYTES)
        except Refused as error:
            raise self._refused(error) from error
        body = reply.body if reply else b""
        if version.startswith("sha256:"):
            found = hashlib.sha256(body).hexdigest()
            if version != f"sha256:{found}":
                raise UntrustedError(f"{url}: this has the SHA-256 {found}")
        return body

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        """Parts of images, in the store; several at once.

        Raises:
            NetworkError: the registry does not answer, or refuses, or has one not.
            UntrustedError: one has another size or digest.
        """
        if len(parts) < 2:
            return [self._fetch(part) for part in parts]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._fetch, parts))

    def _fetch(self, part: Descriptor) -> BlobLocation:
        kind = "manifests" if part.media_type in IMAGE_TYPES else "blobs"
        url = f"{self._endpoint.url}/{self._repository}/{kind}/sha256:{part.sha256}"
        label = f"{self._repository} {part.sha256[:12]}"
        try:
            path = self._downloader.file(DownloadRequest(url, part.sha256, part.size_bytes, label))
        except Refused as error:
            raise self._refused(error) from error
        return BlobLocation(path, 0, path.stat().st_size)

    def _refused(self, error: Refused) -> NetworkError:
        """What to say of an answer that is no image."""
        name, file = self._endpoint.name, config_file()
        if self._credentials():
            tried = f"the credentials for {name} in {file} were tried"
            hint = f"Log in again, `docker login {name}`, with an account that may read it."
        else:
            tried = f"there are no credentials for {name} in {file}"
            hint = f"Is the name right? If the image is not public, log in: `docker login {name}`."
        return NetworkError(f"{error.message}; {tried}", hint)

    def _credentials(self) -> Credentials | None:
        return find_credentials(self._endpoint.name, config_file())

    def _client(self, _url: str) -> httpx.Client:
        endpoint = self._endpoint
        guard = Guard(httpx.URL(endpoint.url), endpoint.realms, endpoint.only_here)
        own = endpoint.tls()
        others = endpoint.tls(with_custom_kernels=False) if endpoint.client_certificate else own
        tokens = new_client(GuardedTransport(guard, None, own, is_led=False))
        return new_client(
            GuardedTransport(guard, None, own, others),
            headers={"Accept": ", ".join((*IMAGE_TYPES, "*/*"))},
            auth=Authorization(self._endpoint, self._repository, self._credentials, lambda: tokens),
            event_hooks={"request": [self._check_redirect]},
        )

    def _check_redirect(self, request: httpx.Request) -> None:
        """Refuse to be led from TLS to plain HTTP; to which addresses a registry may lead, its guard says."""
        if self._endpoint.scheme == "https" and request.url.scheme != "https":
            place = f"{request.url.scheme}://{request.url.host}"
            raise UntrustedError(f"the registry {self._endpoint.name} leads to {place}, which is not followed")


class Mirrored:
    """A repository that several servers have: what one cannot give, the next one is asked for."""

    def __init__(self, repositories: Sequence[Repository], progress: Observer) -> None:
        self._repositories, self._progress = tuple(repositories), progress

    def close(self) -> None:
        """As for a repository."""
        for one in self._repositories:
            one.close()

    def manifest(self, version: str) -> bytes:
        """As for a repository."""
        for one in self._repositories[:-1]:
            try:
                return one.manifest(version)
            except (NetworkError, UntrustedError) as error:
                self._progress.note(f"a mirror is passed over: {error.message}")
        return self._repositories[-1].manifest(version)

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        """As for a repository."""
        for one in self._repositories[:-1]:
            try:
                return one.fetch(parts)
            except (NetworkError, UntrustedError) as error:
                self._progress.note(f"a mirror is passed over: {error.message}")
        return self._repositories[-1].fetch(parts)


def open_repository(
    endpoints: Sequence[Endpoint], repository: str, store: Store, progress: Observer, *, offline: bool
) -> Mirrored:
    """A repository; nothing is asked of it yet."""
    mirrors, own = Tries(offline, ()), Tries(offline)  # a mirror that does not answer is passed over at once
    found = [Repository(one, repository, store, progress, mirrors) for one in endpoints[:-1]]
    return Mirrored([*found, Repository(endpoints[-1], repository, store, progress, own)], progress)
