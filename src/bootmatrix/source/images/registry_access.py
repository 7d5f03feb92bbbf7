"""Access to the images of registries: digests of tags, documents of digests, and repositories."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.errors import BuildError, NetworkError, Offline, UntrustedError
from bootmatrix.model import Lock, Registry
from bootmatrix.progress import Observer
from bootmatrix.source.download import NotFound
from bootmatrix.source.images.reference import Reference
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store

if TYPE_CHECKING:
    from bootmatrix.source.images.registry import Mirrored

_LOCK_HINT = "Make the lock anew with `bootmatrix lock`."


@dataclass(frozen=True)
class Access:
    """How far images may be had: `folder` is that of the registries' settings; `lock` confines to its images if it is
    whole, and has them preferred if not."""

    registries: Mapping[str, Registry] = field(default_factory=dict)
    folder: Path = Path()
    offline: bool = False
    lock: Lock | None = None
    lock_is_whole: bool = True


class RegistryAccess:
    """Thread-safe, blocking. A tag is asked for once: for as long as this lives, it means the same image."""

    def __init__(self, store: Store, progress: Observer, used: Used, access: Access) -> None:
        self._store, self._progress, self._used, self._access = store, progress, used, access
        self._guard = threading.Lock()
        self._guards: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._digests: dict[str, str] = {}
        self._repositories: dict[tuple[str, str], Mirrored] = {}

    def close(self) -> None:
        """End downloads that are under way; their threads raise Interrupted."""
        with self._guard:
            repositories = list(self._repositories.values())
        for one in repositories:
            one.close()

    def digest(self, reference: Reference) -> str:
        """The digest of an image, which is noted as used: its own, the lock's, or what its tag means now."""
        key = str(reference)
        if reference.digest:
            return reference.digest
        with self._guard:
            guard = self._guards[key]
        with guard:
            digest = self._digests.get(key) or self._locked(key) or self._asked(reference)
            self._digests[key] = digest
        self._used.add_image(key, digest)
        return digest

    def _locked(self, key: str) -> str | None:
        lock = self._access.lock
        if lock and key not in lock.images and self._access.lock_is_whole:
            raise BuildError(f"the lock has no image {key}", _LOCK_HINT)
        return lock.images.get(key) if lock else None

    def _asked(self, reference: Reference) -> str:
        key = str(reference)
        if self._access.offline:
            known = self._store.memo("tag", key)
            if known is None:
                raise Offline(
                    f"not in the cache, and downloads are forbidden: {key}",
                    "Fill the cache with `bootmatrix fetch` while there is a network, or leave out --offline.",
                )
            return known.decode()
        try:
            document = self.repository(reference).manifest(reference.version)
        except NotFound as error:
            raise BuildError(f"the registry {reference.registry} has no image {key}") from error
        except NetworkError as error:
            raise type(error)(f"the image {key}: {error.message}", error.hint) from error
        digest = f"sha256:{self._store.add_bytes(document)}"
        self._store.set_memo("tag", key, digest.encode())
        return digest

    def document(self, reference: Reference, digest: str) -> bytes:
        """The index or the manifest of a digest."""
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
        message = f"the registry {reference.registry} does not have {reference} as {digest} any more"
        return NetworkError(message, _LOCK_HINT if self._access.lock else "Try again.")

    def repository(self, reference: Reference) -> Mirrored:
        """The repository of an image, with its mirrors; it is opened once."""
        # What speaks with registries takes long to load, and most builds find all in the cache.
        from bootmatrix.source.images.endpoint import endpoints_of
        from bootmatrix.source.images.registry import open_repository

        key = (reference.registry, reference.repository)
        with self._guard:
            if key not in self._repositories:
                access = self._access
                endpoints = endpoints_of(reference.registry, access.registries, access.folder)
                self._repositories[key] = open_repository(
                    endpoints, reference.repository, self._store, self._progress, offline=access.offline
                )
            return self._repositories[key]
