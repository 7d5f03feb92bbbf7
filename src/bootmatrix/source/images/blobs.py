"""What a source of images gives, and JSON documents of images as strictly read as they must be."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from bootmatrix.errors import BuildError, InputError, UntrustedError
from bootmatrix.source.safe_archive import FileSlice

JSON_LIMIT_BYTES = 4 << 20
"""Of a manifest, an index, a configuration: what the distribution specification asks registries to take at least."""
MAX_LAYERS = 512
"""Docker itself makes 127 at most."""
CHUNK_BYTES = 1 << 20
LAYER_LIMIT_BYTES = 16 << 30
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Descriptor:
    """What an index or a manifest says of a part: its digest in hexadecimal, and its size."""

    sha256: str
    size_bytes: int
    media_type: str = ""


@dataclass(frozen=True)
class BlobLocation:
    """Where the bytes of a part are: in which file, from which byte on."""

    path: Path
    offset: int
    size_bytes: int

    def read(self) -> bytes:
        """All of it, for what is small."""
        with self.open() as file:
            return file.read(self.size_bytes)

    def sha256(self) -> str:
        """The digest of all of it, in hexadecimal."""
        digest = hashlib.sha256()
        with self.open() as file:
            part = FileSlice(file, self.offset, self.size_bytes)
            while data := part.read(CHUNK_BYTES):
                digest.update(data)
        return digest.hexdigest()

    def open(self) -> BinaryIO:
        """The file, at the first of these bytes.

        Raises:
            InputError: the host does not let it be read.
        """
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from error
        file.seek(self.offset)
        return file


class Digested:
    """A file that computes the digest of what is read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.sha256.update(data)
        return data

    def seek(self, offset: int) -> int:
        """Go to a place before anything is read."""
        return self._file.seek(offset)


class Blobs(Protocol):
    """A source of the parts of images. Their digests are checked by whoever reads them."""

    def fetch(self, parts: Sequence[Descriptor]) -> list[BlobLocation]:
        """Where these parts are, after they have been fetched."""


def read_json(part: Descriptor, blobs: Blobs, what: str) -> dict[str, Any]:
    """A part that is a JSON object.

    Raises:
        UntrustedError: it is another one than was announced.
        BuildError: it is too large, or no JSON object.
    """
    return parsed(read_bytes(part, blobs, what), what)


def read_bytes(part: Descriptor, blobs: Blobs, what: str) -> bytes:
    """The bytes of a part that is JSON.

    Raises:
        UntrustedError: they are others than were announced.
        BuildError: they are too many.
    """
    if part.size_bytes > JSON_LIMIT_BYTES:
        raise BuildError(f"{what} is said to have {part.size_bytes} bytes, and {JSON_LIMIT_BYTES} at most are read")
    (place,) = blobs.fetch([part])
    data = place.read()
    found = hashlib.sha256(data).hexdigest()
    if len(data) != part.size_bytes:
        raise UntrustedError(f"{what} has {len(data)} bytes, and {part.size_bytes} were announced")
    if found != part.sha256:
        raise UntrustedError(f"{what} has the SHA-256 {found}, and {part.sha256} was announced")
    return data


def parsed(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BuildError: it is none.
    """
    try:
        value = load_json(data)
    except AmbiguousKey as error:
        raise BuildError(f"{what} has the key {error} twice, and could be two things") from error
    except (ValueError, RecursionError) as error:
        raise BuildError(f"{what} is no JSON") from error
    if not isinstance(value, dict):
        raise BuildError(f"{what} is no JSON object")
    folded: dict[str, str] = {}
    for key in value:
        if folded.setdefault(key.casefold(), key) != key:  # Go's readers take either
            raise BuildError(f"{what} has the key {key[:100]!r} in two spellings, and could be two things")
    return value


class AmbiguousKey(ValueError):
    """A key that an object has twice: readers differ in which one counts."""


def load_json(data: bytes) -> Any:
    """JSON whose objects have each key once.

    Raises:
        ValueError: it is none; AmbiguousKey if a key stands twice.
        RecursionError: it is too deep.
    """
    return json.loads(data, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise AmbiguousKey(repr(key[:100]))
        found[key] = value
    return found


def descriptor(value: Any, what: str) -> Descriptor:
    """A descriptor of an index or a manifest.

    Raises:
        BuildError: it has no usable digest or size.
    """
    digest, size = (value.get("digest"), value.get("size")) if isinstance(value, dict) else (None, None)
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise BuildError(f"{what} has the digest {str(digest)[:100]!r}, and only sha256 is known")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LAYER_LIMIT_BYTES:
        raise BuildError(f"{what} is said to have {str(size)[:100]} bytes")
    media_type = value.get("mediaType")
    return Descriptor(digest.removeprefix("sha256:"), size, media_type if isinstance(media_type, str) else "")


def descriptors(value: Any, what: str) -> list[Descriptor]:
    """A list of descriptors.

    Raises:
        BuildError: it is none, or too long.
    """
    if value is None:  # an empty list, as some of Go's programs write it
        return []
    if not isinstance(value, list) or len(value) > MAX_LAYERS:
        raise BuildError(f"{what} has no list of layers, or one of more than {MAX_LAYERS}")
    return [descriptor(one, f"a layer of {what}") for one in value]
