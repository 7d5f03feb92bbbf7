"""The containers' view of the guest's root: a copy that init makes when a bind would otherwise reach its own files.

Most specs bind folders of their own, and need none. Init makes one (docs/guest-protocol.md) if the spec has this file:
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.assembly.initrd.bundle_spec import BundleSpec
from bootmatrix.assembly.initrd.privileges import is_bind, is_open, is_readonly
from bootmatrix.assembly.tree import Tree
from bootmatrix.errors import BuildError
from bootmatrix.model import Spec

WORLD_FILE = "etc/bootmatrix/world"
WORLD = "/bootmatrix/world"
"""Where init has it. No path that a container can name leads out of it."""
BINDS = "/bootmatrix/binds"
"""Where init puts what a container binds, found in the view as the container would find it."""
VOLUMES = "/containers/volumes/"

PROGRAMS = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc"}
"""Folders of the root with programs and settings of init: to be read, but not written to."""
INIT_OWN = {"init", "bootmatrix", "containers"}
"""Init's own, and what it mounts for containers."""


@dataclass(frozen=True)
class Named:
    """A path of the guest that a container's settings name. `is_made`: init makes it, before the container runs."""

    container: str
    path: str
    can_write: bool
    is_made: bool = False


def needs_world(bundles: Sequence[BundleSpec], spec: Spec, tree: Tree) -> bool:
    """Return whether a path that a container names leads to files of init, or may be made to lead there.

    Containers that may do anything are no reason for a view of their own.
    """
    bounded = [one for one in bundles if not is_open(one.settings)]
    if any(_changes_mounts(one) for one in bounded):
        return True
    named = [path for one in bounded for path in named_paths(one)]
    links = {posixpath.normpath("/" + file.path) for file in spec.files if file.symlink}
    return any(not _is_harmless(path, named, links, tree) for path in named)


def _changes_mounts(one: BundleSpec) -> bool:
    """Whether init mounts something in the guest's root, or makes something in the container's, in its words."""
    runtime = one.settings.runtime
    if runtime is None:
        return False
    spaces = runtime.bind_ns.model_dump() if runtime.bind_ns else {}
    return bool(runtime.mounts or any(spaces.values()) or any(not path.startswith("/") for path in runtime.mkdir or ()))


def named_paths(one: BundleSpec) -> Iterator[Named]:
    """Yield the paths of the guest that a container binds, or has init make."""
    name, settings = one.container.name, one.settings
    for source, options in bind_sources(one):
        yield Named(name, normal(source), not is_readonly(options))
    runtime = settings.runtime
    for path in (runtime and runtime.mkdir) or ():
        if path.startswith("/"):
            yield Named(name, normal(path), can_write=False, is_made=True)


def bind_sources(one: BundleSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the sources and options of a container's binds."""
    for text in one.settings.binds or ():
        source, _, rest = text.partition(":")
        yield source, tuple(rest.partition(":")[2].split(","))
    for mount in one.settings.mounts or ():
        if is_bind(mount.usual_type, mount.options):
            yield mount.source, mount.options


def normal(path: str) -> str:
    """Return a path without doubled slashes, `.` and `..`; one that is not absolute is the root's."""
    return posixpath.normpath("/" + path.lstrip("/"))


def is_volume(path: str) -> bool:
    """Return whether a path is the folder of a volume, which init has mounted and no container can replace."""
    name, slash, rest = path.removeprefix(VOLUMES).partition("/")
    return path.startswith(VOLUMES) and bool(name and slash) and rest == "merged"


def _is_harmless(one: Named, named: Iterable[Named], links: set[str], tree: Tree) -> bool:
    if is_volume(one.path) or any(is_within(one.path, link) for link in links):
        return is_volume(one.path)
    try:
        path = normal(tree.resolve(one.path, whole=True))
    except BuildError:
        return False
    return not any(_can_replace(other, one, path) for other in named) and _is_elsewhere(path, one.can_write)


def _is_elsewhere(path: str, can_write: bool) -> bool:
    """Whether nothing of init's is to be had, or to be changed, by a path that no link leads astray."""
    top, _, rest = path[1:].partition("/")
    if top in PROGRAMS:
        return not can_write
    if top == "proc":  # /proc/1/root leads anywhere, and /proc has the processes of all others
        process = rest.partition("/")[0]
        return bool(process) and not process.isdigit() and not process.endswith("self")
    if is_within(path, "/dev/fd"):  # which leads to /proc/self
        return False
    return bool(top) and top not in INIT_OWN and not (path == "/dev" and can_write)


def _can_replace(other: Named, one: Named, path: str) -> bool:
    """Whether another path's container may put a link where this path leads through."""
    if not other.can_write or (one.is_made and one.container == other.container):
        return False
    return any(each != other.path and is_within(each, other.path) for each in (one.path, path))


def is_within(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
