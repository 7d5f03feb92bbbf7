"""What an image's name in a file means: a folder, an image here, a registry's, or what the user puts in its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.recipe import PACKAGE, has_stand_in, is_dockerfile, repository
from bootmatrix.model import ImageOverride, ImageSource
from bootmatrix.model.image import ImageKind
from bootmatrix.source.images.reference import parse_reference

FindRecipe = Callable[[str, Path], Path]

REGISTRY = "docker://"
IN_FILES: dict[str, ImageKind] = {
    "oci:": "oci",
    "oci-archive:": "oci-archive",
    "docker-archive:": "docker-archive",
    "tar:": "tar",
}
ENGINE = "docker-daemon:"
TRANSPORTS = (REGISTRY, ENGINE, *IN_FILES)
"""As containers-transports(5) names them, but for `tar:`, a root without more."""
_TAGGED = re.compile(r"(?P<path>.+?)(?::(?P<name>[A-Za-z0-9][A-Za-z0-9_./:@-]*))?")


def find_source(reference: str, path: Path, given: Iterable[ImageOverride], find_recipe: FindRecipe) -> ImageSource:
    """Where the image comes from that the file `path` names.

    What the user gave comes first, then: `@pkg:` is a folder, a transport says it by itself, a name for which there is
    an image here means that, and every other name is a registry's.

    Raises:
        InputError: the name cannot be one, or a folder or file is not there.
    """
    for one in given:
        if any(fnmatchcase(name, one.pattern) for name in (reference, repository(reference))):
            return _given(reference, one, find_recipe)
    return _named(reference, path, find_recipe)


def _given(reference: str, one: ImageOverride, find_recipe: FindRecipe) -> ImageSource:
    source = one.source
    if source in {REGISTRY, ENGINE}:  # the image itself, from there
        source += reference
    return _named(source, Path(one.folder) / "image", find_recipe)


def _named(reference: str, path: Path, find_recipe: FindRecipe) -> ImageSource:
    if reference.startswith(REGISTRY):
        return ImageSource(kind="docker", name=str(parse_reference(reference.removeprefix(REGISTRY))))
    if reference.startswith(ENGINE):
        return _of_engine(reference)
    for prefix, kind in IN_FILES.items():
        if reference.startswith(prefix):
            return _in_file(reference, kind, reference.removeprefix(prefix), path.parent)
    if reference.startswith(PACKAGE) and is_dockerfile(reference, path):
        return ImageSource(kind="dockerfile", path=str(path.parent / reference.removeprefix(PACKAGE)))
    if reference.startswith(PACKAGE) or has_stand_in(reference):
        return ImageSource(kind="recipe", path=str(find_recipe(reference, path)))
    return ImageSource(kind="docker", name=str(parse_reference(reference)))


def _of_engine(reference: str) -> ImageSource:
    name = reference.removeprefix(ENGINE)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./:@-]{0,400}", name):
        raise InputError(f"{reference[:300]!r} should name an image of the Docker engine, such as {ENGINE}mine:1")
    return ImageSource(kind="docker-daemon", name=name)


def _in_file(reference: str, kind: ImageKind, rest: str, folder: Path) -> ImageSource:
    found = _TAGGED.fullmatch(rest)
    whole = folder / rest
    try:
        if found is None or "\0" in rest:
            raise InputError(f"{reference[:300]!r} should name a file or a folder behind the colon")
        if kind == "tar" or whole.exists():
            source = ImageSource(kind=kind, path=str(whole))
        else:
            source = ImageSource(kind=kind, path=str(folder / found["path"]), name=found["name"] or "")
        there = Path(source.path)
        if not there.exists():
            raise InputError(f"the image {reference[:300]!r}: {there} is not there")
    except OSError as error:
        raise InputError(f"{reference[:100]!r} cannot be the name of a file: {error.strerror}") from error
    if kind == "oci" and not there.is_dir():
        raise InputError(f"the image {reference!r}: {there} is no folder", "A tar archive of one is oci-archive:FILE.")
    if kind != "oci" and not there.is_file():
        raise InputError(f"the image {reference!r}: {there} is no file", "A folder with an OCI layout is oci:FOLDER.")
    return source


def parse_override(text: str, folder: Path) -> ImageOverride:
    """What `NAME=SOURCE` says.

    Raises:
        InputError: it says something else.
    """
    name, equals, source = text.partition("=")
    if not equals or not name.strip() or not source.strip():
        raise InputError(
            f"{text!r} should be NAME=SOURCE",
            f"Such as 'redis=oci-archive:redis.tar', or 'linuxkit/*={REGISTRY}' for those of the registry.",
        )
    return check_override(ImageOverride(pattern=name.strip(), source=source.strip(), folder=str(folder)))


def check_override(one: ImageOverride) -> ImageOverride:
    """The same.

    Raises:
        InputError: its source is none.
    """
    if not one.source.startswith((*TRANSPORTS, PACKAGE)):
        known = ", ".join((*TRANSPORTS, PACKAGE))
        raise InputError(f"{one.source!r} should begin with the kind of source: one of {known}")
    return one
