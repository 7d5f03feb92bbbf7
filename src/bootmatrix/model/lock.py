"""What `bootmatrix lock` writes: exact kernels, packages and images, so that a later run uses just those."""

from typing import Annotated

from pydantic import StringConstraints

from bootmatrix.model.base import Model
from bootmatrix.model.kernel import Kernel, Package

ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class Lock(Model):
    """`kernels` by `debian-architecture/flavour/kernel name`, `packages` by `debian-architecture` and then by name.

    `images` has the digests of images of registries, `sha256:…`, by their whole names with a tag.
    """

    format: int = 1
    kernels: dict[str, Kernel]
    packages: dict[str, dict[str, Package]]
    images: dict[str, ImageDigest] = {}
