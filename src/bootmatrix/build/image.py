"""Images made from packages: a `build.yml` becomes an OCI image of one layer in the store. Nothing foreign is run."""

from __future__ import annotations

import glob
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from debian.deb822 import PkgRelation

from bootmatrix.build.tree import Node, Tree, directory, symlink, text_file, write_tar
from bootmatrix.errors import BuildError
from bootmatrix.model import CopyFile, ImageConfig, ImageRecipe, Package, Profile, StoredImage
from bootmatrix.source.archive import Archive
from bootmatrix.source.deb import open_data, read_control
from bootmatrix.store import Store

FORMAT = "2"
"""Changes whenever the same recipe would give another image."""
EPOCH_S = 1492533000
"""2017-04-18T16:30Z, the time that LinuxKit gives to what it generates: images do not depend on when they are made."""
MAX_BASES = 16
MERGED_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders that are links into /usr, as on every Debian since bookworm (UsrMerge)."""
NOT_FOR_GUESTS = (
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/bash-completion",
    "usr/lib/systemd",
    "etc/systemd",
    "etc/init.d",
    "etc/cron.*",
)
"""What packages carry for people and for other inits; a recipe's `keep` brings it back."""

FindRecipe = Callable[[str, Path], Path]
LoadRecipe = Callable[[Path], ImageRecipe]


@dataclass(frozen=True)
class Builder:
    """What building needs. `find_recipe` finds the build.yml that an image's name in a file means."""

    store: Store
    archive: Archive
    find_recipe: FindRecipe
    load_recipe: LoadRecipe


@dataclass(frozen=True)
class Ingredients:
    """All that an image is made from."""

    recipe: ImageRecipe
    folder: Path
    base: StoredImage | None
    packages: tuple[Package, ...]
    debs: tuple[Path, ...]

    def key(self, profile: Profile) -> str:
        """Differs whenever the image would."""
        sources = {copy.source: _digest_of(self.folder / copy.source) for copy in self.recipe.files if copy.source}
        parts = {
            "format": FORMAT,
            "platform": profile.names.oci,
            "recipe": self.recipe.model_dump(mode="json", by_alias=True),
            "base": self.base.digest if self.base else None,
            "packages": [package.sha256 for package in self.packages],
            "debs": [_digest_of(deb) for deb in self.debs],
            "files": sources,
        }
        return json.dumps(parts, sort_keys=True)


def make_image(reference: str, spec: Path, profile: Profile, builder: Builder, depth: int = 0) -> StoredImage:
    """The image that a name in a file means, made for an architecture once and kept in the store.

    Raises:
        BuildError: the recipe cannot be followed: no such package, file or base image.
        InfraError: the archive, the network or the host is at fault.
    """
    if depth > MAX_BASES:
        raise BuildError(f"{spec}: images that are made from each other form a loop")
    path = builder.find_recipe(reference, spec)
    recipe = builder.load_recipe(path)
    base = make_image(recipe.base, path, profile, builder, depth + 1) if recipe.base else None
    debs = _local_debs(recipe, path.parent, profile)
    packages = _packages(recipe, base, debs, profile, builder.archive)
    ingredients = Ingredients(recipe, path.parent, base, packages, debs)
    key = ingredients.key(profile)
    with builder.store.once("image", key):
        known = builder.store.memo("image", key)
        if known is not None:
            image = StoredImage.model_validate_json(known)
            if all(builder.store.has(digest) for digest in image.layers):
                return image.model_copy(update={"reference": reference})
        image = _make(reference, path, ingredients, profile, builder)
        builder.store.set_memo("image", key, image.model_dump_json().encode())
        return image


def image_tree(image: StoredImage, store: Store) -> Tree:
    """The files of an image: its layers, one upon the other."""
    tree = Tree()
    for layer in image.layers:
        tree.add_layer(store.verified(layer))
    return tree


def _local_debs(recipe: ImageRecipe, folder: Path, profile: Profile) -> tuple[Path, ...]:
    names = {**profile.names.model_dump(), "debian_arch": profile.names.debian, "arch": profile.name}
    return tuple(_one_deb(pattern, folder, names) for pattern in recipe.debs)


