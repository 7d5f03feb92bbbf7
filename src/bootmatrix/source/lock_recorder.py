"""Record what is used of the archive as a lock, and resolve packages in a lock."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from bootmatrix.model import Kernel, Lock, Package
from bootmatrix.source.packages import newest_first

T = TypeVar("T")


def kernel_key(debian_arch: str, flavour: str, name: str) -> str:
    """Return a kernel's name in a lock."""
    return f"{debian_arch}/{flavour}/{name}"


class Used:
    """Collect what is used, from any thread. `before` is an earlier lock."""

    def __init__(self, before: Lock | None = None) -> None:
        self._guard = threading.Lock()
        self._kernels: dict[str, Kernel] = {}
        self._packages: dict[str, set[Package]] = defaultdict(set)
        self._images: dict[str, str] = dict(before.images) if before else {}
        self._unreproducible: dict[str, str] = dict(before.unreproducible) if before else {}
        self._lock: Lock | None = None
        if before:
            self._kernels.update(before.kernels)
            for arch, packages in before.packages.items():
                self.add_packages(arch, packages.values())

    def add_kernel(self, key: str, kernel: Kernel) -> None:
        self._add(self._kernels, key, kernel)

    def add_packages(self, debian_arch: str, packages: Iterable[Package]) -> None:
        with self._guard:
            recorded = self._packages[debian_arch]
            count = len(recorded)
            recorded.update(packages)
            if not count or len(recorded) > count:
                self._lock = None

    def add_image(self, name: str, digest: str) -> None:
        """Record an image of a registry."""
        self._add(self._images, name, digest)

    def add_unreproducible(self, name: str, value: str) -> None:
        """Record an input that no lock can pin, by `spec/input`."""
        self._add(self._unreproducible, name, value)

    def _add(self, entries: dict[str, T], name: str, value: T) -> None:
        with self._guard:
            if entries.get(name) != value:
                entries[name], self._lock = value, None

    def lock(self) -> Lock:
        """Return the lock of all that was used, sorted, so that threads do not matter.

        The value is the same until more is used.
        """
        with self._guard:
            self._lock = self._lock or Lock(
                kernels=dict(sorted(self._kernels.items())),
                packages={arch: _by_name(packages) for arch, packages in sorted(self._packages.items())},
                images=dict(sorted(self._images.items())),
                unreproducible=dict(sorted(self._unreproducible.items())),
            )
            return self._lock


def _by_name(packages: Iterable[Package]) -> dict[str, Package]:
    """Map packages by name, or by `name/suite` if suites differ in the version."""
    names: dict[str, list[Package]] = defaultdict(list)
    for package in newest_first(packages):
        names[package.name].append(package)
    keyed: dict[str, Package] = {}
    for name, versions in names.items():
        for package in versions:
            keyed.setdefault(name if len(versions) == 1 else f"{name}/{package.suite}", package)
    return keyed


class LockedPackages:
    """Candidates for dependencies from a lock's packages of one architecture."""

    def __init__(self, packages: Iterable[Package], suites: Sequence[str]) -> None:
        order = {suite: number for number, suite in enumerate(suites)}
        selected = (package for package in newest_first(packages) if package.suite in order)
        self._packages = sorted(selected, key=lambda package: order[package.suite])
        self._named: dict[str, list[Package]] = defaultdict(list)
        self._providing: dict[str, list[Package]] = defaultdict(list)
        for package in self._packages:
            self._named[package.name].append(package)
            for name in dict.fromkeys(item.split(" ")[0] for item in package.provides):
                self._providing[name].append(package)

    def named(self, name: str) -> list[Package]:
        """Return the packages of this name, in the order of the suites."""
        return self._named.get(name, [])

    def providing(self, name: str) -> list[Package]:
        """Return the packages that provide this name, in the order of the suites."""
        return self._providing.get(name, [])

    def names(self) -> Iterator[str]:
        """Iterate over all names."""
        return (package.name for package in self._packages)
