"""Packages with all that they depend on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from debian.debian_support import version_compare

from bootmatrix.errors import BuildError, NoSuchPackage
from bootmatrix.model import Package

MAX_PACKAGES = 20_000
"""A third of all that Debian has."""
MAX_ROUNDS = 100
"""Choices that turn out too old or too new are made again so many times."""
_RELATION = re.compile(r"([a-z0-9][a-z0-9.+-]*)(?::[a-z0-9-]+)?(?: ?\((<<|<=|=|>=|>>) ?([A-Za-z0-9.+:~-]{1,256})\))?")
_HOLDS: dict[str, Callable[[int], bool]] = {
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}


class Candidates(Protocol):
    """Where packages are looked for; both lists have the preferred ones first."""

    def named(self, name: str) -> Sequence[Package]:
        """Packages of this name."""

    def providing(self, name: str) -> Sequence[Package]:
        """Packages that provide this name."""

    def names(self) -> Iterator[str]:
        """All names there are."""


@dataclass(frozen=True)
class Relation:
    """A name and the versions of it that will do, as in Debian policy 7.1."""

    name: str
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Whether a version will do; an unversioned `provides` has none and only does where any will."""
        if not self.operator:
            return True
        return bool(version) and _HOLDS[self.operator](version_compare(version, self.version))

    def satisfied_by(self, package: Package) -> bool:
        """Whether a package will do, by its own name or one that it provides."""
        if package.name == self.name:
            return self.accepts(package.version)
        provided = (parse_relation(item) for item in package.provides)
        return any(one.name == self.name and self.accepts(one.version) for one in provided)


def parse_relation(text: str) -> Relation:
    """One alternative of a dependency, such as `libc6 (>= 2.36)`.

    Raises:
        BuildError: it is no such thing.
    """
    found = _RELATION.fullmatch(text.strip())
    if not found:
        raise BuildError(f"a package of the archive has a dependency that cannot be read: {text!r}")
    return Relation(found[1], found[2] or "", found[3] or "")


class _Again(Exception):
    """A package that was chosen does not do for one that came later: choose again, with this in mind."""

    def __init__(self, relation: Relation) -> None:
        self.relation = relation


def closure(names: Sequence[str], without: Iterable[str], archive: Candidates, place: str) -> tuple[Package, ...]:
    """Packages and all that they depend on, each after what it needs, in an order that only the archive decides.

    Of alternatives, the first that can be had is taken, unless another was asked for by name. Nothing is looked for
    beyond the names in `without`. `place` says in errors where was looked.

    Raises:
        NoSuchPackage: a package is not there.
        BuildError: the versions that are there do not go together.
    """
    limits: list[Relation] = []
    for _ in range(MAX_ROUNDS):
        try:
            return _Round(names, without, archive, place, limits).run()
        except _Again as again:
            if again.relation in limits:
                break
            limits.append(again.relation)
    wanted = ", ".join(f"{limit.name} {limit.operator} {limit.version}" for limit in limits)
    raise BuildError(f"no choice of packages in {place} fits {', '.join(names)}: tried {wanted}")


class _Round:
    """One attempt; `limits` are what packages chosen in earlier ones must satisfy besides."""

    def __init__(
        self, names: Sequence[str], without: Iterable[str], archive: Candidates, place: str, limits: Sequence[Relation]
    ) -> None:
        self.without = frozenset(without)
        self.names = [name for name in dict.fromkeys(names) if name not in self.without]
        self.archive, self.place, self.limits = archive, place, limits
        self.begun: dict[str, Package] = {}
        self.done: list[Package] = []

    def run(self) -> tuple[Package, ...]:
        for name in self.names:
            self.visit([parse_relation(name)], "")
        return tuple(self.done)

    def visit(self, alternatives: Sequence[Relation], needed_by: str) -> None:
        """Take the first of the alternatives that will do, after all that it needs in turn.

        The packages that wait for what they need are a list, as chains of them may be longer than Python's stack.
        """
        first = self.take(alternatives, needed_by)
        waiting = [(first, iter(first.depends))] if first else []
        while waiting:
            package, groups = waiting[-1]
            group = next(groups, None)
            if group is None:
                self.done.append(package)
                waiting.pop()
            elif needed := self.take([parse_relation(one) for one in group.split("|")], str(package)):
                waiting.append((needed, iter(needed.depends)))

    def take(self, alternatives: Sequence[Relation], needed_by: str) -> Package | None:
        """Begin with the first of the alternatives that will do; None if nothing new is needed."""
        if any(relation.name in self.without for relation in alternatives):
            return None
        package = self.choice(alternatives)
        if package is None:
            raise self.missing(alternatives, needed_by)
        if package.name in self.begun:
            return None
        if len(self.begun) >= MAX_PACKAGES:
            raise BuildError(f"{', '.join(self.names[:9])} need more than {MAX_PACKAGES} packages in {self.place}")
        self.begun[package.name] = package
        return package

    def choice(self, alternatives: Sequence[Relation]) -> Package | None:
        asked_for = [relation for relation in alternatives if relation.name in self.names]
        for relation in (*asked_for, *alternatives):
            package = self.best(relation)
            if package is not None:
                return package
        return None

    def best(self, relation: Relation) -> Package | None:
        """What satisfies a relation: the package already chosen, else one of that name, else one that provides it."""
        chosen = self.begun.get(relation.name)
        if chosen and relation.satisfied_by(chosen):
            return chosen
        found = self.first(relation, self.archive.named(relation.name))
        if found and chosen:
            raise _Again(relation)
        if found:
            return found
        providers = self.archive.providing(relation.name)
        ready = [one for one in providers if self.begun.get(one.name) == one or one.name in self.names]
        return self.first(relation, (*ready, *(one for one in providers if one.name not in self.begun)))

    def first(self, relation: Relation, packages: Iterable[Package]) -> Package | None:
        for package in packages:
            limits = (limit for limit in self.limits if limit.name == package.name)
            if relation.satisfied_by(package) and all(limit.accepts(package.version) for limit in limits):
                return package
        return None

    def missing(self, alternatives: Sequence[Relation], needed_by: str) -> NoSuchPackage:
        wanted = " | ".join(_text(relation) for relation in alternatives)
        reason = f", which {needed_by} needs" if needed_by else ""
        there = [package for relation in alternatives for package in self.archive.named(relation.name)]
        if there:
            hint = f"There is {', '.join(f'{one.name} {one.version} ({one.suite})' for one in there)}."
        else:
            close = difflib.get_close_matches(alternatives[0].name, list(self.archive.names()), n=3, cutoff=0.75)
            hint = f"Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
        return NoSuchPackage(f"there is no package {wanted} for {self.place}{reason}", hint)


def _text(relation: Relation) -> str:
    return f"{relation.name} ({relation.operator} {relation.version})" if relation.operator else relation.name
