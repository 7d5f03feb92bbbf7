"""Images made from packages: a `build.yml` becomes an OCI image of one layer.

Nothing of the packages is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bootmatrix.assembly.image.contents import pulled_contents, recipe_contents
from bootmatrix.assembly.image.dpkg_database import has_database, read_unpacked, register
from bootmatrix.assembly.image.manifest import write_layer, write_manifest
from bootmatrix.assembly.image.packages import LocalDeb, archive_packages, local_debs, take_deb
from bootmatrix.assembly.image.recipe import Sources, drop, for_architecture, put_file, read_sources, source_digest
from bootmatrix.assembly.slices import Spool
from bootmatrix.assembly.tree import Tree, directory, symlink
from bootmatrix.errors import BuildError, InputError
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.load.images import find_source
from bootmatrix.load.local_files import project_root
from bootmatrix.load.recipe import RECIPE, load_package, load_recipe
from bootmatrix.model import ImageConfig, ImageOverride, ImageRecipe, ImageSource, Package, Profile, StoredImage
from bootmatrix.model.image import DOCKERFILE_KIND, LABEL, RECIPE_KIND
from bootmatrix.model.spec import ARCH
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import Archive
from bootmatrix.source.deb import open_data
from bootmatrix.source.images.engine import Build
from bootmatrix.source.images.images import Images
from bootmatrix.source.images.services import cached_image
from bootmatrix.store import Store

OWN_INIT_LABELS = {"bootmatrix.protocol", "bootmatrix.fork"}
"""Labels of an init image whose account makes a verdict."""
FORMAT = "5"
"""Changes whenever the same recipe would give another image."""
MAX_BASES = 16
MERGED_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders that are links into /usr, as on every Debian since bookworm (UsrMerge)."""


@dataclass(frozen=True)
class PrepareOrder:
    """An image without what `configure` and `prepare` add.

    Commands may fetch packages of `suites`.
    """

    image: StoredImage
    recipe: ImageRecipe
    path: Path
    suites: tuple[str, ...] = ()


class Prepare(Protocol):
    """Run a recipe's commands in a guest; return the image and their packages."""

    def __call__(
        self, order: PrepareOrder, profile: Profile, builder: Builder, /
    ) -> tuple[StoredImage, tuple[Package, ...]]:
        """Return the prepared image.

        Raises BuildError if a command fails, InfraError for a fault of the archive, the network or the host.
        """

    def close(self) -> None:
        """End running guests."""


@dataclass(frozen=True)
class Builder:
    """Everything that building needs.

    `images` has images that are not made from packages; `overrides` are the user's. `fork` enables the parts for
    forked guests.
    """

    store: Store
    archive: Archive
    load_recipe: Callable[[Path], ImageRecipe] = load_recipe
    fork: bool = False
    images: Images | None = None
    overrides: tuple[ImageOverride, ...] = ()
    prepare: Prepare | None = None

    def close(self) -> None:
        """End running downloads; their threads raise Interrupted."""
        self.archive.close()
        if self.prepare:
            self.prepare.close()
        if self.images:
            self.images.close()

    def sources(self) -> Images:
        """The images that are not made from packages; by default from public registries."""
        return self.images or Images(self.store, NullObserver(), self.archive.used)

    def source(self, reference: str, path: Path) -> ImageSource:
        """Find the source of an image named in the file `path`.

        Raises InputError if the name is invalid, or a folder or file does not exist.
        """
        return find_source(reference, path, self.overrides)


@dataclass(frozen=True)
class Ingredients:
    """All inputs of an image."""

    recipe: ImageRecipe
    path: Path
    base: StoredImage | None
    packages: tuple[Package, ...]
    debs: tuple[LocalDeb, ...]
    sources: Sources

    @property
    def names(self) -> tuple[str, ...]:
        """All packages in the image, `name version`."""
        below = self.base.packages if self.base else ()
        return (*below, *(f"{package.name} {package.version}" for package in self.packages), *map(str, self.debs))

    @property
    def sums(self) -> dict[str, str]:
        """The digest of each package, by its `name version`."""
        below = self.base.package_sums if self.base else {}
        own = {f"{package.name} {package.version}": package.sha256 for package in self.packages}
        return {**below, **own, **{str(deb): deb.sha256 for deb in self.debs}}

    @property
    def recipe_digest(self) -> str:
        """The digest of the image's own recipe and files, without packages or a base.

        Keys with their defaults do not count, so that a new key changes no digest.
        """
        recipe = self.recipe.model_dump(mode="json", by_alias=True, exclude={"description"}, exclude_defaults=True)
        parts = {"recipe": recipe, "files": {name: source_digest(entries) for name, entries in self.sources.items()}}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def key(self, profile: Profile) -> str:
        """Cache key of the image, without what is made in a guest.

        Keys for that count only if they are set.
        """
        unused = {"prepare", *(() if self.recipe.configure else ("configure",))}
        recipe = self.recipe.model_dump(mode="json", by_alias=True, exclude=unused)
        parts = {
            "format": FORMAT,
            "platform": profile.names.oci,
            "recipe": recipe,
            "base": self.base.digest if self.base else None,
            "packages": [package.sha256 for package in self.packages],
            "debs": [deb.sha256 for deb in self.debs],
            "files": {name: source_digest(entries) for name, entries in self.sources.items()},
        }
        return json.dumps(parts, sort_keys=True)


