"""Volumes of `format: oci`: an OCI layout of an image, for some platforms or all."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bootmatrix.assembly.image.builder import Builder, make_image
from bootmatrix.assembly.image.manifest import write_layer
from bootmatrix.assembly.slices import Slice
from bootmatrix.assembly.tree import Node, Tree, directory, text_file
from bootmatrix.errors import BuildError, UntrustedError
from bootmatrix.model import ImageConfig, ImageSource, Profile, StoredImage, Volume
from bootmatrix.source.images.blobs import (
    BlobLocation,
    Blobs,
    Descriptor,
    descriptor,
    descriptors,
    parsed,
    read_bytes,
)
from bootmatrix.source.images.layout import REF_NAME
from bootmatrix.source.images.platforms import name_of
from bootmatrix.source.images.pull import IMAGE_LIMIT_BYTES
from bootmatrix.source.safe_archive import FileSlice
from bootmatrix.store import Store

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYOUT = '{"imageLayoutVersion": "1.0.0"}'
MANIFESTS_LIMIT_BYTES = 64 << 20
"""Limit of an index's manifests, which are held in memory; each has some KiB."""
_FORMAT = 1


def layout_key(volume: Volume) -> str:
    """Return the key of a volume's layout, which is not a valid image name."""
    return f"layout of {volume.image} for {','.join(volume.platforms) or 'all'}"


def layout_image(volume: Volume, path: Path, profile: Profile, builder: Builder) -> StoredImage:
    """Build an image whose files are an OCI layout. `path` is the file that names it.

    Raises BuildError if the image does not exist for a platform, or cannot be copied; InfraError if the image cannot be
    fetched.
    """
    source = builder.source(volume.image, path)
    document, blobs = _opened(source, volume, path, profile, builder)
    store, digest = builder.store, hashlib.sha256(document).hexdigest()
    key = json.dumps([_FORMAT, digest, volume.image, volume.platforms])
    layer, size = store.cached_file("layout", key, lambda: write_layer(_layout(volume, document, blobs, store), store))
    return StoredImage(
        reference=volume.image, digest=store.add_bytes(document), layers=(layer,), config=ImageConfig(), size_bytes=size
    )


def _opened(source: ImageSource, volume: Volume, path: Path, profile: Profile, builder: Builder) -> tuple[bytes, Blobs]:
    if opened := builder.sources().opened(source):
        return opened
    image = make_image(volume.image, path, profile, builder)
    return builder.store.verified(image.digest).read_bytes(), _Stored(builder.store)


class _Stored:
    """Parts of locally made images."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        """Return the paths of parts."""
        return [BlobLocation(self._store.verified(part.sha256), 0, part.size_bytes) for part in parts]


def _layout(volume: Volume, document: bytes, blobs: Blobs, store: Store) -> Tree:
    tree = Tree()
    tree.put("oci-layout", text_file(LAYOUT))
    tree.put("blobs/sha256", directory())
    manifests = parsed(document, volume.image)
    announced_bytes = manifests_bytes = 0
    for manifest in _manifests(volume, document, manifests, blobs):
        manifests_bytes += len(manifest)
        if manifests_bytes > MANIFESTS_LIMIT_BYTES:
            raise BuildError(
                f"volume {volume.name}: the manifests of {volume.image} have more than "
                f"{MANIFESTS_LIMIT_BYTES >> 20} MiB in all"
            )
        _put(tree, manifest)
        contents = parsed(manifest, f"the manifest of {volume.image}")
        config = descriptor(contents.get("config"), f"the configuration of {volume.image}")
        parts = [config, *descriptors(contents.get("layers"), volume.image)]
        announced_bytes += sum(part.size_bytes for part in parts)
        if announced_bytes > IMAGE_LIMIT_BYTES:
            raise BuildError(
                f"volume {volume.name}: {volume.image} has more than {IMAGE_LIMIT_BYTES >> 30} GiB in all",
                "List the needed platforms under 'platforms'.",
            )
        for part, place in zip(parts, blobs.fetch(parts), strict=True):
            data = Slice(_taken(part, place, volume, store), 0, part.size_bytes)
            tree.put(f"blobs/sha256/{part.sha256}", Node("file", 0o644, data=data))
    _put(tree, document)
    kind = INDEX_TYPE if "manifests" in manifests else MANIFEST_TYPE
    root = {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(document).hexdigest()}", "size": len(document)}
    index = {"schemaVersion": 2, "manifests": [{**root, "annotations": {REF_NAME: volume.image}}]}
    tree.put("index.json", text_file(json.dumps(index, indent=1)))
    return tree


def _manifests(volume: Volume, document: bytes, platform: dict[str, Any], blobs: Blobs) -> Iterator[bytes]:
    """Return the manifests of the volume's platforms; by default of all."""
    entries = platform.get("manifests")
    if not isinstance(entries, list):
        yield document
        return
    chosen = [entry for entry in entries if not volume.platforms or _is_wanted(entry, volume.platforms)]
    if not chosen:
        raise BuildError(f"volume {volume.name}: {volume.image} has no image for {', '.join(volume.platforms)}")
    for entry in chosen:
        part = descriptor(entry, f"a manifest of {volume.image}")
        yield read_bytes(part, blobs, f"a manifest of {volume.image}")


def _is_wanted(entry: Any, platforms: Sequence[str]) -> bool:
    name = name_of(entry.get("platform") if isinstance(entry, dict) else None)
    return any(name == platform or name.startswith(f"{platform}/") for platform in platforms)


def _put(tree: Tree, data: bytes) -> None:
    tree.put(f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", Node("file", 0o644, data=data))


def _taken(part: Descriptor, place: BlobLocation, volume: Volume, store: Store) -> Path:
    """Return a part in the store, where it cannot change.

    Raises UntrustedError if the part does not match its digest.
    """
    if place.path == store.blob(part.sha256) and place.size_bytes == part.size_bytes:
        return store.verified(part.sha256)
    with place.open() as file, store.writer() as writer:
        writer.take(FileSlice(file, place.offset, place.size_bytes))
        if (writer.sha256, writer.tell()) != (part.sha256, part.size_bytes):
            raise UntrustedError(f"volume {volume.name}: the part {part.sha256} of {volume.image} is another one")
        return store.verified(writer.commit())
