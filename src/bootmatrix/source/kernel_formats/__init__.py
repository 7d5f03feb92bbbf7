"""Kinds of files and folders that kernels come in, one module each. A kind is found by its name.

A module of a kind has:

- `DESCRIPTION`: what it is, in a few words;
- `recognises(path)`: whether a file or folder is of this kind;
- `paths(path)`: the files that it is made of, which its digest covers;
- `members(path, platform)`: the files that belong to a kernel, for an OCI platform. Their paths end as in a package:
  `lib/modules/<release>/…/x.ko`, `config-<release>`, `x.dtb`.
"""

from __future__ import annotations

from bootmatrix.errors import InputError
from bootmatrix.source.kernel_formats import apk, config, deb, image, modules, oci, rpm, tarball, tree, tuxmake
from bootmatrix.source.kernel_formats.member import Kind, Member

KINDS: dict[str, Kind] = {
    "tuxmake": tuxmake,
    "tree": tree,
    "oci": oci,
    "deb": deb,
    "rpm": rpm,
    "apk": apk,
    "tar": tarball,
    "image": image,
    "modules": modules,
    "config": config,
}
"""In the order in which they are asked; the last two are named, never recognised."""


def find_kind(name: str) -> Kind:
    """The kind of this name.

    Raises:
        InputError: there is none.
    """
    if name not in KINDS:
        raise InputError(f"unknown kind of kernel {name!r}", f"Known: {', '.join(KINDS)}")
    return KINDS[name]


__all__ = ["KINDS", "Kind", "Member", "find_kind"]
