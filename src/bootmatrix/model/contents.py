"""Contents of booted images: packages, files, images with digests."""

from typing import Literal

from bootmatrix.model.base import Model, Sha256

ComponentKind = Literal["package", "file", "image", "disk"]

PRODUCT_ROLES = ("services", "checks", "onboot", "onshutdown", "files")
"""Sections of a spec whose images may be the product, the likeliest first. Init images never are."""


class Component(Model):
    """A package, a file or a whole image in the guest.

    `is_named`: the author of the spec or recipe named it; other packages came as dependencies, or with a base image.
    `is_local`: it came from a file of the user's, not from an archive or a registry.
    """

    kind: ComponentKind
    name: str
    version: str = ""
    architecture: str = ""
    sha256: Sha256
    is_named: bool = False
    is_local: bool = False

    def __str__(self) -> str:
        aside = ", ".join(part for part in (self.architecture, f"sha256 {self.sha256[:12]}…") if part)
        return f"{self.name}{f' {self.version}' if self.version else ''} ({aside})"


class ImageContents(Model):
    """One image's contents and sections; `image` is empty for the spec's."""

    image: str = ""
    sha256: Sha256 | None = None
    roles: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()

    @property
    def named(self) -> tuple[Component, ...]:
        """The components that the author named."""
        return tuple(component for component in self.components if component.is_named)

    @property
    def others(self) -> tuple[Component, ...]:
        """The components that came with them."""
        return tuple(component for component in self.components if not component.is_named)


def product_of(contents: tuple[ImageContents, ...]) -> tuple[Component, ...]:
    """Return the tested product: images of the first section with any.

    A guest's services are its product, or its checks if it has no service, and so on. The files of the user are
    always part of it.
    """
    local = [part for image in contents if "init" not in image.roles for part in image.named if part.is_local]
    for role in PRODUCT_ROLES:
        named = [
            part for image in contents if role in image.roles and "init" not in image.roles for part in image.named
        ]
        if named:
            return tuple(dict.fromkeys((*named, *local)))
    return tuple(dict.fromkeys(local))
