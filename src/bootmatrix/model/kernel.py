"""Packages of the Debian archive, the kernels made of them, and custom kernels."""

from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter

from bootmatrix.model.base import Model, Name, Sha256
from bootmatrix.redact import RedactedUrl

PageKib = Literal[4, 8, 16, 32, 64, 256]
VaBits = Annotated[int, Field(ge=31, le=64)]
"""Width of a program's addresses, in bits."""


Version = Annotated[str, StringConstraints(max_length=256)]
"""A Debian version. The length is limited: Python refuses to compare numbers of thousands of digits."""
MAX_DOWNLOAD_BYTES = 1 << 40


class Package(Model):
    """A .deb of the archive. `filename` is its path below the archive's address."""

    name: str
    version: Version
    architecture: str
    suite: str
    filename: str
    size_bytes: int = Field(ge=0, le=MAX_DOWNLOAD_BYTES)
    sha256: Sha256
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.architecture} ({self.suite})"


@cache
def package_list() -> TypeAdapter[tuple[Package, ...]]:
    """Return the adapter that reads and writes packages as JSON."""
    return TypeAdapter(tuple[Package, ...])


class KernelPart(Model):
    """Source of a custom kernel or of a part of it: a file, folder, URL or image.

    `kind` names the module that reads it. Exactly one of `path`, `url` and `image` is set; a path is relative to
    the file that names it. `sha256` is of the file, of the list of a folder's files with their digests, or of the
    image's manifest. Without it any content is accepted, and the record holds its digest. `binary`, `tar` and
    `ucode` are files of an image, if their names differ from those of LinuxKit's images.
    """

    kind: Name
    path: str = ""
    url: str = ""
    image: str = ""
    sha256: Sha256 | None = None
    size_bytes: int = Field(default=0, ge=0, le=MAX_DOWNLOAD_BYTES, description="of the downloaded file")
    binary: str = ""
    tar: str = ""
    ucode: str = ""

    def __str__(self) -> str:
        return RedactedUrl(self.url) or self.path or self.image

    def redacted(self) -> Self:
        """Return the part for records and locks, without secrets in its URL."""
        return self.model_copy(update={"url": str(RedactedUrl(self.url))}) if self.url else self


class CustomKernel(Model):
    """A custom kernel for one architecture, from `kernels.yml` in `folder`."""

    parts: tuple[KernelPart, ...] = Field(min_length=1)
    release: str = Field(default="", description="output of uname -r")
    page_kib: PageKib = 4
    va_bits: VaBits | None = None
    folder: str = ""


class Kernel(Model):
    """A kernel resolved for an architecture: `6.1` is `6.1.0-50-cloud-…`.

    `release` is the output of `uname -r`. `packages` has the image first, then those with further parts. A custom
    kernel has `parts` instead, each with its digest.
    """

    name: str
    release: str
    version: Version
    architecture: str
    packages: tuple[Package, ...] = ()
    parts: tuple[KernelPart, ...] = ()

    @property
    def origin(self) -> str:
        """The origin in one line."""
        return str(self.packages[0]) if self.packages else ", ".join(map(str, self.parts))
