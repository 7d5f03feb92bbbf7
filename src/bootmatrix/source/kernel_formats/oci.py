"""A kernel in a container image, as in LinuxKit.

The image has /kernel, and /kernel.tar with modules and device trees. It is an OCI layout (opencontainers/image-spec,
image-layout.md) as a folder or a tar archive, or an archive of `docker save`.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from bootmatrix.errors import BootmatrixError, UntrustedError
from bootmatrix.source.compressed import DamagedArchive
from bootmatrix.source.images.blobs import BlobLocation, descriptors
from bootmatrix.source.images.layout import DOCKER, INDEX, files_of, open_layout
from bootmatrix.source.images.pull import manifest_for
from bootmatrix.source.kernel_formats.member import Member, checked, of_tar, starts_with
from bootmatrix.source.safe_archive import open_packed_tar

DESCRIPTION = "a container image"
ORDER = 30


def recognises(path: Path) -> bool:
    """Match a folder with an index, or an archive with one or Docker's manifest."""
    if path.is_dir():
        return (path / INDEX).is_file()
    if not starts_with(path, b"ustar", 257):
        return False
    try:
        return bool({INDEX, DOCKER} & set(open_layout(path).parts))
    except BootmatrixError:
        return False


def paths(path: Path) -> list[Path]:
    """List the files of the layout, or the archive."""
    return files_of(path) if path.is_dir() else [path]


def members(path: Path, platform: str) -> Iterator[Member]:
    """Iterate over the files of the layers, the last layer first.

    The files of kernel.tar replace it.

    Raises BuildError if the image lacks the platform, or is damaged.
    """
    return checked(_members(path, platform), path, DESCRIPTION)


def _members(path: Path, platform: str) -> Iterator[Member]:
    try:
        layout = open_layout(path)
        _, manifest = manifest_for(str(path), layout.document(""), layout, platform)
        layers = descriptors(manifest.get("layers"), str(path))
    except UntrustedError as error:  # the user's file is damaged
        raise DamagedArchive(error.message) from error
    for layer, place in reversed(list(zip(layers, layout.fetch(layers), strict=True))):
        yield from _layer(layer.sha256, place)


def _layer(sha256: str, place: BlobLocation) -> Iterator[Member]:
    digest = place.sha256()
    if digest != sha256:
        raise DamagedArchive(f"SHA-256 mismatch of the layer {sha256}: got {digest}")
    with place.open() as stream, open_packed_tar(stream, place.offset, place.size_bytes) as archive:
        yield from _with_kernel_tar(of_tar(archive))


def _with_kernel_tar(files: Iterator[Member]) -> Iterator[Member]:
    for file in files:
        if file.path == "kernel.tar":
            with open_packed_tar(io.BytesIO(file.read())) as archive:
                yield from of_tar(archive)
        else:
            yield file
