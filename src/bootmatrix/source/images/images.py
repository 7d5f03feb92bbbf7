"""Images from any source, each whole in the store: what is there already is asked of nobody."""

from __future__ import annotations

from bootmatrix.model import ImageSource, StoredImage
from bootmatrix.progress import Observer
from bootmatrix.source import image_sources
from bootmatrix.source.image_sources.docker_daemon import saved_image
from bootmatrix.source.images.blobs import Blobs
from bootmatrix.source.images.engine import Build
from bootmatrix.source.images.registry_access import Access, RegistryAccess
from bootmatrix.source.images.services import Services
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store


class Images:
    """Thread-safe, blocking. A tag is asked for once: for as long as this lives, it means the same image."""

    def __init__(self, store: Store, progress: Observer, used: Used, access: Access | None = None) -> None:
        self._services = Services(store, RegistryAccess(store, progress, used, access or Access()))

    def close(self) -> None:
        """End downloads that are under way; their threads raise Interrupted."""
        self._services.registries.close()

    def image(self, source: ImageSource, platform: str) -> StoredImage:
        """An image for a platform.

        Raises:
            BuildError: there is none for it, or it is damaged.
            InputError: it names what cannot be.
            InfraError: it cannot be had.
        """
        return image_sources.load(source.kind).image(source, platform, self._services)

    def built(self, build: Build, platform: str) -> StoredImage:
        """What a folder with a Dockerfile becomes, built by the Docker engine.

        Raises:
            BuildError: a step fails.
            InfraError: the engine does not answer.
        """
        identity = self._services.engine.build(build, platform)
        return saved_image(str(build.folder), identity, platform, self._services)

    def opened(self, source: ImageSource) -> tuple[bytes, Blobs] | None:
        """The index or manifest of an image, and where its parts are: for whoever copies an image as it is.

        None if the source keeps no such thing.

        Raises:
            BuildError: it is damaged.
            InfraError: it cannot be had.
        """
        if source.is_made_here:
            return None
        document = getattr(image_sources.load(source.kind), "document", None)
        return document(source, self._services) if document else None
