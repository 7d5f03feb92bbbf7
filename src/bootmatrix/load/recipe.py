"""Images made from packages: `build.yml`, and which one an image's reference means."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath

from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.load.document import Document, Location, read_document
from bootmatrix.load.validate import suggest, validate
from bootmatrix.model import CopyFile, ImageRecipe, Names, PackageRecipe

RECIPE, DOCKERFILE = "build.yml", "Dockerfile"
PACKAGE = "@pkg:"
DOCKER_HUB = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
PLACEHOLDERS = {"arch", "debian_arch", *Names.model_fields}
"""What stands in `debs` for the architecture's names."""
MODE = re.compile(r"0*[0-7]{1,4}")


def find_recipe(reference: str, path: Path) -> Path:
    """The build.yml that a reference in the file `path` means.

    `@pkg:./images/influxdb` is a folder relative to that file; a repository, whatever its tag, is the shipped image
    that stands in for it.

    Raises:
        InputError: there is none.
    """
    if reference.startswith(PACKAGE):
        return _in_folder(reference, path)
    known = _stand_ins(specs_folder().resolve())
    recipe = known.get(repository(reference))
    if recipe is None:
        raise InputError(
            f"no image here stands in for {reference!r}.{suggest(repository(reference), known)}",
            "Make one from packages: a folder with a build.yml, named as @pkg:./folder.",
        )
    return recipe


def _in_folder(reference: str, path: Path) -> Path:
    name = reference.removeprefix(PACKAGE)
    if not name or "\0" in name or PurePosixPath(name).is_absolute():
        raise InputError(f"{reference!r} should name a folder relative to {path}, such as {PACKAGE}./images/mine")
    folder = path.parent / name
    recipe = folder / RECIPE
    try:
        if recipe.is_file():
            return recipe
    except OSError as error:
        raise InputError(f"{reference[:80]!r} cannot be the name of a folder: {error.strerror}") from error
    near = {f"{PACKAGE}./{file.parent.relative_to(path.parent)}" for file in path.parent.glob(f"*/*/{RECIPE}")}
    lack = f"holds no {RECIPE}" if folder.is_dir() else "is not there"
    raise InputError(f"the image {reference!r}: the folder {folder} {lack}.{suggest(reference, near)}")


def has_stand_in(reference: str) -> bool:
    """Whether an image here stands in for that of a registry."""
    return repository(reference) in _stand_ins(specs_folder().resolve())


def is_dockerfile(reference: str, path: Path) -> bool:
    """Whether `@pkg:` names a folder with a Dockerfile, and no recipe of ours beside it."""
    name = reference.removeprefix(PACKAGE)
    if not name or "\0" in name or PurePosixPath(name).is_absolute():
        return False
    folder = path.parent / name
    try:
        return is_package(folder)
    except OSError:
        return False


def is_package(folder: Path) -> bool:
    """Whether a folder is a package of LinuxKit's, whose image is built by a Docker engine."""
    recipe = folder / RECIPE
    if not recipe.is_file():
        return (folder / DOCKERFILE).is_file()
    return _describes_package(read_document(recipe), folder)


def _describes_package(recipe: Document, folder: Path) -> bool:
    return "image" in recipe.data or ((folder / DOCKERFILE).is_file() and "packages" not in recipe.data)


def load_package(folder: Path) -> PackageRecipe:
    """What the build.yml of a package of LinuxKit's says; without one, a Dockerfile stands for itself.

    Raises:
        InputError: it is faulty, or there is no Dockerfile.
    """
    path = folder / RECIPE
    package = PackageRecipe()
    if path.is_file():
        document = read_document(path)
        document.drop_empty()
        package = validate(document, PackageRecipe)
        if package.dockerfile not in {one.name for one in folder.iterdir() if one.is_file()}:
            document.complain(("dockerfile",), f"there is no file {folder / package.dockerfile}")
        document.raise_faults()
    return package


