"""Images from any source, whole in the store."""

from bootmatrix.model import ImageSource, StoredImage
from bootmatrix.progress import Observer
from bootmatrix.source import image_sources
from bootmatrix.source.image_sources.docker_daemon import saved_image
from bootmatrix.source.images.blobs import Blobs
from bootmatrix.source.images.engine import Build
from bootmatrix.source.images.pull import exposed_ports, platform_fault
from bootmatrix.source.images.registry_access import Access, RegistryAccess
from bootmatrix.source.images.services import Services
from bootmatrix.source.lock_recorder import Used
from bootmatrix.store import Store


class Images:
    """Thread-safe, blocking. A tag is resolved once."""

    def __init__(self, store: Store, progress: Observer, used: Used, access: Access | None = None) -> None:
        self._services = Services(store, RegistryAccess(store, progress, used, access or Access()))

    def close(self) -> None:
        """Stop running downloads. Their threads raise Interrupted."""
        self._services.registries.close()

    def image(self, source: ImageSource, platform: str) -> StoredImage:
        """Return an image for a platform.

        Raises BuildError if the platform is missing, or the image is damaged; InputError if the reference is invalid;
        InfraError if the image is unavailable.
        """
        return image_sources.load(source.kind).image(source, platform, self._services)

    def built(self, build: Build, platform: str) -> StoredImage:
        """Build a folder with a Dockerfile by the Docker engine.

        Raises BuildError if a step fails, InfraError if the engine does not answer.
        """
        identity = self._services.engine.build(build, platform)
        return saved_image(str(build.folder), identity, platform, self._services)

    def platform_fault(self, source: ImageSource, platform: str) -> str:
        """Return why an image lacks a platform, before it is fetched.

        Empty if it has the platform, or if only its source knows.

        Raises BuildError if the image is damaged, InfraError if the image is unavailable.
        """
        own = None if source.is_made_here else getattr(image_sources.load(source.kind), "platform_fault", None)
        if own:
            return str(own(source, platform, self._services))
        opened = self.opened(source)
        return platform_fault(source.path or source.name, *opened, platform) if opened else ""

    def exposed_ports(self, source: ImageSource, platform: str) -> tuple[int, ...]:
        """Return the TCP ports that an image exposes, as far as its source knows.

        Raises BuildError if the platform is missing, or the image is damaged; InfraError if the image is unavailable.
        """
        own = None if source.is_made_here else getattr(image_sources.load(source.kind), "exposed_ports", None)
        if own:
            return tuple(own(source, self._services))
        opened = self.opened(source)
        return exposed_ports(source.path or source.name, *opened, platform) if opened else ()

    def opened(self, source: ImageSource) -> tuple[bytes, Blobs] | None:
        """Return an image's index or manifest, and its blobs, to copy it as it is.

        None if the source keeps no such documents.

        Raises BuildError if the image is damaged, InfraError if the image is unavailable.
        """
        if source.is_made_here:
            return None
        document = getattr(image_sources.load(source.kind), "document", None)
        return document(source, self._services) if document else None
