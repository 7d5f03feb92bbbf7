"""Sources of container images: plug-ins of the group `bootmatrix.image_sources`.

The prefix of a reference such as `oci:FOLDER` is the name of the plug-in.
"""

import re
from pathlib import Path

from bootmatrix import plugins
from bootmatrix.model import ImageSource
from bootmatrix.source.image_sources.protocol import ImageSourceType

GROUP = "image_sources"
REGISTRY = "docker"
"""The source of names without a prefix."""
_WORD = re.compile(r"([a-z][a-z0-9.+-]*):")


def load(name: str) -> ImageSourceType:
    """Load a source by name.

    Raises InputError if the name is unknown, HostError if it cannot be imported.
    """
    source_type: ImageSourceType = plugins.load(GROUP, name)
    return source_type


def find_type(reference: str) -> ImageSourceType | None:
    """Find the source of a reference by its prefix, if any.

    None for names in a registry and for `@pkg:`. Only the named plug-in is loaded.

    Raises HostError if it cannot be imported.
    """
    word = _WORD.match(reference)
    if word is None or word[1] not in plugins.names(GROUP):
        return None
    source_type = load(word[1])
    return source_type if reference.startswith(source_type.PREFIX) else None


def parse(reference: str, folder: Path) -> ImageSource | None:
    """Parse a reference with a source's prefix; None for any other.

    Raises InputError if the reference is invalid, or a file is missing.
    """
    source_type = find_type(reference)
    return source_type.parse(reference.removeprefix(source_type.PREFIX), folder) if source_type else None


def prefixes() -> tuple[str, ...]:
    """Return the prefixes of all sources. Raises HostError if one cannot be imported."""
    types: dict[str, ImageSourceType] = plugins.load_all(GROUP)
    return tuple(source_type.PREFIX for source_type in types.values())


def pin(source: ImageSource, sha256: str) -> ImageSource:
    """Confine a source to the image of this digest, if it supports that."""
    pinned = getattr(load(source.kind), "pinned", None)
    result: ImageSource = pinned(source, sha256) if pinned else source
    return result
