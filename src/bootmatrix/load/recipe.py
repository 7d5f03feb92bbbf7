"""Images made from packages (`build.yml`), and their lookup by reference."""

import os
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
SHIPPED = "bootmatrix/"
"""Prefix of the names of shipped images: `bootmatrix/init`."""
DOCKER_HUB = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
PLACEHOLDERS = {"arch", "debian_arch", *Names.model_fields}
"""Placeholders in `debs` and `source` for the architecture's names."""
PLACEHOLDER = re.compile(r"\{[a-z_]+\}")
MAX_COMMAND_BYTES = 64 << 10
MODE = re.compile(r"0*[0-7]{1,4}")


def find_recipe(reference: str, path: Path) -> Path:
    """Find the build.yml that a reference in the file `path` means.

    `@pkg:./images/influxdb` is a folder relative to that file. A repository, with any tag, is replaced by the
    shipped image that stands in for it.

    Raises InputError if the recipe is not found.
    """
    if reference.startswith(PACKAGE):
        return _in_folder(reference, path)
    names = _stand_ins(specs_folder().resolve())
    recipe = names.get(repository(reference))
    if recipe is None:
        raise InputError(
            f"no shipped image replaces {reference!r}.{suggest(repository(reference), names)}",
            "Create a folder with a build.yml, and name it as @pkg:./folder.",
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
            short = Path(os.path.normpath(recipe))  # without `..`, for messages; another file if a link comes before it
            return short if short.is_file() and short.samefile(recipe) else recipe
    except OSError as error:
        raise InputError(f"{reference[:80]!r} cannot be the name of a folder: {error.strerror}") from error
    near = {f"{PACKAGE}./{file.parent.relative_to(path.parent)}" for file in path.parent.glob(f"*/*/{RECIPE}")}
    lack = f"holds no {RECIPE}" if folder.is_dir() else "is not there"
    raise InputError(f"the image {reference!r}: the folder {folder} {lack}.{suggest(reference, near)}")


def has_stand_in(reference: str) -> bool:
    """Return whether a shipped image replaces an image of a registry."""
    return repository(reference) in _stand_ins(specs_folder().resolve())


def shipped_image(name: str) -> str:
    """Return a shipped image's folder: `NAME-TAG` for `NAME:TAG`; or empty."""
    folder = re.sub(r"^([^/:]+):([^/:]+)$", r"\1-\2", name)
    return folder if "/" not in folder and has_stand_in(f"{SHIPPED}{folder}") else ""


def is_dockerfile(reference: str, path: Path) -> bool:
    """Return whether `@pkg:` names a folder with a Dockerfile and without a recipe."""
    name = reference.removeprefix(PACKAGE)
    if not name or "\0" in name or PurePosixPath(name).is_absolute():
        return False
    folder = path.parent / name
    try:
        return is_package(folder)
    except OSError:
        return False


def is_package(folder: Path) -> bool:
    """Return whether a folder is a LinuxKit package, built by Docker."""
    recipe = folder / RECIPE
    if not recipe.is_file():
        return (folder / DOCKERFILE).is_file()
    return _describes_package(read_document(recipe), folder)


def _describes_package(recipe: Document, folder: Path) -> bool:
    return "image" in recipe.data or ((folder / DOCKERFILE).is_file() and "packages" not in recipe.data)


def load_package(folder: Path) -> PackageRecipe:
    """Load a LinuxKit package's build.yml, or a lone Dockerfile's defaults.

    Raises InputError if the file is invalid, or the Dockerfile is missing.
    """
    path = folder / RECIPE
    package = PackageRecipe()
    if path.is_file():
        document = read_document(path)
        document.drop_empty()
        package = validate(document, PackageRecipe)
        if package.dockerfile not in {config.name for config in folder.iterdir() if config.is_file()}:
            document.complain(("dockerfile",), f"file not found: {folder / package.dockerfile}")
        document.raise_faults()
    return package


def repository(reference: str) -> str:
    """Return a reference's repository, without Docker Hub, tag, digest.

    `linuxkit/init` of `docker.io/linuxkit/init:v1@sha256:…`.
    """
    name = reference.split("@", 1)[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.split(":", 1)[0]
    for prefix in DOCKER_HUB:
        name = name.removeprefix(prefix)
    return name.removeprefix("library/")


@cache
def _stand_ins(specs: Path) -> dict[str, Path]:
    """Map repositories to the shipped recipes that replace them."""
    recipes = {}
    for path in sorted((specs / "images").glob(f"*/{RECIPE}")):
        recipes[f"{SHIPPED}{path.parent.name}"] = path
        for replaced in _read(path)[0].replaces:
            recipes[repository(replaced)] = path
    return recipes


def load_recipe(path: Path) -> ImageRecipe:
    """Load a build.yml and its bases. Raises InputError if it is invalid."""
    recipe, document = _read(path)
    _check_base(document, recipe, path)
    document.raise_faults()
    return recipe


def _read(path: Path) -> tuple[ImageRecipe, Document]:
    document = read_document(path)
    if _describes_package(document, path.parent):
        raise InputError(
            f"{path}: a LinuxKit package with a Dockerfile",
            "A spec can use it, but a recipe cannot: build it with Docker, and name that image.",
        )
    recipe = validate(document, ImageRecipe)
    for index, file in enumerate(recipe.files):
        _check_file(document, ("files", index), file, path.parent)
    for index, pattern in enumerate(recipe.debs):
        _check_deb(document, ("debs", index), pattern)
    for variable in recipe.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            document.complain(("env", variable), f"{variable!r} is not a valid environment variable name")
    for index, command in enumerate(recipe.prepare):
        if not command.strip() or "\0" in command:
            document.complain(("prepare", index), "an empty command")
        elif len(command.encode()) > MAX_COMMAND_BYTES:
            document.complain(("prepare", index), f"a command longer than {MAX_COMMAND_BYTES >> 10} KiB")
    document.raise_faults()
    return recipe, document


def _check_deb(document: Document, place: Location, pattern: str) -> None:
    if PurePosixPath(pattern).is_absolute() or not pattern.endswith(".deb"):
        document.complain(
            place, f"{pattern!r} must be a relative path of .deb files, such as ./dist/*_{{debian_arch}}.deb"
        )
    _check_placeholders(document, place, pattern)


def _check_placeholders(document: Document, place: Location, text: str) -> None:
    for name in re.findall(r"\{([^{}]*)\}?", text):
        if name not in PLACEHOLDERS:
            document.complain(place, f"unknown placeholder {{{name}}}.{suggest(name, PLACEHOLDERS)}")


def _check_base(document: Document, recipe: ImageRecipe, path: Path) -> None:
    """Follow `from` down: it must end, and each image must exist."""
    base, where, seen = recipe.base, path, {path.resolve()}
    while base is not None:
        if not (base.startswith(PACKAGE) or has_stand_in(base)):
            return  # of a registry or a file: fetched when needed
        try:
            where = find_recipe(base, where)
            base = _read(where)[0].base
        except InputError as error:
            document.complain(("from",), str(error))
            return
        if where.resolve() in seen:
            document.complain(("from",), f"{recipe.base!r} comes back to {where} (circular 'from')")
            return
        seen.add(where.resolve())


def _check_file(document: Document, place: Location, file: CopyFile, folder: Path) -> None:
    if not file.path.strip("/") or ".." in PurePosixPath(file.path).parts:
        document.complain((*place, "path"), f"{file.path!r} cannot be a path in an image: it is empty or holds '..'")
    if file.mode and not MODE.fullmatch(file.mode):
        document.complain((*place, "mode"), f"'mode' must be octal such as \"0644\", not {file.mode!r}")
    fields = ("source", "contents", "symlink", "concat")
    kinds = [name for name in fields if getattr(file, name) not in {None, ()}] + ["directory"] * file.directory
    if len(kinds) != 1:
        fault = f"both {' and '.join(kinds)}" if kinds else "no content"
        document.complain(place, f"the file {file.path!r} has {fault}. Set one of {', '.join(fields)}, directory: true")
    if file.source is not None:
        _check_source(document, (*place, "source"), file.source, folder)


def _check_source(document: Document, place: Location, source: str, folder: Path) -> None:
    """Check a source, one with placeholders when the architecture is known."""
    root = folder.resolve()
    try:
        target = (root / source).resolve()
        if not target.is_relative_to(root):
            document.complain(place, f"{source!r} lies outside of {folder}, where an image's files must be")
        elif not target.exists() and PLACEHOLDER.search(source):
            _check_placeholders(document, place, source)
        elif not target.exists():
            document.complain(place, f"{folder / source} is not there")
    except (OSError, ValueError, RuntimeError):
        document.complain(place, f"{source!r} cannot be the name of a file")
