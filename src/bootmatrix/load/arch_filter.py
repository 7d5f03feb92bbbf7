"""Architectures to which a spec's containers restrict it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bootmatrix.errors import InputError
from bootmatrix.load.profile import find_machine
from bootmatrix.model import Profile, Spec
from bootmatrix.model.spec import ARCH


@dataclass(frozen=True)
class Limit:
    """The profiles for which a container is meant."""

    container: str
    archs: tuple[str, ...]


def find_limits(spec: Spec, profiles: Mapping[str, Profile]) -> tuple[Limit, ...]:
    """Find the containers of a spec that do not run everywhere. A cell must satisfy all limits.

    Raises:
        InputError: an architecture is unknown.
    """
    limits = []
    for container in (*spec.onboot, *spec.onshutdown, *spec.services):
        words = (container.annotations or {}).get(ARCH)
        if words is not None:
            limits.append(
                Limit(container.name, _profile_names(words, f"{spec.path}: {ARCH} of {container.name}", profiles))
            )
    return tuple(limits)


def _profile_names(words: str, place: str, profiles: Mapping[str, Profile]) -> tuple[str, ...]:
    if not words.split():
        raise InputError(f"{place} names no architecture")
    try:
        return tuple(dict.fromkeys(find_machine(profiles, word)[0].name for word in words.split()))
    except InputError as error:
        raise InputError(f"{place}: {error.message}", error.hint) from error
