"""Images in files: OCI layouts as folders or archives, and `docker save`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.model import ImageSource, StoredImage
from bootmatrix.source.image_sources.paths import check_is_file, parse_path
from bootmatrix.source.images.blobs import Blobs
from bootmatrix.source.images.layout import Layout, digest_of_layout, open_layout, plain_archive
from bootmatrix.source.images.pull import import_image
from bootmatrix.source.images.services import Services


@dataclass(frozen=True)
class LayoutSource:
    """`KIND:PATH[:NAME]`. An archive may be compressed."""

    kind: str
    is_folder: bool = False
    IS_PATH: bool = True

    @property
    def PREFIX(self) -> str:  # noqa: N802  (the protocol's)
        return f"{self.kind}:"

    def parse(self, text: str, folder: Path) -> ImageSource:
        """Parse a reference to an existing file or folder."""
        source = parse_path(text, folder, self.kind)
        if not self.is_folder:
            return check_is_file(source)
        if not Path(source.path).is_dir():
            hint = "A tar archive of one is oci-archive:FILE."
            raise InputError(f"the image {str(source)!r}: {source.path} is not a folder", hint)
        return source

    def image(self, source: ImageSource, platform: str, services: Services) -> StoredImage:
        """Return the image of the name, or the only one."""
        layout = _open(source, services)
        document = layout.document(source.name)

        def make() -> StoredImage:
            return import_image(source.path, document, layout, platform, services.store)

        # The document determines all that is read of the layout by digests: later changes are refused.
        digest = hashlib.sha256(document).hexdigest()
        return services.once(source.path, ["document", digest, platform], make)

    def document(self, source: ImageSource, services: Services) -> tuple[bytes, Blobs]:
        """The index or manifest, and the layout with its parts."""
        layout = _open(source, services)
        return layout.document(source.name), layout

    def digest(self, source: ImageSource) -> str:
        """Return the digest of the archive, or of the layout's index."""
        return digest_of_layout(Path(source.path))


def _open(source: ImageSource, services: Services) -> Layout:
    path = Path(source.path)
    return open_layout(plain_archive(path, services.store), path)


OCI = LayoutSource("oci", is_folder=True)
OCI_ARCHIVE = LayoutSource("oci-archive")
DOCKER_ARCHIVE = LayoutSource("docker-archive")
