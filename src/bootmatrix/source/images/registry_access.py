"""Access to registries: digests of tags, documents, repositories."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.errors import BuildError, NetworkError, Offline, UntrustedError
from bootmatrix.model import Lock, Registry
from bootmatrix.progress import Observer
from bootmatrix.source.images.reference import Reference
from bootmatrix.source.lock_recorder import Used
from bootmatrix.source.replies import NotFound
from bootmatrix.store import Store

if TYPE_CHECKING:
    from bootmatrix.source.images.registry import Mirrored

_LOCK_HINT = "Renew the lock with `bootmatrix lock`."


@dataclass(frozen=True)
class Access:
    """Settings of the access to registries.

    Paths in `registries` are relative to `folder`. `lock` confines the access to its images; if it is not whole, they
    are only preferred.
    """

    registries: Mapping[str, Registry] = field(default_factory=dict)
    folder: Path = Path()
    offline: bool = False
    lock: Lock | None = None
    lock_is_whole: bool = True


class RegistryAccess:
    """Digests, documents and repositories of registries' images.

    Thread-safe and blocking. A tag is resolved once, so that it means the same image throughout.
    """

    def __init__(self, store: Store, progress: Observer, used: Used, access: Access) -> None:
        self._store, self._progress, self._used, self._access = store, progress, used, access
        self._guard = threading.Lock()
        self._guards: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._digests: dict[str, str] = {}
        self._repositories: dict[tuple[str, str], Mirrored] = {}

    def close(self) -> None:
        """Stop running downloads. Their threads raise Interrupted."""
        with self._guard:
            repositories = list(self._repositories.values())
        for repository in repositories:
            repository.close()

    def digest(self, reference: Reference) -> str:
        """Resolve an image to its digest, and record it as used.

        It is the digest of the reference, of the lock, or of the tag in the registry.
        """
        key = str(reference)
        if reference.digest:
            return reference.digest
        with self._guard:
            guard = self._guards[key]
        with guard:
            digest = self._digests.get(key) or self._locked(key) or self._resolve(reference)
            self._digests[key] = digest
        self._used.add_image(key, digest)
        return digest

    def _locked(self, key: str) -> str | None:
        lock = self._access.lock
        if lock and key not in lock.images and self._access.lock_is_whole:
            raise BuildError(f"the lock lacks the image {key}", _LOCK_HINT)
        return lock.images.get(key) if lock else None

    def _resolve(self, reference: Reference) -> str:
        key = str(reference)
        if self._access.offline:
            record = self._store.memo("tag", self._tag_key(reference))
            if record is None:
                raise Offline(
                    f"not in the cache, and downloads are forbidden: {key}",
                    "Fill the cache with `bootmatrix fetch` while online, or omit --offline.",
                )
            return record.decode()
        try:
            document = self.repository(reference).manifest(reference.version)
        except NotFound as error:
            raise BuildError(f"the registry {reference.registry} has no image {key}") from error
        except NetworkError as error:
            raise type(error)(f"the image {key}: {error.message}", error.hint) from error
        digest = f"sha256:{self._store.add_bytes(document)}"
        self._store.set_memo("tag", self._tag_key(reference), digest.encode())
        return digest

    def _tag_key(self, reference: Reference) -> str:
        """Return the tag's key in the cache, which a folder's settings may change."""
        settings = self._access.registries.get(reference.registry)
        folder = self._access.folder.resolve()
        return f"{reference} {folder} {settings.model_dump_json()}" if settings else str(reference)

    def document(self, reference: Reference, digest: str) -> bytes:
        """Return the index or manifest of a digest."""
        sha256 = digest.removeprefix("sha256:")
        if self._store.has(sha256):
            try:
                return self._store.verified(sha256).read_bytes()
            except UntrustedError as error:
                self._progress.note(error.message)
        try:
            document = self.repository(reference).manifest(digest)
        except NotFound as error:
            raise self._gone(reference, digest) from error
        self._store.add_bytes(document)
        return document

    def _gone(self, reference: Reference, digest: str) -> NetworkError | BuildError:
        if reference.digest:
            return BuildError(f"the registry {reference.registry} has no image {reference}")
        message = f"the registry {reference.registry} no longer has {reference} as {digest}"
        return NetworkError(message, _LOCK_HINT if self._access.lock else "Try again.")

    def repository(self, reference: Reference) -> Mirrored:
        """Return the repository of an image with its mirrors. It is opened once."""
        # Slow imports, and most builds need no registry.
        from bootmatrix.source.images import endpoint, registry

        key = (reference.registry, reference.repository)
        with self._guard:
            if key not in self._repositories:
                access = self._access
                endpoints = endpoint.endpoints_of(reference.registry, access.registries, access.folder)
                last = registry.RequestPolicy(access.offline)
                mirrors = replace(last, pauses_s=())  # no retries of a mirror
                policies = (*(mirrors for _ in endpoints[1:]), last)
                repositories = [
                    registry.Repository(place, reference.repository, self._store, self._progress, policy)
                    for place, policy in zip(endpoints, policies, strict=True)
                ]
                self._repositories[key] = registry.Mirrored(repositories, self._progress)
            return self._repositories[key]
