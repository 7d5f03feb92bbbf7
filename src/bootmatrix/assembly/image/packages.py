"""Packages of an image: local ones, named ones, and their dependencies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.assembly.image.recipe import placeholders
from bootmatrix.assembly.user_files import filled, take_into
from bootmatrix.errors import BuildError, InputError, readable
from bootmatrix.load.local_files import matching, project_root
from bootmatrix.model import ImageRecipe, Package, Profile
from bootmatrix.source.archive import Archive
from bootmatrix.source.deb import read_control
from bootmatrix.source.resolve import parse_relation
from bootmatrix.store import sha256_of

MAX_ALTERNATIVES = 500
"""Of the dependencies of local packages: each is looked up in the archive, which takes a tenth of a second."""


@dataclass(frozen=True)
class LocalDeb:
    """A package that a recipe names by its file. `depends` are alternatives."""

    path: Path
    sha256: str
    name: str
    version: str
    architecture: str = ""
    provides: tuple[str, ...] = ()
    depends: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.path.name})"


def local_debs(recipe: ImageRecipe, recipe_path: Path, profile: Profile) -> tuple[LocalDeb, ...]:
    """Find the packages of a recipe's `debs`.

    Raises BuildError if a pattern matches none or several, or a package is damaged or for another architecture.
    """
    names = placeholders(profile)
    return tuple(_one_deb(pattern, recipe_path, names) for pattern in recipe.debs)


def _one_deb(pattern: str, recipe_path: Path, names: dict[str, str]) -> LocalDeb:
    name = filled(pattern, names, f"{recipe_path}: ")
    pattern_path = recipe_path.parent / name
    root = project_root(recipe_path)
    matches = sorted(matching(recipe_path.parent, name, root))
    if not matches:
        raise BuildError(
            f"no file matches {pattern_path}", "Build the package for this architecture, or exclude the architecture."
        )
    if len(matches) > 1:
        raise BuildError(f"{len(matches)} files match {pattern_path}, expected one: {', '.join(map(str, matches))}")
    deb = matches[0]
    if not deb.resolve().is_relative_to(root):
        raise BuildError(
            f"{recipe_path}: the package {name!r} lies outside of {root}, the recipe's project",
            "Copy it to a folder of the project. A project is a git work tree, or the folder that has 'images' in it.",
        )
    if not deb.is_file():
        raise BuildError(f"{recipe_path}: {deb} is not a regular file")
    return _read(deb, names["debian_arch"])


def take_deb(deb: LocalDeb, folder: Path) -> Path:
    """Copy a local package to a private folder. Raises InputError if it changed."""
    with readable(deb.path, BuildError):
        taken = take_into(folder, deb.path, deb.sha256)
    control = read_control(taken)
    if (control["Package"], control["Version"]) != (deb.name, deb.version):
        raise InputError(f"{deb.path}: has changed while it was read", "Try again when nothing writes to it.")
    return taken


def _read(path: Path, debian_arch: str) -> LocalDeb:
    control = read_control(path)
    if control["Architecture"] not in {debian_arch, "all"}:
        raise BuildError(f"{path} is a package for {control['Architecture']!r}, and the guest is {debian_arch!r}")
    return LocalDeb(
        path=path,
        sha256=sha256_of(path),
        name=control["Package"],
        version=control["Version"],
        architecture=control["Architecture"],
        provides=tuple(group[0].split(" ")[0] for group in _relations(path, control.get("Provides", ""))),
        depends=tuple(
            group for field in ("Pre-Depends", "Depends") for group in _relations(path, control.get(field, ""))
        ),
    )


def _relations(path: Path, field: str) -> list[tuple[str, ...]]:
    """Parse a field into alternatives, `name` or `name (>= version)`.

    Raises BuildError if the field is invalid.
    """
    groups = []
    for group in (part for part in field.split(",") if part.strip()):
        try:
            relations = [parse_relation(" ".join(name.split())) for name in group.split("|")]
        except BuildError as error:
            raise BuildError(f"{path} has a dependency that cannot be read: {group.strip()!r}") from error
        groups.append(
            tuple(
                f"{group.name} ({group.operator} {group.version})" if group.operator else group.name
                for group in relations
            )
        )
    return groups


def archive_packages(
    recipe: ImageRecipe, base: Sequence[str], debs: Sequence[LocalDeb], profile: Profile, archive: Archive
) -> tuple[Package, ...]:
    """Find packages of the archive: the named ones, and all dependencies.

    `base` are the packages of the base image, `name version`, which are installed already.

    Raises NoSuchPackage if a package does not exist for this architecture, InfraError for a fault of the archive.
    """
    local = {name for deb in debs for name in (deb.name, *deb.provides)}
    without = {*recipe.without, *local, *(package.split(" ")[0] for package in base)}
    suites = tuple(dict.fromkeys((*recipe.suites, *profile.suites)))
    search = _Search(archive, tuple(sorted(without)), suites, profile.names.debian)
    groups = [group for deb in debs for group in deb.depends]
    if (count := sum(len(group) - 1 for group in groups)) > MAX_ALTERNATIVES:
        listed = ", ".join(deb.path.name for deb in debs)
        raise BuildError(f"{listed}: {count} alternative dependencies, more than the limit of {MAX_ALTERNATIVES}")
    needed = [search.first_there(group) for group in groups if not without & {name.split(" ")[0] for name in group}]
    names = tuple(name for name in dict.fromkeys((*recipe.packages, *needed)) if name not in local)
    return search.closure(names) if names else ()


@dataclass(frozen=True)
class _Search:
    archive: Archive
    without: tuple[str, ...]
    suites: tuple[str, ...]
    debian_arch: str

    def closure(self, names: Sequence[str]) -> tuple[Package, ...]:
        return self.archive.closure(names, self.without, self.suites, self.debian_arch)

    def first_there(self, alternatives: Sequence[str]) -> str:
        """Return the first alternative of the archive, else the last, for the error."""
        for name in alternatives[:-1]:
            try:
                self.closure([name])
            except BuildError:  # a lock does not say NoSuchPackage
                continue
            return name
        return alternatives[-1]
