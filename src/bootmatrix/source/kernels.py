"""Which packages a kernel's name stands for.

Up to 6.12 all of a kernel is in `linux-image-<release>`. From 7.x that is a small package, which depends on the exact
version of those that hold the kernel (`linux-binary-*`), its modules and its configuration (`linux-base-*`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from debian.debian_support import Version

from bootmatrix.errors import NoSuchPackage
from bootmatrix.model import Kernel, KernelSource, Package

PREFIX = "linux-image-"
PARTS = ("linux-binary-", "linux-modules-", "linux-base-")
_EXACT = re.compile(r"(\S+) \(= (\S+)\)")
_SHOWN = 8


def images_of(flavour: str, packages: Iterable[Package]) -> list[Package]:
    """Kernel images of exactly this flavour: not of `cloud-<flavour>`, nor of `<flavour>-unsigned`.

    Debian's release is a version, with further parts that begin with a digit or `rc`: `6.1.0-50`, `7.2.13+deb14`.
    """
    pattern = re.compile(rf"{PREFIX}\d[^-]*(?:-(?:\d|rc\d)[^-]*)*-{re.escape(flavour)}")
    return [package for package in packages if pattern.fullmatch(package.name)]


def matches(version: str, prefix: str) -> bool:
    """Whether a version begins with the components of a prefix: 6.1.170-1 with 6.1, and 6.12.43-1 not."""
    return version.startswith(prefix) and not (prefix and version[len(prefix) :][:1].isalnum())


def choose(source: KernelSource, wanted: str, packages: Iterable[Package]) -> Package | None:
    """The newest image of a version among the packages of several suites; of equals, the first."""
    images = [image for image in images_of(source.flavour, packages) if matches(image.version, wanted)]
    return max(images, key=lambda image: Version(image.version), default=None)


def assemble(name: str, image: Package, packages: Iterable[Package]) -> Kernel:
    """The kernel of an image: with the packages of its suite that it depends on for its parts.

    Raises:
        NoSuchPackage: one of them is missing.
    """
    known = {(package.name, package.version): package for package in packages if package.suite == image.suite}
    parts = []
    for depend in image.depends:
        found = _EXACT.fullmatch(depend)
        if found and found[1].startswith(PARTS):
            if (found[1], found[2]) not in known:
                raise NoSuchPackage(f"{image} needs {depend}, which {image.suite} has not", "Try again in some hours.")
            parts.append(known[found[1], found[2]])
    return Kernel(
        name=name,
        release=image.name.removeprefix(PREFIX),
        version=image.version,
        architecture=image.architecture,
        packages=(image, *sorted(parts, key=_part_order)),
    )


def _part_order(package: Package) -> int:
    return next(number for number, prefix in enumerate(PARTS) if package.name.startswith(prefix))


def no_such_kernel(wanted: str, source: KernelSource, debian_arch: str, packages: Iterable[Package]) -> NoSuchPackage:
    """The error for a kernel that no suite has; it tells what there is instead."""
    packages = tuple(packages)
    there = images_of(source.flavour, packages)
    what = f"kernel {wanted}" if wanted else "kernel"
    message = f"no {what} of flavour {source.flavour} for {debian_arch} in {', '.join(source.suites)}"
    if there:
        return NoSuchPackage(message, f"There are {_listed(f'{image.version} ({image.suite})' for image in there)}.")
    suffixes = {found[1] for package in packages if (found := re.match(rf"{PREFIX}[\d.]+.*?-([a-z].*)", package.name))}
    hint = f"Its flavours there are {_listed(sorted(suffixes))}." if suffixes else "There is none of any flavour."
    return NoSuchPackage(message, hint)


def _listed(items: Iterable[str]) -> str:
    found = list(dict.fromkeys(items))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
