"""Images made from packages (`build.yml`), and images as they come out."""

from __future__ import annotations

from pydantic import Field

from bootmatrix.model.base import Model, Sha256


class CopyFile(Model):
    """A file, folder or link put into an image. `source` is relative to build.yml and stays inside its folder.

    `concat` are globs of files that are in the image already: the file is made of all of them, in the order of their
    paths.
    """

    path: str
    source: str | None = None
    concat: tuple[str, ...] = ()
    contents: str | None = None
    symlink: str | None = None
    directory: bool = False
    mode: str = ""


class ImageRecipe(Model):
    """What `build.yml` says.

    `packages` come from the archive with their dependencies, except those named in `without`; `debs` are local .deb
    files as globs in which `{debian_arch}` and the other names of the profile stand for the architecture's; `keep` and
    `drop` are globs of paths in the image. `replaces` are repositories of other registries that this image stands in
    for. `labels` are OCI labels: `org.mobyproject.config` gives a container's defaults, `bootmatrix.modules` kernel
    modules and `bootmatrix.network` whether a network card is needed.
    """

    description: str = ""
    base: str | None = Field(default=None, alias="from")
    suites: tuple[str, ...] = ("bookworm",)
    packages: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    debs: tuple[str, ...] = ()
    files: tuple[CopyFile, ...] = ()
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = {}
    workdir: str = "/"
    user: str = ""
    labels: dict[str, str] = {}
    replaces: tuple[str, ...] = ()


class ImageConfig(Model):
    """The part of an OCI image's configuration that a container takes its defaults from."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""
    labels: dict[str, str] = {}


class StoredImage(Model):
    """An image in the local store: an OCI manifest's digest, its layers' digests lowest first, and its config."""

    reference: str
    digest: Sha256
    layers: tuple[Sha256, ...]
    config: ImageConfig
    size_bytes: int
    packages: tuple[str, ...] = ()
