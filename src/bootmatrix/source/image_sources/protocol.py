"""The protocol of image sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bootmatrix.model import ImageSource, StoredImage

if TYPE_CHECKING:
    from bootmatrix.source.images.services import Services


class ImageSourceType(Protocol):
    """Module or object of an image source.

    A reference begins with `PREFIX`: the plug-in's name, a colon, and optional slashes. If `IS_PATH`, a path follows,
    relative to the folder of the file with the reference. Otherwise an image's name follows; a bare prefix in
    `--image` keeps the image's own name.

    A source may have more functions:

    - `document(source, services) -> tuple[bytes, Blobs]`: the index or manifest of an image and its blobs, for volumes
      that hold an image as it is;
    - `platform_fault(source, platform, services) -> str`: why an image is not for an OCI platform, for sources without
      `document`; empty if it is. Such an architecture is skipped by `try`;
    - `exposed_ports(source, services) -> tuple[int, ...]`: the TCP ports that an image exposes, for sources without
      `document`. `try --http` asks the only one;
    - `pinned(source, sha256) -> ImageSource`: the image of this digest, even if its tag has moved.
    """

    PREFIX: str
    IS_PATH: bool

    def parse(self, text: str, folder: Path) -> ImageSource:
        """Parse a reference without its prefix. The result's kind is the plug-in's name.

        Raises InputError if it is invalid, or a file is missing.
        """

    def image(self, source: ImageSource, platform: str, services: Services) -> StoredImage:
        """Return the image for an OCI platform, whole in the store.

        Raises BuildError if the platform is missing, or the image is damaged; InfraError if the image is unavailable.
        """

    def digest(self, source: ImageSource) -> str:
        """Return a digest that changes with the image; "" if only its server knows.

        Raises InputError if a file cannot be read.
        """