def repository(reference: str) -> str:
    """`linuxkit/init` of `docker.io/linuxkit/init:v1@sha256:…`: no registry if it is Docker's, no tag, no digest."""
    name = reference.split("@", 1)[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.split(":", 1)[0]
    for prefix in DOCKER_HUB:
        name = name.removeprefix(prefix)
    return name.removeprefix("library/")


@cache
def _stand_ins(specs: Path) -> dict[str, Path]:
    """Shipped recipes by the repositories that they stand in for."""
    found = {}
    for path in sorted((specs / "images").glob(f"*/{RECIPE}")):
        for replaced in _read(path)[0].replaces:
            found[repository(replaced)] = path
    return found


def load_recipe(path: Path) -> ImageRecipe:
    """Read a build.yml, and check that the images below it are there.

    Raises:
        InputError: it is faulty.
    """
    recipe, document = _read(path)
    _check_base(document, recipe, path)
    document.raise_faults()
    return recipe


def _read(path: Path) -> tuple[ImageRecipe, Document]:
    document = read_document(path)
    if _describes_package(document, path.parent):
        raise InputError(
            f"{path}: this is a package of LinuxKit's, with a Dockerfile",
            "It can be an image of a spec, but no image is made from it: build it with Docker, and name that.",
        )
    recipe = validate(document, ImageRecipe)
    for index, file in enumerate(recipe.files):
        _check_file(document, ("files", index), file, path.parent)
    for index, pattern in enumerate(recipe.debs):
        _check_deb(document, ("debs", index), pattern)
    for variable in recipe.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            document.complain(("env", variable), f"{variable!r} cannot be the name of an environment variable")
    document.raise_faults()
    return recipe, document


def _check_deb(document: Document, place: Location, pattern: str) -> None:
    if PurePosixPath(pattern).is_absolute() or not pattern.endswith(".deb"):
        document.complain(
            place, f"{pattern!r} should be a relative path of .deb files, such as ./dist/*_{{debian_arch}}.deb"
        )
    for name in re.findall(r"\{([^{}]*)\}?", pattern):
        if name not in PLACEHOLDERS:
            document.complain(place, f"nothing stands for {{{name}}}.{suggest(name, PLACEHOLDERS)}")


def _check_base(document: Document, recipe: ImageRecipe, path: Path) -> None:
    """Follow `from` down: it must end, and each must be there."""
    base, where, seen = recipe.base, path, {path.resolve()}
    while base is not None:
        if not (base.startswith(PACKAGE) or has_stand_in(base)):
            return  # a registry's, or in a file: asked for when it is needed
        try:
            where = find_recipe(base, where)
            base = _read(where)[0].base
        except InputError as error:
            document.complain(("from",), str(error))
            return
        if where.resolve() in seen:
            document.complain(
                ("from",), f"{recipe.base!r} comes back to {where}: images cannot be made from each other"
            )
            return
        seen.add(where.resolve())


def _check_file(document: Document, place: Location, file: CopyFile, folder: Path) -> None:
    if not file.path.strip("/") or ".." in PurePosixPath(file.path).parts:
        document.complain((*place, "path"), f"{file.path!r} cannot be a path in an image: it is empty or holds '..'")
    if file.mode and not MODE.fullmatch(file.mode):
        document.complain((*place, "mode"), f"'mode' should be octal such as \"0644\", and is {file.mode!r}")
    fields = ("source", "contents", "symlink", "concat")
    given = [name for name in fields if getattr(file, name) not in {None, ()}] + ["directory"] * file.directory
    if len(given) != 1:
        what = f"both {' and '.join(given)}" if given else "nothing that says what it is"
        document.complain(place, f"the file {file.path!r} has {what}. Give one of {', '.join(fields)}, directory: true")
    if file.source is not None:
        _check_source(document, (*place, "source"), file.source, folder)


def _check_source(document: Document, place: Location, source: str, folder: Path) -> None:
    root = folder.resolve()
    try:
        target = (root / source).resolve()
        if not target.is_relative_to(root):
            document.complain(place, f"{source!r} lies outside of {folder}, where an image's files must be")
        elif not target.exists():
            document.complain(place, f"{folder / source} is not there")
    except (OSError, ValueError, RuntimeError):
        document.complain(place, f"{source!r} cannot be the name of a file")
