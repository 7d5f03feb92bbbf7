"""Images from any source, each whole in the store: what is there already is asked of nobody."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.errors import BuildError, InputError, NetworkError, Offline, UntrustedError
from bootmatrix.model import ImageConfig, ImageSource, Lock, Registry, StoredImage
from bootmatrix.progress import Observer
from bootmatrix.source.download import NotFound
from bootmatrix.source.images.blobs import BlobLocation, Blobs, Descriptor
from bootmatrix.source.images.engine import Build, Engine
from bootmatrix.source.images.layers import unpack_layer
from bootmatrix.source.images.layout import open_layout, plain_archive
from bootmatrix.source.images.pull import import_image
from bootmatrix.source.images.reference import Reference, parse_reference
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store, model_codec

if TYPE_CHECKING:
    from bootmatrix.source.images.registry import Mirrored

_FORMAT = 1
"""Changes whenever the same image would become another one in the store."""
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


class Images:
    """Thread-safe, blocking. A tag is asked for once: for as long as this lives, it means the same image."""

    def __init__(self, store: Store, progress: Observer, used: Used, access: Access = Access()) -> None:
        self._store, self._progress, self._used, self._access = store, progress, used, access
        self._engine = Engine()
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

    def image(self, source: ImageSource, platform: str) -> StoredImage:
        """An image for a platform.

        Raises:
            BuildError: there is none for it, or it is damaged.
            InputError: it names what cannot be.
            InfraError: it cannot be had.
        """
        if source.kind == "docker":
            return self._of_registry(parse_reference(source.name), platform)
        if source.kind == "docker-daemon":
            return self._of_engine(source.name, self._engine.find(source.name, platform), platform)
        path = Path(source.path)
        if source.kind == "tar":
            return self._of_root(path)
        return self._of_layout(path, source.name, platform)

    def built(self, build: Build, platform: str) -> StoredImage:
        """What a folder with a Dockerfile becomes, built by the Docker engine.

        Raises:
            BuildError: a step fails.
            InfraError: the engine does not answer.
        """
        return self._of_engine(str(build.folder), self._engine.build(build, platform), platform)

    def opened(self, source: ImageSource) -> tuple[bytes, Blobs]:
        """The index or manifest of an image, and where its parts are: for whoever copies an image as it is.

        Raises:
            BuildError: the source keeps no such thing.
            InfraError: it cannot be had.
        """
        if source.kind == "docker":
            reference = parse_reference(source.name)
            digest = self._pinned(reference)
            return self._document(reference, digest), self._repository(reference)
        if source.kind in {"oci", "oci-archive", "docker-archive"}:
            layout = open_layout(plain_archive(Path(source.path), self._store), Path(source.path))
            return layout.document(source.name), layout
        raise BuildError(f"{source} has no index and no manifest that could be copied")

    def _of_registry(self, reference: Reference, platform: str) -> StoredImage:
        digest = self._pinned(reference)

        def make() -> StoredImage:
            document = self._document(reference, digest)
            return import_image(str(reference), document, self._repository(reference), platform, self._store)

        return self._once(["registry", digest, platform], make).model_copy(update={"reference": str(reference)})

    def _of_layout(self, path: Path, name: str, platform: str) -> StoredImage:
        layout = open_layout(plain_archive(path, self._store), path)
        document = layout.document(name)

        def make() -> StoredImage:
            return import_image(str(path), document, layout, platform, self._store)

        # All that is read of the layout follows from the document, by digests: what changes meanwhile is refused.
        digest = hashlib.sha256(document).hexdigest()
        return self._once(["document", digest, platform], make).model_copy(update={"reference": str(path)})

    def _of_engine(self, name: str, identity: str, platform: str) -> StoredImage:
        def make() -> StoredImage:
            layout = open_layout(self._store.verified(self._engine.save(identity, self._store)))
            return import_image(name, layout.document(""), layout, platform, self._store)

        return self._once(["engine", identity, platform], make)

    def _of_root(self, path: Path) -> StoredImage:
        """A tar archive of a root as an image of one layer."""
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error

        def make() -> StoredImage:
            layer, bytes_ = unpack_layer(Descriptor(digest, size), BlobLocation(path, 0, size), None, self._store)
            config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]}}).encode()
            described = {"digest": f"sha256:{self._store.add_bytes(config)}", "size": len(config)}
            layers = [{"digest": f"sha256:{layer}", "size": bytes_}]
            manifest = json.dumps({"schemaVersion": 2, "config": described, "layers": layers}).encode()
            return StoredImage(
                reference=str(path),
                digest=self._store.add_bytes(manifest),
                layers=(layer,),
                config=ImageConfig(),
                size_bytes=bytes_,
            )

        return self._once(["tar", digest], make)

    def _once(self, key: list[str], make: Callable[[], StoredImage]) -> StoredImage:
        """An image made once and kept."""
        return cached_image("pulled", json.dumps([_FORMAT, *key]), make, self._store)

    def _pinned(self, reference: Reference) -> str:
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
            document = self._repository(reference).manifest(reference.version)
        except NotFound as error:
            raise BuildError(f"the registry {reference.registry} has no image {key}") from error
        except NetworkError as error:
            raise type(error)(f"the image {key}: {error.message}", error.hint) from error
        digest = f"sha256:{self._store.add_bytes(document)}"
        self._store.set_memo("tag", key, digest.encode())
        return digest

    def _document(self, reference: Reference, digest: str) -> bytes:
        """The index or the manifest of a digest."""
        sha256 = digest.removeprefix("sha256:")
        if self._store.has(sha256):
            try:
                return self._store.verified(sha256).read_bytes()
            except UntrustedError as error:
                self._progress.note(error.message)
        try:
            document = self._repository(reference).manifest(digest)
        except NotFound as error:
            raise self._gone(reference, digest) from error
        self._store.add_bytes(document)
        return document

    def _gone(self, reference: Reference, digest: str) -> NetworkError | BuildError:
        if reference.digest:
            return BuildError(f"the registry {reference.registry} has no image {reference}")
        message = f"the registry {reference.registry} does not have {reference} as {digest} any more"
        return NetworkError(message, _LOCK_HINT if self._access.lock else "Try again.")

    def _repository(self, reference: Reference) -> Mirrored:
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


def cached_image(kind: str, key: str, make: Callable[[], StoredImage], store: Store) -> StoredImage:
    """Load the image that is kept under a kind and key, or make and keep it."""
    return store.cached(
        kind,
        key,
        make,
        model_codec(StoredImage),
        lambda image: is_whole(image, store),
    )


def is_whole(image: StoredImage, store: Store) -> bool:
    """Whether the store has all of an image; the contents of layers are not looked at."""
    if not all(map(store.has, (image.digest, *image.layers))):
        return False
    try:
        manifest = json.loads(store.verified(image.digest).read_bytes())
    except UntrustedError:
        return False
    return store.has(manifest["config"]["digest"].removeprefix("sha256:"))
