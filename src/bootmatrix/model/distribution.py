"""Kernel catalogues: a distribution's kernels and repositories.

In `kernels/<name>.yml`.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Model, Name
from bootmatrix.model.kernel import KernelPart, PageKib, VaBits

RepositoryFormat = Literal["apt", "rpm-md", "apk", "pacman"]
Signed = Literal["index", "packages"]
PackagePattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9{][A-Za-z0-9+._{}-]*$", max_length=100)]
"""A package's name, in which `{release}` stands for a version: components that begin with a digit."""
RepositoryUrl = Annotated[str, StringConstraints(pattern=r"^(https?://[^\s]+|\{address\}[^\s]*)( [A-Za-z0-9._/-]+)?$")]


class RepositoryKeys(Model):
    """A repository's public keys: of a package of the archive, or a user's.

    `files` are patterns (fnmatch) of paths in the package, or paths relative to the catalogue. `revoked` is a file of
    fingerprints, one a line, whose keys are not trusted.
    """

    package: str = Field(default="", description="a package of the Debian archive; none: files of your own")
    suites: tuple[str, ...] = Field(default=(), description="where that package is looked up, the preferred first")
    architecture: str = Field(default="", description="whose index lists it; none: that of the kernel")
    files: tuple[str, ...] = Field(min_length=1)
    revoked: str = ""


class SnapshotService(Model):
    """A service that keeps all states of an archive (see its `source`).

    Its answers are not signed. They only tell at which time a release was new; the index of that time is signed.
    """

    address: Annotated[str, StringConstraints(pattern=r"^https?://[^\s{}]+$")]
    archive: Name = Field(description="the service's name of the archive")
    sources: tuple[str, ...] = Field(min_length=1, description="source packages of kernels, with {arch}")


class CatalogueEntry(Model):
    """A named kernel. What it leaves out is the catalogue's."""

    description: str = ""
    repositories: tuple[RepositoryUrl, ...] = Field(
        default=(), description="addresses with {arch} and {address}; for apt with the suite behind a blank"
    )
    image: PackagePattern | None = Field(default=None, description="the package with the kernel: linux-image-{release}")
    parts: tuple[PackagePattern, ...] | None = Field(default=None, description="packages of the rest, of its version")
    optional: tuple[PackagePattern, ...] | None = Field(default=None, description="parts that may be missing")
    version: str = Field(default="", description="a version prefix; empty for the newest")
    architectures: tuple[Name, ...] = Field(default=(), description="if it is not for all of the catalogue's")
    page_kib: PageKib = 4
    va_bits: VaBits | None = Field(default=None, description="the widest addresses of its configuration")
    keys: RepositoryKeys | None = None
    signed: Signed | None = None
    archived: bool = Field(default=False, description="a snapshot of the past: its index may have expired")
    flavour: str = Field(default="", description="kernels of the same flavour are bisected together: --distro")


class Catalogue(Model):
    """A distribution. `name` is the file's, `folder` the one that it is in."""

    name: Name
    folder: str = ""
    description: str
    source: str = Field(default="", description="where these values come from")
    format: RepositoryFormat
    signed: Signed = Field(default="index", description="what the keys sign: the index, or each package")
    keys: RepositoryKeys
    architectures: dict[Name, Name] = Field(min_length=1, description="the repository's names of architectures")
    addresses: dict[Name, str] = Field(default={}, description="{address} by architecture; `default` for the others")
    snapshots: SnapshotService | None = Field(default=None, description="where bisections find old releases")
    image: PackagePattern | None = None
    parts: tuple[PackagePattern, ...] = ()
    optional: tuple[PackagePattern, ...] = ()
    kernels: dict[Name, CatalogueEntry] = Field(min_length=1)


class RepositoryKernel(Model):
    """A distribution's named kernel for an architecture, all values set.

    `architecture` is the repository's name of the architecture. Parts are patterns as in the catalogue. `pinned` are
    the packages of an exact kernel, as a bisection has them. `states` are the repositories with a `{time}` in them.
    """

    distribution: Name
    folder: str = ""
    format: RepositoryFormat
    signed: Signed
    keys: RepositoryKeys
    architecture: str
    repositories: tuple[str, ...] = Field(min_length=1)
    image: str
    parts: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    version: str = ""
    archived: bool = False
    page_kib: PageKib = 4
    va_bits: VaBits | None = None
    flavour: str = ""
    pinned: tuple[KernelPart, ...] = ()
    snapshots: SnapshotService | None = None
    states: tuple[str, ...] = ()
