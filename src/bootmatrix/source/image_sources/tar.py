"""Tar archives of a root file system: `tar:FILE`."""

import hashlib
import json
from pathlib import Path

from bootmatrix.errors import readable
from bootmatrix.model import ImageConfig, ImageSource, StoredImage
from bootmatrix.source.image_sources.paths import check_is_file, parse_path
from bootmatrix.source.images.blobs import BlobLocation, Descriptor
from bootmatrix.source.images.layers import unpack_layer
from bootmatrix.source.images.layout import digest_of_layout
from bootmatrix.source.images.services import Services
from bootmatrix.store import Store

PREFIX = "tar:"
IS_PATH = True


def parse(text: str, folder: Path) -> ImageSource:
    """Parse a reference to an existing file."""
    return check_is_file(parse_path(text, folder, "tar", named=False))


def image(source: ImageSource, platform: str, services: Services) -> StoredImage:  # noqa: ARG001  (protocol)
    """Return the archive as the only layer of an image."""
    path = Path(source.path)
    with readable(path):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
    location = BlobLocation(path, 0, size)
    return services.once(str(path), ["tar", digest], lambda: _make(location, digest, services.store))


def _make(location: BlobLocation, digest: str, store: Store) -> StoredImage:
    layer, size_bytes = unpack_layer(Descriptor(digest, location.size_bytes), location, None, store)
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]}}).encode()
    described = {"digest": f"sha256:{store.add_bytes(config)}", "size": len(config)}
    layers = [{"digest": f"sha256:{layer}", "size": size_bytes}]
    manifest = json.dumps({"schemaVersion": 2, "config": described, "layers": layers}).encode()
    return StoredImage(
        reference=str(location.path),
        digest=store.add_bytes(manifest),
        layers=(layer,),
        config=ImageConfig(),
        size_bytes=size_bytes,
    )


def digest(source: ImageSource) -> str:
    """Return the digest of the archive."""
    return digest_of_layout(Path(source.path))
