"""A kernel in a container image, as LinuxKit has it: /kernel, and /kernel.tar with modules and device trees.

The image is an OCI layout (opencontainers/image-spec, image-layout.md), as a folder or a tar archive, or what
`docker save` writes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from bootmatrix.errors import BuildError
from bootmatrix.source.kinds.member import Member, checked, of_tar, starts_with
from bootmatrix.source.packed import FAULTS, Damaged, Part, PaxArchive, open_tar, suffix_of

DESCRIPTION = "a container image"
JSON_LIMIT_BYTES = 4 << 20
MAX_INDEXES = 4
"""Indexes in an index: one is usual, for several architectures."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def recognises(path: Path) -> bool:
    """A folder with an index, or a tar archive with one or with docker's manifest."""
    if path.is_dir():
        return (path / "index.json").is_file()
    if not starts_with(path, b"ustar", 257):
        return False
    try:
        return bool({"index.json", "manifest.json"} & set(_open(path).parts))
    except FAULTS:
        return False


def paths(path: Path) -> list[Path]:
    """All files of the layout, or the archive."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def members(path: Path, platform: str) -> Iterator[Member]:
    """The files of the image's layers, the last one first; what is in kernel.tar comes as if it were in the image.

    Raises:
        BuildError: there is no image for the platform, or it is damaged.
    """
    return checked(_members(path, platform), path, DESCRIPTION)


@dataclass(frozen=True)
class _Image:
    """Where the parts of an image are: in which file, from which byte on, how many bytes."""

    parts: dict[str, tuple[Path, int, int]]

    def json(self, name: str) -> Any:
        """A part that holds JSON."""
        if name not in self.parts:
            raise Damaged(f"it has no {name}")
        file, offset, size = self.parts[name]
        if size > JSON_LIMIT_BYTES:
            raise Damaged(f"{name} has {size} bytes")
        with file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
        _check_digest(name, hashlib.sha256(data).hexdigest())
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{name} is no JSON") from error

    def layer(self, name: str) -> Iterator[Member]:
        """The files of a layer."""
        if name not in self.parts:
            raise Damaged(f"it has no {name}")
        file, offset, size = self.parts[name]
        with file.open("rb") as stream:
            _check_digest(name, _sha256(Part(stream, offset, size)))
            stream.seek(offset)
            suffix = suffix_of(stream.read(6))
            with open_tar(Part(stream, offset, size), suffix, pax=True) as archive:
                yield from _with_kernel_tar(of_tar(archive))


def _open(path: Path) -> _Image:
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in paths(path)}
        return _Image({name: (file, 0, file.stat().st_size) for name, file in files.items()})
    with PaxArchive.open(path, mode="r:") as archive:
        found = {one.name.removeprefix("./"): (path, one.offset_data, one.size) for one in archive if one.isreg()}
    return _Image(found)


def _members(path: Path, platform: str) -> Iterator[Member]:
    image = _open(path)
    for layer in reversed(_layers(image, platform, path)):
        yield from image.layer(layer)


def _layers(image: _Image, platform: str, path: Path) -> list[str]:
    try:
        if "index.json" not in image.parts:
            return [str(name) for name in image.json("manifest.json")[0]["Layers"]]
        manifest = _manifest(image, image.json("index.json"), platform, path)
        return [_blob(layer) for layer in manifest["layers"]]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise Damaged(f"its index or manifest lacks something: {error}") from error


def _manifest(image: _Image, index: Any, platform: str, path: Path) -> Any:
    for _ in range(MAX_INDEXES):
        found = [one for one in index["manifests"] if _fits(one.get("platform"), platform)]
        if not found:
            there = sorted({_platform(one["platform"]) for one in index["manifests"]})
            raise BuildError(f"{path} has no image for {platform}; it has {', '.join(there) or 'none at all'}")
        index = image.json(_blob(found[0]))
        if "layers" in index:
            return index
    raise Damaged("its indexes do not end")


def _fits(platform: Any, wanted: str) -> bool:
    """Whether an image is for a platform; one that does not say is taken to be."""
    return not platform or _platform(platform) in {wanted, wanted.rpartition("/")[0]} or wanted == _without(platform)


def _platform(platform: Any) -> str:
    variant = platform.get("variant")
    return f"{_without(platform)}/{variant}" if variant else _without(platform)


def _without(platform: Any) -> str:
    return f"{platform.get('os')}/{platform.get('architecture')}"


def _blob(descriptor: Any) -> str:
    digest = descriptor["digest"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise Damaged(f"a digest is {digest!r}")
    return "blobs/" + digest.replace(":", "/")


def _check_digest(name: str, found: str) -> None:
    if name.startswith("blobs/sha256/") and not name.endswith(f"/{found}"):
        raise Damaged(f"{name} has the SHA-256 {found}")


def _sha256(part: Part) -> str:
    digest = hashlib.sha256()
    while data := part.read(1 << 20):
        digest.update(data)
    return digest.hexdigest()


def _with_kernel_tar(files: Iterator[Member]) -> Iterator[Member]:
    for file in files:
        if file.path == "kernel.tar":
            data = file.read()
            part = Part(cast(BinaryIO, io.BytesIO(data)), 0, len(data))
            with open_tar(part, suffix_of(data[:6]), pax=True) as archive:
                yield from of_tar(archive)
        else:
            yield file
