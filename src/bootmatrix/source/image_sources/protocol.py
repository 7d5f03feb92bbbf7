"""The protocol of image sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bootmatrix.model import ImageSource, StoredImage

if TYPE_CHECKING:
    from bootmatrix.source.images.services import Services


class ImageSourceType(Protocol):
    """A module or an object.

    References begin with `PREFIX`, which is the plug-in's name and a colon, and perhaps slashes. If `IS_PATH`, a path
    follows, which is relative to the folder of the file that names it; if not, the name of an image, and a prefix
    alone, given by `--image`, stands for the image of the same name from there.

    A source may have two functions more:

    - `document(source, services) -> tuple[bytes, Blobs]`: the index or manifest of an image and where its parts are,
      for volumes that hold an image as it is;
    - `pinned(source, sha256) -> ImageSource`: the image of this digest, whatever its tag means by now.
    """

    PREFIX: str
    IS_PATH: bool

    def parse(self, text: str, folder: Path) -> ImageSource:
        """Parse what follows the prefix. The kind of the result is the plug-in's name.

        Raises:
            InputError: it cannot be, or a file is not there.
        """

    def image(self, source: ImageSource, platform: str, services: Services) -> StoredImage:
        """The image for an OCI platform, whole in the store.

        Raises:
            BuildError: there is none for it, or it is damaged.
            InfraError: it cannot be had.
        """

    def digest(self, source: ImageSource) -> str:
        """A digest that differs when another image is there; empty if only who asks elsewhere can tell.

        Raises:
            InputError: a file cannot be read.
        """
