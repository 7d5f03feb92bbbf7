"""Lock files: exact kernels, packages and images that later runs use."""

from typing import Annotated

from pydantic import StringConstraints

from bootmatrix.model.base import Model
from bootmatrix.model.kernel import Kernel, Package

ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class Lock(Model):
    """Pinned versions.

    `kernels` by `debian-architecture/flavour/kernel name`; `packages` by `debian-architecture`, then by name;
    `images`: digests `sha256:…` of registry images, by whole names with a tag.
    """

    format: int = 1
    kernels: dict[str, Kernel]
    packages: dict[str, dict[str, Package]]
    images: dict[str, ImageDigest] = {}
