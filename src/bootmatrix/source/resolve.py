"""Dependency resolution of packages."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from debian.debian_support import version_compare

from bootmatrix.errors import BuildError, NoSuchPackage
from bootmatrix.model import Package

MAX_PACKAGES = 20_000
"""A third of Debian's packages."""
MAX_ROUNDS = 100
"""Limit of restarts after a choice of a version that is too old or too new."""
_RELATION = re.compile(r"([a-z0-9][a-z0-9.+-]*)(?::[a-z0-9-]+)?(?: ?\((<<|<=|=|>=|>>) ?([A-Za-z0-9.+:~-]{1,256})\))?")
_HOLDS: dict[str, Callable[[int], bool]] = {
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}


class Candidates(Protocol):
    """Packages to choose from; both lists have the preferred packages first."""

    def named(self, name: str) -> Sequence[Package]:
        """Packages of this name."""

    def providing(self, name: str) -> Sequence[Package]:
        """Packages that provide this name."""

    def names(self) -> Iterator[str]:
        """All names."""


@dataclass(frozen=True)
class Relation:
    """A name and its accepted versions, as in Debian policy 7.1."""

    name: str
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Return whether a version satisfies the relation.

        An unversioned `provides` has no version, and only satisfies unversioned relations.
        """
        if not self.operator:
            return True
        return bool(version) and _HOLDS[self.operator](version_compare(version, self.version))

    def satisfied_by(self, package: Package) -> bool:
        """Return whether a package satisfies the relation, by name or `provides`."""
        if package.name == self.name:
            return self.accepts(package.version)
        provided = (parse_relation(item) for item in package.provides)
        return any(item.name == self.name and self.accepts(item.version) for item in provided)


def parse_relation(text: str) -> Relation:
    """Parse an alternative: `libc6 (>= 2.36)`. Raises BuildError if invalid."""
    match = _RELATION.fullmatch(text.strip())
    if not match:
        raise BuildError(f"invalid dependency of a package in the archive: {text!r}")
    return Relation(match[1], match[2] or "", match[3] or "")


class _Restart(Exception):
    """A chosen package does not satisfy a later one: choose again with its relation."""

    def __init__(self, relation: Relation) -> None:
        self.relation = relation


def closure(names: Sequence[str], without: Iterable[str], archive: Candidates, place: str) -> tuple[Package, ...]:
    """Resolve packages with their dependencies, each after those it needs.

    The order depends on the archive only. Of alternatives the first available one is chosen, unless another was
    requested by name. Dependencies of the names in `without` are not followed. `place` names the archive in errors.

    Raises NoSuchPackage if a package is missing, BuildError if the available versions conflict.
    """
    limits: list[Relation] = []
    for _ in range(MAX_ROUNDS):
        try:
            return _Round(names, without, archive, place, limits).run()
        except _Restart as restart:
            if restart.relation in limits:
                break
            limits.append(restart.relation)
    tried = ", ".join(f"{limit.name} {limit.operator} {limit.version}" for limit in limits)
    raise BuildError(f"no choice of packages in {place} fits {', '.join(names)}: tried {tried}")


class _Round:
    """One attempt. `limits` are relations of packages chosen in earlier attempts."""

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
        """Take the first acceptable alternative, after its own dependencies.

        Pending packages are a list, as chains of them may exceed Python's stack.
        """
        first = self.take(alternatives, needed_by)
        pending = [(first, iter(first.depends))] if first else []
        while pending:
            package, groups = pending[-1]
            group = next(groups, None)
            if group is None:
                self.done.append(package)
                pending.pop()
            elif needed := self.take([parse_relation(text) for text in group.split("|")], str(package)):
                pending.append((needed, iter(needed.depends)))

    def take(self, alternatives: Sequence[Relation], needed_by: str) -> Package | None:
        """Start the first acceptable alternative; None if nothing new is needed."""
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
        requested = [relation for relation in alternatives if relation.name in self.names]
        for relation in (*requested, *alternatives):
            package = self.best(relation)
            if package is not None:
                return package
        return None

    def best(self, relation: Relation) -> Package | None:
        """Find a package: one already chosen, else by name, else by `provides`."""
        chosen = self.begun.get(relation.name)
        if chosen and relation.satisfied_by(chosen):
            return chosen
        named = self.first(relation, self.archive.named(relation.name))
        if named and chosen:
            raise _Restart(relation)
        if named:
            return named
        providers = self.archive.providing(relation.name)
        preferred = [
            package for package in providers if self.begun.get(package.name) == package or package.name in self.names
        ]
        return self.first(relation, (*preferred, *(package for package in providers if package.name not in self.begun)))

    def first(self, relation: Relation, packages: Iterable[Package]) -> Package | None:
        for package in packages:
            limits = (limit for limit in self.limits if limit.name == package.name)
            if relation.satisfied_by(package) and all(limit.accepts(package.version) for limit in limits):
                return package
        return None

    def missing(self, alternatives: Sequence[Relation], needed_by: str) -> NoSuchPackage:
        relations = " | ".join(_text(relation) for relation in alternatives)
        reason = f", which {needed_by} needs" if needed_by else ""
        available = [package for relation in alternatives for package in self.archive.named(relation.name)]
        if available:
            hint = f"Available: {', '.join(f'{item.name} {item.version} ({item.suite})' for item in available)}."
        else:
            close = difflib.get_close_matches(alternatives[0].name, list(self.archive.names()), n=3, cutoff=0.75)
            hint = f"Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
        return NoSuchPackage(f"package {relations} not found for {self.place}{reason}", hint)


def _text(relation: Relation) -> str:
    return f"{relation.name} ({relation.operator} {relation.version})" if relation.operator else relation.name
