"""A kernel in a container image, as LinuxKit has it: /kernel, and /kernel.tar with modules and device trees.

The image is an OCI layout (opencontainers/image-spec, image-layout.md), as a folder or a tar archive, or what
`docker save` writes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from bootmatrix.errors import BootmatrixError, UntrustedError
from bootmatrix.source.images.blobs import BlobLocation, descriptors
from bootmatrix.source.images.layout import DOCKER, INDEX, files_of, open_layout
from bootmatrix.source.images.pull import manifest_for
from bootmatrix.source.kernel_formats.member import Member, checked, of_tar, starts_with
from bootmatrix.source.safe_archive import MAGIC_BYTES, DamagedArchive, FileSlice, open_tar, suffix_of

DESCRIPTION = "a container image"
ORDER = 30


def recognises(path: Path) -> bool:
    """A folder with an index, or a tar archive with one or with docker's manifest."""
    if path.is_dir():
        return (path / INDEX).is_file()
    if not starts_with(path, b"ustar", 257):
        return False
    try:
        return bool({INDEX, DOCKER} & set(open_layout(path).parts))
    except BootmatrixError:
        return False


def paths(path: Path) -> list[Path]:
    """All files of the layout, or the archive."""
    return files_of(path) if path.is_dir() else [path]


def members(path: Path, platform: str) -> Iterator[Member]:
    """The files of the image's layers, the last one first; what is in kernel.tar comes as if it were in the image.

    Raises:
        BuildError: there is no image for the platform, or it is damaged.
    """
    return checked(_members(path, platform), path, DESCRIPTION)


def _members(path: Path, platform: str) -> Iterator[Member]:
    try:
        layout = open_layout(path)
        _, manifest = manifest_for(str(path), layout.document(""), layout, platform)
        layers = descriptors(manifest.get("layers"), str(path))
    except UntrustedError as error:  # a file of the user's own that is damaged is nobody else's fault
        raise DamagedArchive(error.message) from error
    for layer, place in reversed(list(zip(layers, layout.fetch(layers), strict=True))):
        yield from _layer(layer.sha256, place)


def _layer(sha256: str, place: BlobLocation) -> Iterator[Member]:
    found = place.sha256()
    if found != sha256:
        raise DamagedArchive(f"the layer {sha256} has the SHA-256 {found}")
    with place.open() as stream:
        suffix = suffix_of(stream.read(MAGIC_BYTES))
        with open_tar(FileSlice(stream, place.offset, place.size_bytes), suffix, pax=True) as archive:
            yield from _with_kernel_tar(of_tar(archive))


def _with_kernel_tar(files: Iterator[Member]) -> Iterator[Member]:
    for file in files:
        if file.path == "kernel.tar":
            data = file.read()
            part = FileSlice(cast(BinaryIO, io.BytesIO(data)), 0, len(data))
            with open_tar(part, suffix_of(data[:MAGIC_BYTES]), pax=True) as archive:
                yield from of_tar(archive)
        else:
            yield file