def _one_deb(pattern: str, folder: Path, names: dict[str, str]) -> Path:
    try:
        wanted = pattern.format_map(names)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in names)
        raise BuildError(
            f"{folder / 'build.yml'}: in {pattern!r} only these names stand for something: {known}"
        ) from error
    found = sorted(glob.glob(str(folder / wanted)))  # noqa: PTH207  (may be absolute, or begin with ..)
    if not found:
        raise BuildError(
            f"no file matches {folder / wanted}",
            "Build the package for this architecture, or exclude the architecture.",
        )
    if len(found) > 1:
        raise BuildError(f"{len(found)} files match {folder / wanted}, and one is meant: {', '.join(found)}")
    control = read_control(Path(found[0]))
    if control.get("Architecture") not in {names["debian_arch"], "all"}:
        raise BuildError(
            f"{found[0]} is a package for {control.get('Architecture')!r}, and the guest is {names['debian_arch']!r}"
        )
    return Path(found[0])


def _packages(
    recipe: ImageRecipe, base: StoredImage | None, debs: Iterable[Path], profile: Profile, archive: Archive
) -> tuple[Package, ...]:
    """Packages of the archive: those named, and those that they and the local ones depend on."""
    controls = [read_control(deb) for deb in debs]
    local = {control["Package"] for control in controls}
    without = {*recipe.without, *local, *(name.split(" ")[0] for name in (base.packages if base else ()))}
    needed = [name for control in controls for name in _depends(control, without)]
    names = tuple(name for name in dict.fromkeys((*recipe.packages, *needed)) if name not in local)
    if not names:
        return ()
    return archive.closure(names, tuple(sorted(without)), recipe.suites, profile.names.debian)


def _depends(control: dict[str, str], without: set[str]) -> list[str]:
    fields = ", ".join(control[field] for field in ("Pre-Depends", "Depends") if control.get(field))
    alternatives = [[str(one["name"]) for one in group] for group in PkgRelation.parse_relations(fields) if group]
    return [names[0] for names in alternatives if not without.intersection(names)]


def _make(reference: str, path: Path, ingredients: Ingredients, profile: Profile, builder: Builder) -> StoredImage:
    recipe, base, store = ingredients.recipe, ingredients.base, builder.store
    layer = _merged_root()
    if base:
        layer.graft(image_tree(base, store), "")
    for package in (*(builder.archive.fetch(package) for package in ingredients.packages), *ingredients.debs):
        with open_data(package) as archive:
            layer.add_tar(archive)
    for copy in recipe.files:
        _copy(copy, ingredients.folder, path, layer)
    _drop(layer, recipe)
    _prune_merged(layer)
    digest, size = _write_layer(layer, store)
    config = _config(recipe, base)
    packages = (*(base.packages if base else ()), *(f"{one.name} {one.version}" for one in ingredients.packages))
    packages += tuple(deb.name for deb in ingredients.debs)
    manifest = _write_manifest(digest, size, config, profile.names.oci, store)
    return StoredImage(
        reference=reference, digest=manifest, layers=(digest,), config=config, size_bytes=size, packages=packages
    )


def _merged_root() -> Tree:
    tree = Tree()
    tree.put("usr", directory())
    for name in MERGED_FOLDERS:
        tree.put(f"usr/{name}", directory())
        tree.put(name, symlink(f"usr/{name}"))
    return tree


def _prune_merged(tree: Tree) -> None:
    """Take away links into /usr that nothing uses."""
    for name in MERGED_FOLDERS:
        if not tree.matching([f"usr/{name}/*"]):
            tree.remove(name)
            tree.remove(f"usr/{name}")


