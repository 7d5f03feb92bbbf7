"""From an index or a manifest to an image in the store: the same for every source."""

from __future__ import annotations

import json
from typing import Any

from bootmatrix.errors import BuildError, UntrustedError
from bootmatrix.model import ImageConfig, StoredImage
from bootmatrix.source.images.artifacts import IMAGE_TYPES, is_artifact, is_artifact_entry
from bootmatrix.source.images.blobs import DIGEST, Blobs, Descriptor, descriptor, descriptors, parsed, read_bytes
from bootmatrix.source.images.layers import unpack_layer
from bootmatrix.source.images.platforms import choose, fits, name_of
from bootmatrix.source.safe_archive import FREE_BYTES, MAX_RATIO
from bootmatrix.store import Store

MAX_INDEXES = 4
"""Indexes in an index: one is usual, for several platforms."""
MAX_ARTIFACTS = 16
"""Entries of an index without a platform that turn out to be no images."""
IMAGE_LIMIT_BYTES = 8 << 30
"""Of all layers, unpacked."""
_SHAPES = {("layers", "config"): "image", ("manifests",): "index", ("fsLayers", "history"): "schema 1"}
"""What the keys of a document make of it."""
_MEANINGS = {
    "image.index.": "index",
    "manifest.list.": "index",
    "image.manifest.": "image",
    "distribution.manifest.v2": "image",
    "distribution.manifest.v1": "schema 1",
}
"""What is in a media type of a document."""


def import_image(name: str, document: bytes, blobs: Blobs, platform: str, store: Store) -> StoredImage:
    """The image that an index or a manifest means for a platform, whole in the store.

    Raises:
        BuildError: there is none for the platform, or it is damaged or too large.
        UntrustedError: a part is not what was announced.
        InfraError: a part cannot be had.
    """
    manifest_bytes, manifest = manifest_for(name, document, blobs, platform)
    what = f"the image {name}"
    config_part = descriptor(manifest.get("config"), f"the configuration of {what}")
    config_bytes = read_bytes(config_part, blobs, f"the configuration of {what}")
    config = parsed(config_bytes, f"the configuration of {what}")
    if not fits(config, platform):
        raise BuildError(f"{what} is for {name_of(config)}, and {platform} is needed")
    layers = descriptors(manifest.get("layers"), what)
    unpacked = _unpack(what, layers, _diff_ids(config, len(layers), what), blobs, store)
    store.add_bytes(config_bytes)
    return StoredImage(
        reference=name,
        digest=store.add_bytes(manifest_bytes),
        layers=tuple(digest for digest, _ in unpacked),
        config=image_config(config, what),
        size_bytes=sum(size for _, size in unpacked),
    )


def manifest_for(name: str, document: bytes, blobs: Blobs, platform: str) -> tuple[bytes, dict[str, Any]]:
    """The manifest of a platform's image, as bytes and as what they say.

    Raises:
        BuildError: there is none, or indexes lead to indexes without end.
    """
    announced = ""
    for _ in range(MAX_INDEXES):
        found = parsed(document, f"the manifest of {name}")
        check_unambiguous(found, f"the manifest of {name}", announced)
        if "layers" in found:
            return document, found
        entries = found.get("manifests")
        if not isinstance(entries, list):
            old = "fsLayers" in found or found.get("schemaVersion") == 1
            kind = "of the format of 2014 (schema 1)" if old else "neither an image nor an index of images"
            raise BuildError(f"the manifest of {name} is {kind}", "Push the image again with today's tools.")
        document, announced = _chosen(name, entries, blobs, platform)
    raise BuildError(f"{name}: its indexes lead to indexes, more than {MAX_INDEXES} deep")


