"""The architectures that a spec is for, where its containers say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bootmatrix.errors import InputError
from bootmatrix.load.profile import find_machine
from bootmatrix.load.spec import SECTIONS
from bootmatrix.model import Profile, Spec
from bootmatrix.model.spec import ARCH


@dataclass(frozen=True)
class Limit:
    """What one container is for: names of profiles."""

    container: str
    archs: tuple[str, ...]


def find_limits(spec: Spec, profiles: Mapping[str, Profile]) -> tuple[Limit, ...]:
    """What the containers of a spec are for that do not run everywhere; a cell has to fit all of them.

    Raises:
        InputError: an architecture is not known.
    """
    found = []
    for container in (one for section in SECTIONS for one in getattr(spec, section)):
        words = (container.annotations or {}).get(ARCH)
        if words is not None:
            found.append(Limit(container.name, _known(words, f"{spec.path}: {ARCH} of {container.name}", profiles)))
    return tuple(found)


def _known(words: str, place: str, profiles: Mapping[str, Profile]) -> tuple[str, ...]:
    if not words.split():
        raise InputError(f"{place} names no architecture")
    try:
        return tuple(dict.fromkeys(find_machine(profiles, word)[0].name for word in words.split()))
    except InputError as error:
        raise InputError(f"{place}: {error.message}", error.hint) from error
