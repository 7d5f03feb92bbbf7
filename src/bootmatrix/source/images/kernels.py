"""A kernel in a container image, as in LinuxKit.

The image has /kernel, and /kernel.tar with modules and device trees.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bootmatrix.errors import BuildError
from bootmatrix.source.kernel_formats.member import Member, checked, of_tar
from bootmatrix.source.safe_archive import open_packed_tar

KERNEL, TAR, DEVELOPMENT = "kernel", "kernel.tar", "kernel-dev.tar"
NO_TAR = "none"
"""Value of a spec's `kernel.tar` that excludes the archive."""
CONFIGS = ("kernel_config",)
"""Configuration in LinuxKit's kernel images; other images have it in the development archive."""


class ImageFile(Protocol):
    """A file of an image."""

    @property
    def size(self) -> int:
        """Return the length in bytes."""

    def read(self) -> bytes:
        pass


def kernel_members(files: dict[str, ImageFile], binary: str, tar: str, image: str) -> Iterator[Member]:
    """Iterate over the files of an image that belong to a kernel.

    Empty `binary` and `tar` mean their default names.

    Raises BuildError if a named file is missing, or an archive is damaged.
    """
    for name in filter(None, (binary, tar if tar != NO_TAR else "")):
        if name.strip("/") not in files:
            available = ", ".join(sorted(path for path in files if "/" not in path))[:300]
            raise BuildError(f"the kernel image {image} has no file {name}; available: {available or 'none'}")
    archives = [tar.strip("/") or TAR, DEVELOPMENT] if tar != NO_TAR else []
    for path, file in files.items():
        if path == binary.strip("/"):
            yield Member(KERNEL, file.size, file.read)
        elif path in CONFIGS:
            yield Member("config-of-the-image", file.size, file.read)
        elif path not in archives and not binary:
            yield Member(path, file.size, file.read)
    for name in archives:
        if name in files:
            members = _of_archive(files[name], only_config=name == DEVELOPMENT)
            yield from checked(members, Path(f"{image}: {name}"), "a tar archive")


def _of_archive(file: ImageFile, *, only_config: bool) -> Iterator[Member]:
    member = Member("archive", file.size, file.read)
    with open_packed_tar(io.BytesIO(member.read())) as archive:
        for packed in of_tar(archive):
            if not only_config or packed.path.endswith("/.config"):
                yield packed