def _copy(copy: CopyFile, folder: Path, recipe_path: Path, tree: Tree) -> None:
    mode = int(copy.mode, 8) if copy.mode else None
    if copy.directory:
        tree.put(copy.path, directory(mode or 0o755))
    elif copy.symlink is not None:
        tree.put(copy.path, symlink(copy.symlink))
    elif copy.contents is not None:
        tree.put(copy.path, text_file(copy.contents, mode or 0o644))
    elif copy.concat:
        files = [node for path in tree.matching(copy.concat) if (node := tree.nodes[path]).kind == "file"]
        tree.put(copy.path, Node("file", mode or 0o644, data=b"".join(node.read() for node in files)))
    elif copy.source is not None:
        _copy_source(folder / copy.source, copy, mode, recipe_path, tree)
    else:
        raise BuildError(
            f"{recipe_path}: the file {copy.path} has no content",
            "Give it one of: source, contents, concat, symlink, directory.",
        )


def _copy_source(source: Path, copy: CopyFile, mode: int | None, recipe_path: Path, tree: Tree) -> None:
    root = recipe_path.parent.resolve()
    if not source.resolve().is_relative_to(root):
        raise BuildError(f"{recipe_path}: the source {copy.source!r} is outside the recipe's folder")
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            below = f"{copy.path}/{path.relative_to(source)}"
            if path.is_symlink():
                tree.put(below, symlink(str(path.readlink())))
            elif path.is_dir():
                tree.put(below, directory())
            elif path.is_file():
                tree.put(below, Node("file", 0o755 if path.stat().st_mode & 0o100 else 0o644, data=path.read_bytes()))
    elif source.is_file():
        default = 0o755 if source.stat().st_mode & 0o100 else 0o644
        tree.put(copy.path, Node("file", mode or default, data=source.read_bytes()))
    else:
        raise BuildError(f"{recipe_path}: there is no file {source}")


def _drop(tree: Tree, recipe: ImageRecipe) -> None:
    kept = set(tree.matching(recipe.keep))
    for path in tree.matching((*NOT_FOR_GUESTS, *recipe.drop)):
        if path not in kept and path in tree.nodes and not any(one.startswith(path + "/") for one in kept):
            del tree.nodes[path]


def _write_layer(tree: Tree, store: Store) -> tuple[str, int]:
    with store.writer() as file:
        with tarfile.open(fileobj=cast(IO[bytes], file), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            write_tar(tree, archive, EPOCH_S)
        size = file.tell()
        return file.commit(), size


def _config(recipe: ImageRecipe, base: StoredImage | None) -> ImageConfig:
    below = base.config if base else ImageConfig()
    return ImageConfig(
        entrypoint=recipe.entrypoint or (() if recipe.cmd else below.entrypoint),
        cmd=recipe.cmd or (() if recipe.entrypoint else below.cmd),
        env=_environment(below.env, recipe.env),
        workdir=recipe.workdir if recipe.workdir != "/" else below.workdir,
        user=recipe.user or below.user,
        labels={**below.labels, **recipe.labels},
    )


def _environment(below: tuple[str, ...], own: dict[str, str]) -> tuple[str, ...]:
    variables = {name: value for name, _, value in (text.partition("=") for text in below)}
    return tuple(f"{name}={value}" for name, value in {**variables, **own}.items())


def _write_manifest(layer: str, layer_bytes: int, config: ImageConfig, platform: str, store: Store) -> str:
    """Write an OCI image configuration and manifest (opencontainers/image-spec); the manifest's digest."""
    system, architecture, *variant = platform.split("/")
    image = {
        "created": "2017-04-18T16:30:00Z",
        "architecture": architecture,
        "os": system,
        **({"variant": variant[0]} if variant else {}),
        "config": {
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.cmd),
            "Env": list(config.env),
            "WorkingDir": config.workdir,
            "User": config.user,
            "Labels": config.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }
    body = json.dumps(image, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", store.add_bytes(body), len(body)),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer, layer_bytes)],
    }
    return store.add_bytes(json.dumps(manifest, sort_keys=True).encode())


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _digest_of(path: Path) -> str:
    """The digest of a file, or of a folder's names, modes and contents.

    Raises:
        BuildError: there is no such file.
    """
    if path.is_dir():
        parts = [
            f"{one.relative_to(path)} {one.lstat().st_mode} {_leaf_digest(one)}" for one in sorted(path.rglob("*"))
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if not path.is_file():
        raise BuildError(f"there is no file {path}")
    return _leaf_digest(path) + str(path.stat().st_mode & 0o100)


def _leaf_digest(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