def check_unambiguous(found: dict[str, Any], what: str, announced: str = "") -> None:
    """Refuse a document that one reader takes for an image and another one for an index of images.

    `announced` is the media type that whoever leads here says.

    Raises:
        BuildError: it could be both, or its media types contradict each other or what is in it (CVE-2021-41190).
    """
    shapes = [shape for keys, shape in _SHAPES.items() if any(key in found for key in keys)]
    said = found.get("mediaType")
    if len(shapes) > 1 or (said is not None and not isinstance(said, str)):
        raise BuildError(f"{what} could be both an image and an index of images")
    for kind in filter(None, (said, announced)):
        meant = next((shape for word, shape in _MEANINGS.items() if word in kind), "")
        if meant and shapes and meant not in shapes:
            raise BuildError(f"{what} is said to be of the type {kind[:100]}, and what is in it is not")
    if said and announced in IMAGE_TYPES and said in IMAGE_TYPES and said != announced:
        raise BuildError(f"{what} is said to be of the type {announced}, and says itself that it is {said}")


def _chosen(name: str, entries: list[Any], blobs: Blobs, platform: str) -> tuple[bytes, str]:
    """The document of the entry that suits a platform best, and the media type that the entry says."""
    images = [one for one in entries if isinstance(one, dict) and not is_artifact_entry(one)]
    for _ in range(MAX_ARTIFACTS):
        entry = choose(images, platform)
        if entry is None:
            break
        part = descriptor(entry, f"the image of {name} for {platform}")
        what = f"the manifest of {name} for {platform}"
        document = read_bytes(part, blobs, what)
        if name_of(entry.get("platform")) or not is_artifact(parsed(document, what)):
            return document, part.media_type
        images.remove(entry)
    known = sorted({name_of(one.get("platform")) for one in images} - {""})
    raise BuildError(f"{name} has no image for {platform}; it has {', '.join(known)[:500] or 'none at all'}")


def _diff_ids(config: dict[str, Any], count: int, what: str) -> list[str]:
    root = config.get("rootfs")
    found = (root.get("diff_ids") if isinstance(root, dict) else None) or []
    if not isinstance(found, list) or len(found) != count:
        raise BuildError(f"{what} has {count} layers, and its configuration does not say what they unpack to")
    for one in found:
        if not isinstance(one, str) or not DIGEST.fullmatch(one):
            raise BuildError(f"the configuration of {what} has the diff_id {str(one)[:80]!r}; only sha256 is known")
    return [one.removeprefix("sha256:") for one in found]


def _unpack(
    what: str, layers: list[Descriptor], diff_ids: list[str], blobs: Blobs, store: Store
) -> list[tuple[str, int]]:
    if sum(layer.size_bytes for layer in layers) > IMAGE_LIMIT_BYTES:  # before any of it is downloaded
        raise BuildError(f"{what} is larger than {IMAGE_LIMIT_BYTES >> 30} GiB")
    places, done = blobs.fetch(layers), list[tuple[str, int]]()
    total_bytes = packed_bytes = 0
    for layer, place, diff_id in zip(layers, places, diff_ids, strict=True):
        try:
            done.append(unpack_layer(layer, place, diff_id, store))
        except (BuildError, UntrustedError) as error:
            raise type(error)(f"{what}: {error.message}", error.hint) from error
        total_bytes += done[-1][1]
        packed_bytes += layer.size_bytes
        if total_bytes > IMAGE_LIMIT_BYTES:
            raise BuildError(f"{what} unpacks to more than {IMAGE_LIMIT_BYTES >> 30} GiB")
        if total_bytes > FREE_BYTES and total_bytes > MAX_RATIO * packed_bytes:
            raise BuildError(f"{what} unpacks to more than {MAX_RATIO} times its size")
    return done


def image_config(config: dict[str, Any], what: str) -> ImageConfig:
    """The part of an image's configuration that containers take their defaults from.

    Raises:
        BuildError: it holds something else than texts.
    """
    found = config.get("config")
    values = found if isinstance(found, dict) else {}
    said = {
        "entrypoint": values.get("Entrypoint") or [],
        "cmd": values.get("Cmd") or [],
        "env": values.get("Env") or [],
        "workdir": values.get("WorkingDir") or "/",
        "user": values.get("User") or "",
        "labels": values.get("Labels") or {},
    }
    try:
        return ImageConfig.model_validate_json(json.dumps(said))
    except ValueError as error:
        raise BuildError(f"the configuration of {what} holds something else than texts where they belong") from error
