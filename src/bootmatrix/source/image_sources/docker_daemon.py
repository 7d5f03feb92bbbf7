"""Images of a Docker engine, or of podman: `docker-daemon:NAME`."""

import re
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.model import ImageSource, StoredImage
from bootmatrix.source.images.layout import open_layout
from bootmatrix.source.images.pull import import_image
from bootmatrix.source.images.services import Services

PREFIX = "docker-daemon:"
IS_PATH = False
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:@-]{0,400}")


def parse(text: str, folder: Path) -> ImageSource:  # noqa: ARG001  (protocol)
    """Parse a name of the engine."""
    if not _NAME.fullmatch(text):
        raise InputError(f"{(PREFIX + text)[:300]!r} must name an image of the Docker engine, such as {PREFIX}mine:1")
    return ImageSource(kind="docker-daemon", name=text)


def image(source: ImageSource, platform: str, services: Services) -> StoredImage:
    """Return the image, saved by the engine unless the store has the current one."""
    identity = services.engine.find(source.name, platform)
    return saved_image(source.name, identity, platform, services)


def saved_image(name: str, identity: str, platform: str, services: Services) -> StoredImage:
    """Return the image of an engine's id, such as `sha256:…`."""

    def make() -> StoredImage:
        layout = open_layout(services.store.verified(services.engine.save(identity, services.store)))
        return import_image(name, layout.document(""), layout, platform, services.store)

    return services.once(name, ["engine", identity, platform], make)


def platform_fault(source: ImageSource, platform: str, services: Services) -> str:
    """Return why the engine's image is not for a platform."""
    return services.engine.platform_fault(source.name, platform)


def exposed_ports(source: ImageSource, services: Services) -> tuple[int, ...]:
    """Return the TCP ports that the engine's image exposes."""
    return services.engine.exposed_ports(source.name)


def digest(source: ImageSource) -> str:  # noqa: ARG001  (protocol)
    """Return "": a name of the engine may change at any time."""
    return ""
