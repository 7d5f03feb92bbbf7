"""Packages of the Debian archive, and the kernel that some of them are."""

from __future__ import annotations

from bootmatrix.model.base import Model, Sha256


class Package(Model):
    """One .deb of the archive. `filename` is its path below the archive's address."""

    name: str
    version: str
    architecture: str
    suite: str
    filename: str
    size_bytes: int
    sha256: Sha256
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.architecture} ({self.suite})"


class Kernel(Model):
    """A kernel name resolved for an architecture: `6.1` is today `6.1.0-50-cloud-…`, out of these packages.

    `release` is what `uname -r` will say; `packages` has the image first, then those that hold parts of it.
    """

    name: str
    release: str
    version: str
    architecture: str
    packages: tuple[Package, ...]
