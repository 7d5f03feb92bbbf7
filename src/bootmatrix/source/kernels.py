"""Resolve a kernel's name to packages.

Up to 6.12, `linux-image-<release>` holds the whole kernel. From 7.x on it is a small package that depends on exact
versions of the packages with the kernel (`linux-binary-*`), its modules and its configuration (`linux-base-*`).
"""

import re
from collections.abc import Iterable

from debian.debian_support import Version

from bootmatrix.errors import NoSuchPackage
from bootmatrix.model import Kernel, KernelSource, Package

PREFIX = "linux-image-"
PARTS = ("linux-binary-", "linux-modules-", "linux-base-")
_EXACT = re.compile(r"(\S+) \(= (\S+)\)")
_MAX_LISTED = 8


def images_of(flavour: str, packages: Iterable[Package]) -> list[Package]:
    """Select the kernel images of exactly this flavour.

    Neither `cloud-<flavour>` nor `<flavour>-unsigned` matches. A release is a version with parts that begin with a
    digit or `rc`: `6.1.0-50`, `7.2.13+deb14`.
    """
    pattern = re.compile(rf"{PREFIX}\d[^-]*(?:-(?:\d|rc\d)[^-]*)*-{re.escape(flavour)}")
    return [package for package in packages if pattern.fullmatch(package.name)]


def matches(version: str, prefix: str) -> bool:
    """Return whether a version begins with the components of a prefix.

    6.1.170-1 begins with 6.1, and 6.12.43-1 does not.
    """
    return version.startswith(prefix) and not (prefix and version[len(prefix) :][:1].isalnum())


def choose(source: KernelSource, version: str, packages: Iterable[Package]) -> Package | None:
    """Find the newest image of a version in several suites; of equals, the first."""
    images = [image for image in images_of(source.flavour, packages) if matches(image.version, version)]
    return max(images, key=lambda image: Version(image.version), default=None)


def assemble(name: str, image: Package, packages: Iterable[Package]) -> Kernel:
    """Build the kernel of an image from the packages of its suite it depends on.

    Raises NoSuchPackage if one of them is missing.
    """
    candidates = {(package.name, package.version): package for package in packages if package.suite == image.suite}
    parts = []
    for depend in image.depends:
        match = _EXACT.fullmatch(depend)
        if match and match[1].startswith(PARTS):
            if (match[1], match[2]) not in candidates:
                raise NoSuchPackage(f"{image} needs {depend}, which {image.suite} lacks", "Try again in a few hours.")
            parts.append(candidates[match[1], match[2]])
    return Kernel(
        name=name,
        release=image.name.removeprefix(PREFIX),
        version=image.version,
        architecture=image.architecture,
        packages=(image, *sorted(parts, key=_part_order)),
    )


def _part_order(package: Package) -> int:
    return next(number for number, prefix in enumerate(PARTS) if package.name.startswith(prefix))


def no_such_kernel(version: str, source: KernelSource, debian_arch: str, packages: Iterable[Package]) -> NoSuchPackage:
    """Return the error for a missing kernel, with what the suites have instead."""
    packages = tuple(packages)
    images = images_of(source.flavour, packages)
    kernel = f"kernel {version}" if version else "kernel"
    message = f"no {kernel} of flavour {source.flavour} for {debian_arch} in {', '.join(source.suites)}"
    if images:
        return NoSuchPackage(message, f"Available: {listed(f'{image.version} ({image.suite})' for image in images)}.")
    suffixes = {match[1] for package in packages if (match := re.match(rf"{PREFIX}[\d.]+.*?-([a-z].*)", package.name))}
    hint = f"Available flavours: {listed(sorted(suffixes))}." if suffixes else "The suites have no kernels."
    return NoSuchPackage(message, hint)


def listed(items: Iterable[str]) -> str:
    """Join the first few different items."""
    unique = list(dict.fromkeys(items))
    more = f" and {len(unique) - _MAX_LISTED} more" if len(unique) > _MAX_LISTED else ""
    return ", ".join(unique[:_MAX_LISTED]) + more
