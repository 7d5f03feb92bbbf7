"""Import an image from its index or manifest into the store, for every source."""

import json
import re
from typing import Any

from bootmatrix.errors import BuildError, UntrustedError
from bootmatrix.model import ImageConfig, StoredImage
from bootmatrix.source.images.artifacts import IMAGE_TYPES, is_artifact, is_artifact_entry
from bootmatrix.source.images.blobs import (
    CONFIG_KEYS,
    DIGEST,
    Blobs,
    Descriptor,
    descriptor,
    descriptors,
    parsed,
    read_bytes,
)
from bootmatrix.source.images.layers import unpack_layer
from bootmatrix.source.images.platforms import choose, fits, name_of
from bootmatrix.source.images.reference import MAX_PORT
from bootmatrix.source.safe_archive import FREE_BYTES, MAX_RATIO
from bootmatrix.store import Store

MAX_INDEXES = 4
"""Limit of nested indexes. One, for several platforms, is usual."""
MAX_ARTIFACTS = 16
"""Limit of an index's entries without a platform that are not images."""
IMAGE_LIMIT_BYTES = 8 << 30
"""Limit of all layers, unpacked."""
_TCP_PORT = re.compile(r"([1-9][0-9]{0,4})(?:/tcp)?", re.ASCII)
_SHAPES = {("layers", "config"): "image", ("manifests",): "index", ("fsLayers", "history"): "schema 1"}
"""Shape of a document by its keys."""
_MEANINGS = {
    "image.index.": "index",
    "manifest.list.": "index",
    "image.manifest.": "image",
    "distribution.manifest.v2": "image",
    "distribution.manifest.v1": "schema 1",
}
"""Shape of a document by a part of its media type."""


def import_image(name: str, document: bytes, blobs: Blobs, platform: str, store: Store) -> StoredImage:
    """Import a platform's image from an index or manifest into the store.

    Raises BuildError if the platform is missing, or the image is damaged or too large; UntrustedError if size or digest
    of a blob differs; InfraError if a blob is unavailable.
    """
    manifest_bytes, manifest = manifest_for(name, document, blobs, platform)
    label = f"the image {name}"
    config_part = descriptor(manifest.get("config"), f"the configuration of {label}")
    config_bytes = read_bytes(config_part, blobs, f"the configuration of {label}")
    config = parsed(config_bytes, f"the configuration of {label}", CONFIG_KEYS)
    if fault := _config_fault(label, config, platform):
        raise BuildError(fault)
    layers = descriptors(manifest.get("layers"), label)
    unpacked = _unpack(label, layers, _diff_ids(config, len(layers), label), blobs, store)
    store.add_bytes(config_bytes)
    return StoredImage(
        reference=name,
        digest=store.add_bytes(manifest_bytes),
        layers=tuple(digest for digest, _ in unpacked),
        config=image_config(config, label),
        size_bytes=sum(size for _, size in unpacked),
    )


def platform_fault(name: str, document: bytes, blobs: Blobs, platform: str) -> str:
    """Return why an index or manifest lacks a platform; empty if it may have it.

    Of an index nothing else is read, of a manifest its configuration.

    Raises BuildError if the manifest is damaged, InfraError if a blob is unavailable.
    """
    value = parsed(document, f"the manifest of {name}")
    if isinstance(entries := value.get("manifests"), list):
        images = _images(entries)
        return "" if choose(images, platform) else _index_fault(name, images, platform)
    label = f"the image {name}"
    config = descriptor(value.get("config"), f"the configuration of {label}")
    return _config_fault(label, parsed(read_bytes(config, blobs, label), label, CONFIG_KEYS), platform)


def exposed_ports(name: str, document: bytes, blobs: Blobs, platform: str) -> tuple[int, ...]:
    """Return the TCP ports that the configuration of a platform's image names.

    Raises BuildError if the platform is missing, or the image is damaged; InfraError if a blob is unavailable.
    """
    manifest = manifest_for(name, document, blobs, platform)[1]
    label = f"the configuration of the image {name}"
    config = parsed(read_bytes(descriptor(manifest.get("config"), label), blobs, label), label, CONFIG_KEYS)
    return tcp_ports(config.get("config"))


def tcp_ports(section: Any) -> tuple[int, ...]:
    """Return the TCP ports of `ExposedPorts`, such as `80/tcp` or `80`.

    >>> tcp_ports({"ExposedPorts": {"8086/tcp": {}, "53/udp": {}, "80": {}}})
    (80, 8086)
    """
    ports = section.get("ExposedPorts") if isinstance(section, dict) else None
    found = map(_TCP_PORT.fullmatch, ports if isinstance(ports, dict) else ())
    return tuple(sorted({int(match[1]) for match in found if match and int(match[1]) <= MAX_PORT}))


def _images(entries: list[Any]) -> list[Any]:
    return [entry for entry in entries if isinstance(entry, dict) and not is_artifact_entry(entry)]


def _index_fault(name: str, images: list[Any], platform: str) -> str:
    platforms = sorted({name_of(entry.get("platform")) for entry in images} - {""})
    return f"{name} has no image for {platform}; available: {', '.join(platforms)[:500] or 'none'}"


def _config_fault(label: str, config: dict[str, Any], platform: str) -> str:
    return "" if fits(config, platform) else f"{label} is for {name_of(config)}, expected {platform}"