def make_image(reference: str, spec: Path, profile: Profile, builder: Builder, depth: int = 0) -> StoredImage:
    """Build the image that a name in a file means, for an architecture; cached.

    Raises BuildError if the recipe cannot be built: a package, file or base image is missing; InfraError for a fault of
    the archive, the network or the host.
    """
    if depth > MAX_BASES:
        raise BuildError(f"{spec}: circular 'from'")
    source = builder.source(reference, spec)
    if source.kind != RECIPE_KIND:
        if depth and source.path:
            _check_base(reference, spec, source)
        image = _without_power(foreign_image(source, profile, builder))
        contents = pulled_contents(image, reference, source, profile)
        return image.model_copy(update={"reference": reference, "contents": contents})
    path = Path(source.path)
    recipe = for_architecture(builder.load_recipe(path), profile)
    base = make_image(recipe.base, path, profile, builder, depth + 1) if recipe.base else None
    debs = local_debs(recipe, path, profile)
    packages = archive_packages(recipe, base.packages if base else (), debs, profile, builder.archive)
    ingredients = Ingredients(recipe, path, base, packages, debs, read_sources(recipe, path))
    key = ingredients.key(profile)
    image = cached_image("image", key, lambda: _make(reference, ingredients, profile, builder), builder.store)
    # Names of packages are no part of the key, and a lock, which may be anybody's, gives any to a digest.
    image = image.model_copy(update={"packages": ingredients.names, "package_sums": ingredients.sums})
    if recipe.is_prepared:
        if builder.prepare is None:
            raise BuildError(f"{path}: images cannot be prepared here")
        order = PrepareOrder(image, recipe, path, (*recipe.suites, *profile.suites))
        image, more = builder.prepare(order, profile, builder)
        packages = (*packages, *more)
    sources = ingredients.sources
    contents = recipe_contents(recipe, base=base, packages=packages, debs=debs, sources=sources, profile=profile)
    known = {"reference": reference, "recipe_digest": ingredients.recipe_digest, "contents": contents}
    return image.model_copy(update=known)


def shipped_digests(profile: Profile, builder: Builder) -> Iterator[str]:
    """Yield the digests of the shipped recipes without a base."""
    for path in sorted((specs_folder() / "images").glob(f"*/{RECIPE}")):
        with suppress(BuildError):  # it lacks a file for this architecture
            recipe = for_architecture(builder.load_recipe(path), profile)
            if recipe.base is None:
                yield Ingredients(recipe, path, None, (), (), read_sources(recipe, path)).recipe_digest


def _check_base(reference: str, recipe: Path, source: ImageSource) -> None:
    """Check that a recipe's base image is in its project, unless the user named it.

    Raises BuildError if a recipe, which may be anybody's, names an image elsewhere.
    """
    try:
        is_named_there = find_source(reference, recipe, ()) == source
    except InputError:  # the user's own image is in its place
        is_named_there = False
    root = project_root(recipe)
    if is_named_there and not Path(source.path).resolve().is_relative_to(root):
        raise BuildError(
            f"{recipe}: the image {reference!r} lies outside of {root}, the recipe's project",
            f"Copy it to a folder of the project, or name it yourself: --image {reference}=SOURCE.",
        )


def _without_power(image: StoredImage) -> StoredImage:
    """Remove labels that mark bootmatrix's own init: only recipes may set them."""
    labels = {name: value for name, value in image.config.labels.items() if name not in OWN_INIT_LABELS}
    return image.model_copy(update={"config": image.config.model_copy(update={"labels": labels})})


