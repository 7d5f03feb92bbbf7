"""Images made from packages (`build.yml`), and images as they come out."""

from typing import Any

from pydantic import Field

from bootmatrix.model.base import Model, Sha256

LABEL = "org.mobyproject.config"
"""Image label with a container's defaults, as JSON."""


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
    `drop` are globs of paths in the image. `replaces` are LinuxKit's images that this one stands in for. `labels` are
    OCI labels: `org.mobyproject.config` gives a container's defaults, `bootmatrix.modules` kernel
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


class PackageRecipe(Model):
    """The build.yml of a package of LinuxKit's (docs/packages.md there), whose image a Docker engine builds.

    `config` becomes the label `org.mobyproject.config`; `build_args` are `NAME=VALUE`. What is said for LinuxKit's own
    `pkg build`, of names and tags in registries, is read and not used.
    """

    image: str = ""
    org: str = ""
    tag: str = ""
    dockerfile: str = "Dockerfile"
    arches: tuple[str, ...] = ()
    extra_sources: tuple[str, ...] = Field(default=(), alias="extra-sources")
    gitrepo: str = ""
    network: bool = False
    disable_cache: bool = Field(default=False, alias="disable-cache")
    config: dict[str, Any] | None = None
    build_args: tuple[str, ...] = Field(default=(), alias="buildArgs")
    depends: dict[str, Any] = {}


class ImageConfig(Model):
    """The part of an OCI image's configuration that a container takes its defaults from."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""
    labels: dict[str, str] = {}


RECIPE_KIND, DOCKERFILE_KIND = "recipe", "dockerfile"


class ImageSource(Model):
    """Where an image comes from: `path` is a file or a folder, `name` is the image's in a registry, engine or file.

    `kind` is the name of an image source, or that of a folder with a build.yml of ours or with a Dockerfile. `prefix`
    is how its references begin, if not by the kind and a colon.
    """

    kind: str
    path: str = ""
    name: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        return (self.prefix or f"{self.kind}:") + ":".join(part for part in (self.path, self.name) if part)

    @property
    def is_made_here(self) -> bool:
        """True if it is a folder of which an image is made."""
        return self.kind in {RECIPE_KIND, DOCKERFILE_KIND}


class ImageOverride(Model):
    """What the user puts in the place of images: those whose names match the glob `pattern` come from `source`.

    Paths in `source` are from `folder`.
    """

    pattern: str
    source: str
    folder: str = "."


class StoredImage(Model):
    """An image in the local store: an OCI manifest's digest, its layers' digests lowest first, and its config."""

    reference: str
    digest: Sha256
    layers: tuple[Sha256, ...]
    config: ImageConfig
    size_bytes: int
    packages: tuple[str, ...] = ()
    package_sums: dict[str, Sha256] = {}
