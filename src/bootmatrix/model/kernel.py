"""Packages of the Debian archive, and the kernels that some of them are; kernels of other origins."""

from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter

from bootmatrix.model.base import Model, Name, Sha256
from bootmatrix.redact import RedactedUrl

PageKib = Literal[4, 8, 16, 32, 64, 256]


Version = Annotated[str, StringConstraints(max_length=256)]
"""A Debian version. Longer ones are none: Python refuses to compare numbers of thousands of digits."""
MAX_DOWNLOAD_BYTES = 1 << 40


class Package(Model):
    """One .deb of the archive. `filename` is its path below the archive's address."""

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
    """What reads packages from JSON, and writes them as it."""
    return TypeAdapter(tuple[Package, ...])


class KernelPart(Model):
    """A file or folder that a kernel of the user's own, or a part of it, comes from.

    `kind` names the module that reads it; one of `path`, `url` and `image` is given, a path from the folder of the file
    that says so. `sha256` is of the file, or of the list of a folder's files with theirs, or of the image's manifest;
    without it, whatever is there is taken, and its digest stands in the record. `binary`, `tar` and `ucode` are files
    of an image, if others than LinuxKit's images have them.
    """

    kind: Name
    path: str = ""
    url: str = ""
    image: str = ""
    sha256: Sha256 | None = None
    size_bytes: int = Field(default=0, ge=0, le=MAX_DOWNLOAD_BYTES, description="of what the URL gives")
    binary: str = ""
    tar: str = ""
    ucode: str = ""

    def __str__(self) -> str:
        return RedactedUrl(self.url) or self.path or self.image

    def redacted(self) -> Self:
        """Return the part as records and locks keep it: without the secrets that its URL may hold."""
        return self.model_copy(update={"url": str(RedactedUrl(self.url))}) if self.url else self


class CustomKernel(Model):
    """A kernel of the user's own for one architecture, as `kernels.yml` has it. `folder` is that file's."""

    parts: tuple[KernelPart, ...] = Field(min_length=1)
    release: str = Field(default="", description="what uname -r will say")
    page_kib: PageKib = 4
    folder: str = ""


class Kernel(Model):
    """A kernel name resolved for an architecture: `6.1` is today `6.1.0-50-cloud-…`, out of these packages.

    `release` is what `uname -r` will say; `packages` has the image first, then those that hold parts of it. A kernel of
    the user's own has `parts` instead, each with its digest.
    """

    name: str
    release: str
    version: Version
    architecture: str
    packages: tuple[Package, ...] = ()
    parts: tuple[KernelPart, ...] = ()

    @property
    def origin(self) -> str:
        """Where it comes from, in a line."""
        return str(self.packages[0]) if self.packages else ", ".join(map(str, self.parts))