def foreign_image(source: ImageSource, profile: Profile, builder: Builder) -> StoredImage:
    """Fetch an image that is not made from packages.

    Raises BuildError if the image does not exist for the architecture, or cannot be built; InfraError if the image
    cannot be fetched.
    """
    images = builder.sources()
    if source.kind != DOCKERFILE_KIND:
        return images.image(source, profile.names.oci)
    folder = Path(source.path)
    package = load_package(folder)
    architecture = profile.names.oci.split("/")[1]
    if package.arches and architecture not in package.arches:
        raise BuildError(
            f"{folder}: the package is for {', '.join(package.arches)}, and not for {architecture}",
            f"Restrict the container to its architectures: annotations: {{{ARCH}: …}}.",
        )
    labels = {LABEL: json.dumps(package.config)} if package.config is not None else {}
    arguments = dict(text.split("=", 1) for text in package.build_args if "=" in text)
    return images.built(Build(folder, package.dockerfile, labels, arguments), profile.names.oci)


def image_tree(image: StoredImage, store: Store) -> Tree:
    """Apply an image's layers in order. Raises BuildError if one is invalid."""
    tree = Tree()
    for layer in image.layers:
        try:
            tree.add_layer(store.verified(layer))
        except BuildError as error:
            raise BuildError(f"the image {image.reference}: {error.message}", error.hint) from error
    return tree


def _make(reference: str, ingredients: Ingredients, profile: Profile, builder: Builder) -> StoredImage:
    recipe, base, store = ingredients.recipe, ingredients.base, builder.store
    with store.temporary() as (path, file), store.workspace() as folder:
        layer = _layer(ingredients, builder, Spool(path, file), folder)
        digest, size = write_layer(layer, store)
    config = _config(recipe, base)
    return StoredImage(
        reference=reference,
        digest=write_manifest((digest,), config, profile.names.oci, store),
        layers=(digest,),
        config=config,
        size_bytes=size,
    )


def _layer(ingredients: Ingredients, builder: Builder, spool: Spool, folder: Path) -> Tree:
    """Build the layer; contents of packages go to the spool.

    The user's own files are copied to the folder first, and used as they were when digested.
    """
    layer = _merged_root()
    if ingredients.base:
        layer.graft(image_tree(ingredients.base, builder.store), "")
    fetched = [builder.archive.fetch(package) for package in ingredients.packages]
    paths = (*fetched, *(take_deb(deb, folder) for deb in ingredients.debs))
    is_registered = ingredients.recipe.configure or has_database(layer)
    inherited = frozenset(layer.nodes) if is_registered else frozenset()
    for package in paths:
        with open_data(package) as archive:
            layer.add_tar(archive, spool)
    if is_registered:
        register(layer, [read_unpacked(package) for package in paths])
    for copy in ingredients.recipe.files:
        put_file(copy, ingredients.path, layer, ingredients.sources.get(copy.source or "", ()), folder)
    drop(layer, ingredients.recipe, inherited)
    _prune_merged(layer)
    return layer


def _merged_root() -> Tree:
    tree = Tree()
    tree.put("usr", directory())
    for name in MERGED_FOLDERS:
        tree.put(f"usr/{name}", directory())
        tree.put(name, symlink(f"usr/{name}"))
    return tree


def _prune_merged(tree: Tree) -> None:
    """Remove unused links into /usr."""
    for name in MERGED_FOLDERS:
        if not tree.matching([f"usr/{name}/*"]):
            tree.remove(name)
            tree.remove(f"usr/{name}")


def _config(recipe: ImageRecipe, base: StoredImage | None) -> ImageConfig:
    below = base.config if base else ImageConfig()
    # As in a Dockerfile: a new entrypoint drops the base's command, a new command keeps the entrypoint.
    return ImageConfig(
        entrypoint=recipe.entrypoint or below.entrypoint,
        cmd=recipe.cmd or (() if recipe.entrypoint else below.cmd),
        env=_environment(below.env, recipe.env),
        workdir=recipe.workdir if recipe.workdir != "/" else below.workdir,
        user=recipe.user or below.user,
        labels={**below.labels, **recipe.labels},
    )


def _environment(below: tuple[str, ...], own: dict[str, str]) -> tuple[str, ...]:
    variables = {name: value for name, _, value in (text.partition("=") for text in below)}
    return tuple(f"{name}={value}" for name, value in {**variables, **own}.items())
