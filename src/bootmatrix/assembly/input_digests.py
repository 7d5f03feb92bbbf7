"""Digests of a plan's inputs, to detect changes before a run is resumed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bootmatrix.assembly.extra_qemu_args import drive_files
from bootmatrix.assembly.image.builder import MAX_BASES, Builder
from bootmatrix.assembly.image.packages import local_debs
from bootmatrix.assembly.image.recipe import for_architecture, placeholders, read_sources, source_digest
from bootmatrix.assembly.initrd.files import source_digests
from bootmatrix.assembly.prebuilt_guest import prebuilt_bootable
from bootmatrix.assembly.user_files import filled, in_a_line
from bootmatrix.assembly.userland import references
from bootmatrix.errors import BootmatrixError
from bootmatrix.load.piped import kept
from bootmatrix.load.spec import spec_files
from bootmatrix.model import Cell, ImageRecipe, ImageSource, Profile, Spec
from bootmatrix.model.image import DOCKERFILE_KIND, RECIPE_KIND
from bootmatrix.redact import redacted_reference
from bootmatrix.source import image_sources
from bootmatrix.store import sha256_of


def digests(
    cells: Iterable[Cell], specs: Mapping[str, Spec], profiles: Mapping[str, Profile], builder: Builder
) -> dict[str, str]:
    """Digest each spec, profile and image recipe of the cells, by path or name.

    For an unreadable input the error replaces the digest: its cells report it.
    """
    cells = tuple(cells)
    used = {name: profiles[name] for name in sorted({cell.arch for cell in cells})}
    digested = {f"profile {name}": _of(profile.model_dump_json()) for name, profile in used.items()}
    for path in sorted({cell.spec for cell in cells}):
        files = " ".join(_spec_digest(file) for file in spec_files(Path(path)))
        digested[path] = _of(f"{files} {_sources(specs[path])}")
        copied = (volume.image for volume in specs[path].volumes if volume.format == "oci")
        for reference in (*references(specs[path]), *copied):
            digested.update(_images(reference, Path(specs[path].path), used.values(), builder))
    for file in {file for cell in cells for file in drive_files(cell.qemu_args)}:
        digested[f"drive {file}"] = sha256_of(file) if file.is_file() else "not there"
    for cell in cells:
        name = f"{cell.spec} for {cell.target}"
        if specs[cell.spec].own and name not in digested:
            digested[name] = _own(specs[cell.spec], cell, profiles[cell.arch])
    return digested


def _spec_digest(file: Path) -> str:
    """Digest a spec, also one that was piped."""
    data = kept(file)
    return sha256_of(file) if data is None else hashlib.sha256(data).hexdigest()


def _own(spec: Spec, cell: Cell, profile: Profile) -> str:
    """Digest the files of a prebuilt guest."""
    assert spec.own
    try:
        bootable = prebuilt_bootable(spec.own, Path(spec.path).parent, profile, profile.machine(cell.machine))
    except BootmatrixError as error:
        return _of(error.message)
    return " ".join(part.sha256 for part in bootable.parts().values())


def _sources(spec: Spec) -> str:
    try:
        return " ".join(source_digests(spec).values())
    except BootmatrixError as error:
        return error.message


def _images(
    reference: str, path: Path, profiles: Iterable[Profile], builder: Builder, depth: int = 0
) -> Iterator[tuple[str, str]]:
    try:
        source = builder.source(reference, path)
        if source.kind != RECIPE_KIND:
            yield f"{path}: {redacted_reference(reference)}", _of(f"{source} {_file(source)}")
            return
        recipe_path = Path(source.path)
        recipe = builder.load_recipe(recipe_path)
    except BootmatrixError as error:
        yield f"{path}: {redacted_reference(reference)}", _of(error.message)
        return
    yield str(recipe_path), sha256_of(recipe_path)
    for profile in profiles:
        yield from _recipe_files(recipe, recipe_path, profile)
    if recipe.base and depth < MAX_BASES:
        yield from _images(recipe.base, recipe_path, profiles, builder, depth + 1)


def _recipe_files(recipe: ImageRecipe, recipe_path: Path, profile: Profile) -> Iterator[tuple[str, str]]:
    """Digest the files that a recipe adds for an architecture, by path or pattern.

    Runs of different architectures can be compared: a name means the same in both.
    """
    try:
        for name, entries in read_sources(for_architecture(recipe, profile), recipe_path).items():
            yield str(recipe_path.parent / name), source_digest(entries)
        for pattern, deb in zip(recipe.debs, local_debs(recipe, recipe_path, profile), strict=True):
            yield str(recipe_path.parent / filled(pattern, placeholders(profile))), deb.sha256
    except BootmatrixError as error:
        yield f"{recipe_path} for {profile.name}", _of(error.message)


def _file(source: ImageSource) -> str:
    """Digest a file or folder; the lock has registry images, not an engine's."""
    if source.kind != DOCKERFILE_KIND:
        return image_sources.load(source.kind).digest(source)
    folder = Path(source.path)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return _of("\n".join(in_a_line(f"{path.relative_to(folder)} {_digest(path)}") for path in paths))


def _digest(path: Path) -> str:
    """Digest the contents of a file, or the target of a link."""
    try:
        return str(path.readlink()) if path.is_symlink() else sha256_of(path)
    except OSError as error:
        return str(error.strerror)


def _of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
