"""What was used of the archive, as a lock; and a lock in the archive's place."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from bootmatrix.model import Kernel, Lock, Package
from bootmatrix.source.packages import newest_first


def kernel_key(debian_arch: str, flavour: str, name: str) -> str:
    """A kernel's name in a lock."""
    return f"{debian_arch}/{flavour}/{name}"


class Used:
    """Collects what is used, from any thread; `before` is what was used already."""

    def __init__(self, before: Lock | None = None) -> None:
        self._guard = threading.Lock()
        self._kernels: dict[str, Kernel] = {}
        self._packages: dict[str, set[Package]] = defaultdict(set)
        self._images: dict[str, str] = dict(before.images) if before else {}
        self._lock: Lock | None = None
        if before:
            self._kernels.update(before.kernels)
            for arch, packages in before.packages.items():
                self.add_packages(arch, packages.values())

    def add_kernel(self, key: str, kernel: Kernel) -> None:
        """Note a kernel."""
        with self._guard:
            if self._kernels.get(key) != kernel:
                self._kernels[key], self._lock = kernel, None

    def add_packages(self, debian_arch: str, packages: Iterable[Package]) -> None:
        """Note packages."""
        with self._guard:
            known = self._packages[debian_arch]
            before = len(known)
            known.update(packages)
            if not before or len(known) > before:
                self._lock = None

    def add_image(self, name: str, digest: str) -> None:
        """Note an image of a registry."""
        with self._guard:
            if self._images.get(name) != digest:
                self._images[name], self._lock = digest, None

    def lock(self) -> Lock:
        """All of it, in an order that does not depend on the threads'. The same value until more is used."""
        with self._guard:
            self._lock = self._lock or Lock(
                kernels=dict(sorted(self._kernels.items())),
                packages={arch: _by_name(packages) for arch, packages in sorted(self._packages.items())},
                images=dict(sorted(self._images.items())),
            )
            return self._lock


def _by_name(packages: Iterable[Package]) -> dict[str, Package]:
    """Packages by name; those that several suites gave in different versions by `name/suite`."""
    names: dict[str, list[Package]] = defaultdict(list)
    for package in newest_first(packages):
        names[package.name].append(package)
    keyed: dict[str, Package] = {}
    for name, found in names.items():
        for package in found:
            keyed.setdefault(name if len(found) == 1 else f"{name}/{package.suite}", package)
    return keyed


class LockedPackages:
    """A lock's packages of one architecture, as something to resolve dependencies in."""

    def __init__(self, packages: Iterable[Package], suites: Sequence[str]) -> None:
        order = {suite: number for number, suite in enumerate(suites)}
        here = (package for package in newest_first(packages) if package.suite in order)
        self._packages = sorted(here, key=lambda one: order[one.suite])
        self._named: dict[str, list[Package]] = defaultdict(list)
        self._providing: dict[str, list[Package]] = defaultdict(list)
        for package in self._packages:
            self._named[package.name].append(package)
            for name in dict.fromkeys(item.split(" ")[0] for item in package.provides):
                self._providing[name].append(package)

    def named(self, name: str) -> list[Package]:
        """Packages of this name, in the order of the suites."""
        return self._named.get(name, [])

    def providing(self, name: str) -> list[Package]:
        """Packages that provide this name, in the order of the suites."""
        return self._providing.get(name, [])

    def names(self) -> Iterator[str]:
        """All names there are."""
        return (package.name for package in self._packages)