def manifest_for(name: str, document: bytes, blobs: Blobs, platform: str) -> tuple[bytes, dict[str, Any]]:
    """Find the manifest of a platform's image, as bytes and parsed.

    Raises BuildError if it is missing, or indexes are nested too deeply.
    """
    announced = ""
    for _ in range(MAX_INDEXES):
        value = parsed(document, f"the manifest of {name}")
        check_unambiguous(value, f"the manifest of {name}", announced)
        if "layers" in value:
            return document, value
        entries = value.get("manifests")
        if not isinstance(entries, list):
            old = "fsLayers" in value or value.get("schemaVersion") == 1
            kind = "of the unsupported schema 1" if old else "neither an image nor an index of images"
            raise BuildError(f"the manifest of {name} is {kind}", "Push the image again with current tools.")
        document, announced = _chosen(name, entries, blobs, platform)
    raise BuildError(f"{name}: indexes are nested more than {MAX_INDEXES} deep")


def check_unambiguous(document: dict[str, Any], label: str, announced: str = "") -> None:
    """Refuse a document that parsers may take for an image or for an index.

    `announced` is the media type of the descriptor.

    Raises BuildError if it may be both, or its media types contradict each other or its content (CVE-2021-41190).
    """
    shapes = [shape for keys, shape in _SHAPES.items() if any(key in document for key in keys)]
    media_type = document.get("mediaType")
    if len(shapes) > 1 or (media_type is not None and not isinstance(media_type, str)):
        raise BuildError(f"{label} is ambiguous: both an image and an index of images")
    for kind in filter(None, (media_type, announced)):
        expected = next((shape for word, shape in _MEANINGS.items() if word in kind), "")
        if expected and shapes and expected not in shapes:
            raise BuildError(f"the content of {label} does not match its media type {kind[:100]}")
    if media_type and announced in IMAGE_TYPES and media_type in IMAGE_TYPES and media_type != announced:
        raise BuildError(f"contradicting media types of {label}: {announced} in its descriptor, {media_type} in itself")


def _chosen(name: str, entries: list[Any], blobs: Blobs, platform: str) -> tuple[bytes, str]:
    """Return the document that suits a platform best, and its announced media type."""
    images = _images(entries)
    for _ in range(MAX_ARTIFACTS):
        entry = choose(images, platform)
        if entry is None:
            break
        part = descriptor(entry, f"the image of {name} for {platform}")
        label = f"the manifest of {name} for {platform}"
        document = read_bytes(part, blobs, label)
        if name_of(entry.get("platform")) or not is_artifact(parsed(document, label)):
            return document, part.media_type
        images.remove(entry)
    raise BuildError(_index_fault(name, images, platform))


def _diff_ids(config: dict[str, Any], count: int, label: str) -> list[str]:
    root = config.get("rootfs")
    diff_ids = (root.get("diff_ids") if isinstance(root, dict) else None) or []
    if not isinstance(diff_ids, list) or len(diff_ids) != count:
        raise BuildError(f"the configuration of {label} must have {count} diff_ids, one per layer")
    for diff_id in diff_ids:
        if not isinstance(diff_id, str) or not DIGEST.fullmatch(diff_id):
            raise BuildError(
                f"invalid diff_id in the configuration of {label}: {str(diff_id)[:80]!r}, expected sha256:…"
            )
    return [diff_id.removeprefix("sha256:") for diff_id in diff_ids]


def _unpack(
    label: str, layers: list[Descriptor], diff_ids: list[str], blobs: Blobs, store: Store
) -> list[tuple[str, int]]:
    if sum(layer.size_bytes for layer in layers) > IMAGE_LIMIT_BYTES:  # before the download
        raise BuildError(f"{label} is larger than {IMAGE_LIMIT_BYTES >> 30} GiB")
    places, done = blobs.fetch(layers), list[tuple[str, int]]()
    total_bytes = packed_bytes = 0
    for layer, place, diff_id in zip(layers, places, diff_ids, strict=True):
        try:
            done.append(unpack_layer(layer, place, diff_id, store))
        except (BuildError, UntrustedError) as error:
            raise type(error)(f"{label}: {error.message}", error.hint) from error
        total_bytes += done[-1][1]
        packed_bytes += layer.size_bytes
        if total_bytes > IMAGE_LIMIT_BYTES:
            raise BuildError(f"{label} unpacks to more than {IMAGE_LIMIT_BYTES >> 30} GiB")
        if total_bytes > FREE_BYTES and total_bytes > MAX_RATIO * packed_bytes:
            raise BuildError(f"{label} unpacks to more than {MAX_RATIO} times its size")
    return done


def image_config(config: dict[str, Any], label: str) -> ImageConfig:
    """Extract containers' defaults. Raises BuildError if they are not text."""
    section = config.get("config")
    values = section if isinstance(section, dict) else {}
    fields = {
        "entrypoint": values.get("Entrypoint") or [],
        "cmd": values.get("Cmd") or [],
        "env": values.get("Env") or [],
        "workdir": values.get("WorkingDir") or "/",
        "user": values.get("User") or "",
        "labels": values.get("Labels") or {},
    }
    try:
        return ImageConfig.model_validate_json(json.dumps(fields))
    except ValueError as error:
        raise BuildError(f"invalid configuration of {label}: expected text") from error
