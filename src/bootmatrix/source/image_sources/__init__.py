"""Sources of container images: plug-ins of the group `bootmatrix.image_sources`.

A reference such as `oci:FOLDER` names its source by the word before the colon, which is the plug-in's name too.
"""

from __future__ import annotations

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

    Raises:
        InputError: there is none of this name.
        HostError: it cannot be imported.
    """
    found: ImageSourceType = plugins.load(GROUP, name)
    return found


def find_type(reference: str) -> ImageSourceType | None:
    """Find the source that a reference names by its prefix; None for a name in a registry, or with `@pkg:`.

    Only the plug-in that is named is loaded, and none is looked for if there is no prefix.

    Raises:
        HostError: it cannot be imported.
    """
    word = _WORD.match(reference)
    if word is None or word[1] not in plugins.names(GROUP):
        return None
    found = load(word[1])
    return found if reference.startswith(found.PREFIX) else None


def parse(reference: str, folder: Path) -> ImageSource | None:
    """Parse a reference that names its source by a prefix; None for any other.

    Raises:
        InputError: what follows the prefix cannot be, or a file is not there.
    """
    found = find_type(reference)
    return found.parse(reference.removeprefix(found.PREFIX), folder) if found else None


def prefixes() -> tuple[str, ...]:
    """Prefixes of all sources.

    Raises:
        HostError: one cannot be imported.
    """
    found: dict[str, ImageSourceType] = plugins.load_all(GROUP)
    return tuple(one.PREFIX for one in found.values())


def pin(source: ImageSource, sha256: str) -> ImageSource:
    """The same source, confined to the image of this digest where the source can be."""
    pinned = getattr(load(source.kind), "pinned", None)
    result: ImageSource = pinned(source, sha256) if pinned else source
    return result


__all__ = ["ImageSourceType", "find_type", "load", "parse", "pin", "prefixes"]
