"""Detect artifacts among images: signatures, attestations, bills of materials.

Sources: opencontainers/image-spec (manifest.md, "Guidelines for Artifact Usage"; image-index.md), BuildKit's
attestation storage (docs/attestations/attestation-storage.md), cosign's signature specification (SIGNATURE_SPEC.md).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

REFERENCE_TYPE = "vnd.docker.reference.type"
"""BuildKit's annotation of attestations in an index."""
COSIGN_KIND, COSIGN_IMAGES = "dev.cosignproject.cosign/", ("image", "imageIndex")
"""Prefix of cosign's annotation `kind`, and its values for images."""
_COSIGN_TAG = re.compile(r"(?:.*[:/])?sha256-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?")
"""Tags of signatures (cosign) and of referrers (distribution-spec, "Referrers Tag Schema")."""
IMAGE_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_UNTYPED = ("", "application/octet-stream")


def is_artifact_entry(entry: Mapping[str, Any], names: Iterable[str] = ()) -> bool:
    """Return whether an entry of an index, or one of its names, is not an image."""
    notes = annotations_of(entry)
    kind = notes.get("kind", "")
    return (
        REFERENCE_TYPE in notes
        or (kind.startswith(COSIGN_KIND) and kind.removeprefix(COSIGN_KIND) not in COSIGN_IMAGES)
        or (bool(entry.get("artifactType")) and entry.get("artifactType") not in CONFIG_TYPES)
        or _is_unknown(entry.get("platform"))
        or _text(entry.get("mediaType")) not in (*IMAGE_TYPES, *_UNTYPED)
        or any(_COSIGN_TAG.fullmatch(name) for name in names)
    )


def is_artifact(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest does not describe an image."""
    if "manifests" in manifest:
        return False
    if _text(manifest.get("artifactType")) not in ("", *CONFIG_TYPES):
        return True
    config = manifest.get("config")
    if isinstance(config, dict) and _text(config.get("mediaType")) not in (*_UNTYPED, *CONFIG_TYPES):
        return True
    kinds = list(_layer_types(manifest))
    return bool(kinds) and not any(kind in _UNTYPED or "tar" in kind for kind in kinds)


def annotations_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of a descriptor that are text."""
    annotations = entry.get("annotations")
    if not isinstance(annotations, dict):
        return {}
    return {name: value for name, value in annotations.items() if isinstance(value, str)}


def _layer_types(manifest: Mapping[str, Any]) -> Iterator[str]:
    layers = manifest.get("layers")
    for layer in layers if isinstance(layers, list) else ():
        yield _text(layer.get("mediaType")) if isinstance(layer, dict) else ""


def _is_unknown(platform: Any) -> bool:
    return isinstance(platform, dict) and "unknown" in (platform.get("os"), platform.get("architecture"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
