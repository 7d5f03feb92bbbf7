"""Images of registries: `docker://[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]`."""

from pathlib import Path

from bootmatrix.model import ImageSource, StoredImage
from bootmatrix.source.images.blobs import Blobs
from bootmatrix.source.images.pull import import_image
from bootmatrix.source.images.reference import parse_reference
from bootmatrix.source.images.services import Services

PREFIX = "docker://"
IS_PATH = False


def parse(text: str, folder: Path) -> ImageSource:  # noqa: ARG001  (protocol)
    """Parse a name into its full form: `redis` is `docker.io/library/redis:latest`."""
    return ImageSource(kind="docker", prefix=PREFIX, name=str(parse_reference(text)))


def image(source: ImageSource, platform: str, services: Services) -> StoredImage:
    """Return the image from the store, a mirror or the registry."""
    reference = parse_reference(source.name)
    digest = services.registries.digest(reference)

    def make() -> StoredImage:
        document = services.registries.document(reference, digest)
        repository = services.registries.repository(reference)
        return import_image(str(reference), document, repository, platform, services.store)

    return services.once(str(reference), ["registry", digest, platform], make)


def document(source: ImageSource, services: Services) -> tuple[bytes, Blobs]:
    """Return the index or manifest, and the repository with its blobs."""
    reference = parse_reference(source.name)
    digest = services.registries.digest(reference)
    return services.registries.document(reference, digest), services.registries.repository(reference)


def digest(source: ImageSource) -> str:  # noqa: ARG001  (protocol)
    """Return "": the lock has the digest."""
    return ""


def pinned(source: ImageSource, sha256: str) -> ImageSource:
    """Return the image of this digest, as a tag may move."""
    return source.model_copy(update={"name": f"{source.name.partition('@')[0]}@sha256:{sha256}"})
