"""Blobs of images: descriptors, locations, and strictly parsed JSON documents."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from bootmatrix.errors import BuildError, UntrustedError, readable
from bootmatrix.source.safe_archive import FileSlice

JSON_LIMIT_BYTES = 4 << 20
"""Limit of manifests, indexes and configurations: the distribution specification's minimum for registries."""
MAX_LAYERS = 512
"""Docker's own limit is 127."""
CHUNK_BYTES = 1 << 20
LAYER_LIMIT_BYTES = 16 << 30
_MAPS = {"annotations", "labels", "exposedports", "volumes"}
"""Keys whose values are maps of free names (image-spec, config.md and annotations.md)."""
MANIFEST_KEYS = frozenset(
    [
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "fsLayers",
        "history",
        "digest",
        "size",
        "annotations",
        "platform",
        "architecture",
        "os",
        "variant",
    ]
)
"""Keys of a manifest or an index that are read here."""
CONFIG_KEYS = frozenset(
    [
        "architecture",
        "os",
        "variant",
        "rootfs",
        "diff_ids",
        "config",
        "Entrypoint",
        "Cmd",
        "Env",
        "WorkingDir",
        "User",
        "Labels",
    ]
)
"""Likewise of an image's configuration."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Descriptor:
    """Digest in hexadecimal, size and type of a blob, from an index or a manifest."""

    sha256: str
    size_bytes: int
    media_type: str = ""


@dataclass(frozen=True)
class BlobLocation:
    """A byte range of a file that holds a blob."""

    path: Path
    offset: int
    size_bytes: int

    def read(self) -> bytes:
        """Read a small blob."""
        with self.open() as file:
            return file.read(self.size_bytes)

    def sha256(self) -> str:
        """Compute the digest in hexadecimal."""
        digest = hashlib.sha256()
        with self.open() as file:
            part = FileSlice(file, self.offset, self.size_bytes)
            while data := part.read(CHUNK_BYTES):
                digest.update(data)
        return digest.hexdigest()

    def open(self) -> BinaryIO:
        """Open a file at the blob. Raises InputError if it cannot be read."""
        with readable(self.path):
            file = self.path.open("rb")
        file.seek(self.offset)
        return file


class Digested:
    """A file that computes the digest of the bytes read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data

    def seek(self, offset: int) -> int:
        """Seek before the first read."""
        return self._file.seek(offset)


class Blobs(Protocol):
    """A source of blobs. The reader checks their digests."""

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        """Fetch blobs, and return their locations."""


def read_bytes(part: Descriptor, blobs: Blobs, label: str) -> bytes:
    """Read a blob that is JSON.

    Raises UntrustedError if size or digest differs, BuildError if it is too large.
    """
    if part.size_bytes > JSON_LIMIT_BYTES:
        raise BuildError(f"{label} is too large: {part.size_bytes} bytes, the limit is {JSON_LIMIT_BYTES}")
    (place,) = blobs.fetch([part])
    data = place.read()
    digest = hashlib.sha256(data).hexdigest()
    if len(data) != part.size_bytes:
        raise UntrustedError(f"size mismatch of {label}: expected {part.size_bytes} bytes, got {len(data)}")
    if digest != part.sha256:
        raise UntrustedError(f"SHA-256 mismatch of {label}: expected {part.sha256}, got {digest}")
    return data


def parsed(data: bytes, label: str, keys: Collection[str] = MANIFEST_KEYS) -> dict[str, Any]:
    """Parse a JSON object, of which some keys have a meaning.

    Raises BuildError if it is invalid, or ambiguous.
    """
    try:
        value = load_json(data)
    except AmbiguousKey as error:
        raise BuildError(f"{label} is ambiguous: duplicate key {error}") from error
    except (ValueError, RecursionError) as error:
        raise BuildError(f"{label} is invalid JSON") from error
    if not isinstance(value, dict):
        raise BuildError(f"{label} is not a JSON object")
    check_spelling(value, label, {key.casefold(): key for key in keys})
    return value


def check_spelling(value: Any, label: str, known: Mapping[str, str]) -> None:
    """Refuse keys that Go takes for others: it ignores case, and takes the last.

    `known` are the keys that are read, by their folded form. Names in maps are free.

    Raises BuildError if a key has two spellings, or not its own.
    """
    if isinstance(value, list):
        for entry in value:
            check_spelling(entry, label, known)
    if not isinstance(value, dict):
        return
    folded: dict[str, str] = {}
    for key, inner in value.items():
        if folded.setdefault(key.casefold(), key) != key:
            raise BuildError(f"{label} is ambiguous: key {key[:100]!r} in two spellings")
        if key.casefold() not in _MAPS:
            check_spelling(inner, label, known)
    for key in folded.values():
        if known.get(key.casefold(), key) != key:
            raise BuildError(f"{label} is ambiguous: key {key[:100]!r} instead of {known[key.casefold()]!r}")


class AmbiguousKey(ValueError):
    """A duplicate key in an object: parsers differ in which value they use."""


def load_json(data: bytes) -> Any:
    """Parse JSON whose objects have unique keys.

    Raises ValueError for invalid JSON; AmbiguousKey for a duplicate key; RecursionError if it is nested too deeply.
    """
    return json.loads(data, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value_by_key: dict[str, Any] = {}
    for key, value in pairs:
        if key in value_by_key:
            raise AmbiguousKey(repr(key[:100]))
        value_by_key[key] = value
    return value_by_key


def descriptor(value: Any, label: str) -> Descriptor:
    """Parse a descriptor. Raises BuildError on its digest or size."""
    digest, size = (value.get("digest"), value.get("size")) if isinstance(value, dict) else (None, None)
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise BuildError(f"{label} has the unsupported digest {str(digest)[:100]!r}: only sha256 is supported")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LAYER_LIMIT_BYTES:
        raise BuildError(f"{label} has an invalid size: {str(size)[:100]}")
    media_type = value.get("mediaType")
    return Descriptor(digest.removeprefix("sha256:"), size, media_type if isinstance(media_type, str) else "")


def descriptors(value: Any, label: str) -> list[Descriptor]:
    """Parse a list of descriptors. Raises BuildError if invalid, too long."""
    if value is None:  # some Go programs write an empty list as null
        return []
    if not isinstance(value, list) or len(value) > MAX_LAYERS:
        raise BuildError(f"{label} must have a list of at most {MAX_LAYERS} layers")
    return [descriptor(entry, f"a layer of {label}") for entry in value]
