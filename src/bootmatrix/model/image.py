"""Images made from packages (`build.yml`), and images as they come out."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Model, Sha256
from bootmatrix.model.contents import Component

LABEL = "org.mobyproject.config"
"""Image label with a container's defaults, as JSON."""


class CopyFile(Model):
    """A file, folder or link for an image; `source` stays in its folder;
    `{debian_arch}` and the other names of the profile are replaced in it.

    `concat` are globs of files of the image: the new file is their concatenation, in the order of their paths.
    """

    path: str
    source: str | None = None
    concat: tuple[str, ...] = ()
    contents: str | None = None
    symlink: str | None = None
    directory: bool = False
    mode: str = ""


class ImageRecipe(Model):
    """A recipe of an image: `build.yml`.

    `packages` come from the archive with their dependencies, except those in `without`. `debs` are globs of local
    .deb files; `{debian_arch}` and the other names of the profile are replaced. `keep` and `drop` are globs of
    paths in the image; `drop_unused_libraries` drops shared libraries that no program in it links. `replaces` are
    LinuxKit's images that this one replaces. `labels` are OCI labels:
    `org.mobyproject.config` has a container's defaults, `bootmatrix.modules` kernel modules, `bootmatrix.network`
    the need of a network card.

    `prepare` are commands that run as root in a guest of the architecture, once. With `configure`, the packages'
    maintainer scripts run there before.
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
    drop_unused_libraries: bool = False
    configure: bool = False
    prepare: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = {}
    workdir: str = "/"
    user: str = ""
    labels: dict[str, str] = {}
    replaces: tuple[str, ...] = ()

    @property
    def is_prepared(self) -> bool:
        """True if a part of the image is made in a guest."""
        return self.configure or bool(self.prepare)


class PackageRecipe(Model):
    """A LinuxKit package's build.yml (docs/packages.md there), for Docker.

    `config` becomes the label `org.mobyproject.config`; `build_args` are `NAME=VALUE`. Keys for LinuxKit's own
    `pkg build`, such as names and tags in registries, are ignored.
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
    """The part of an OCI image configuration with the defaults of containers."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""
    labels: dict[str, str] = {}


RECIPE_KIND, DOCKERFILE_KIND = "recipe", "dockerfile"


class ImageSource(Model):
    """An image's source: `path`, or `name` in a registry, engine or file."""

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
    """A user's override: images of the glob `pattern` come from `source`.

    Paths in `source` are relative to `folder`.
    """

    pattern: str
    source: str
    folder: str = "."


class StoredImage(Model):
    """An image in the store: digests of manifest and layers, config.

    `recipe_digest` is empty for an image that is not built from a recipe. `contents` is computed for each use, and
    not kept in the store.
    """

    reference: str
    digest: Sha256
    layers: tuple[Sha256, ...]
    config: ImageConfig
    size_bytes: int
    packages: tuple[str, ...] = ()
    package_sums: dict[str, Sha256] = {}
    recipe_digest: str = ""
    contents: tuple[Component, ...] = ()


Mirror = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.:\[\]_-]+$")]


class Registry(Model):
    """Settings of a registry.

    `mirrors` are tried first, in order. `plain_http` allows HTTP without TLS; by default only for registries on
    this machine without a `ca`. `ca` is a file of certificates, relative to the file that names it. `realms` are
    hosts of another domain to which credentials for it may be sent.
    """

    mirrors: tuple[Mirror, ...] = ()
    plain_http: bool | None = None
    ca: str = ""
    realms: tuple[str, ...] = ()


class Registries(Model):
    """Registries by `host` or `host:port`; Docker Hub is `docker.io`."""

    registries: dict[str, Registry] = {}
