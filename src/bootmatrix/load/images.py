"""Resolution of image names: folders, shipped, registries, overrides."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.recipe import PACKAGE, find_recipe, has_stand_in, is_dockerfile, repository
from bootmatrix.model import ImageOverride, ImageSource
from bootmatrix.model.image import DOCKERFILE_KIND, RECIPE_KIND
from bootmatrix.source import image_sources


def find_source(reference: str, path: Path, overrides: Iterable[ImageOverride]) -> ImageSource:
    """Find the source of an image named in the file `path`.

    Overrides come first. Then `@pkg:` is a folder, a transport is explicit, a name with a shipped image means that,
    and every other name is a registry's.

    Raises InputError if the name is invalid, or a folder or file does not exist.
    """
    for override in overrides:
        if any(fnmatchcase(name, override.pattern) for name in (reference, repository(reference))):
            return _given(reference, override)
    return _named(reference, path)


def _given(reference: str, override: ImageOverride) -> ImageSource:
    source = override.source
    kind = image_sources.find_type(source)
    if kind and not kind.IS_PATH and source == kind.PREFIX:  # the image itself, from there
        source += reference
    return _named(source, Path(override.folder) / "image")


def _named(reference: str, path: Path) -> ImageSource:
    if source := image_sources.parse(reference, path.parent):
        return source
    if reference.startswith(PACKAGE) and is_dockerfile(reference, path):
        return ImageSource(kind=DOCKERFILE_KIND, path=str(path.parent / reference.removeprefix(PACKAGE)))
    if reference.startswith(PACKAGE) or has_stand_in(reference):
        return ImageSource(kind=RECIPE_KIND, path=str(find_recipe(reference, path)))
    return image_sources.load(image_sources.REGISTRY).parse(reference, path.parent)


def parse_override(text: str, folder: Path) -> ImageOverride:
    """Parse `NAME=SOURCE`. Raises InputError if the text is not of this form."""
    name, equals, source = text.partition("=")
    if not equals or not name.strip() or not source.strip():
        raise InputError(
            f"{text!r} must be NAME=SOURCE",
            "Such as 'redis=oci-archive:redis.tar', or 'linuxkit/*=docker://' for those of the registry.",
        )
    return check_override(ImageOverride(pattern=name.strip(), source=source.strip(), folder=str(folder)))


def check_override(override: ImageOverride) -> ImageOverride:
    """Check the source of an override, which runs keep: it has no credentials.

    Raises InputError if the source is invalid.
    """
    source = override.source
    if source.startswith(PACKAGE):
        return override
    kind = image_sources.find_type(source)
    if kind is None:
        known = ", ".join((*image_sources.prefixes(), PACKAGE))
        raise InputError(f"{source!r} should begin with the kind of source: one of {known}")
    if not kind.IS_PATH and source != kind.PREFIX:
        kind.parse(source.removeprefix(kind.PREFIX), Path(override.folder))
    return override
