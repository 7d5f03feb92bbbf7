"""The containers' view of the root: a copy that protects init's files.

Most specs bind folders of their own, and need none. Init creates it (docs/guest-protocol.md) if the root has
WORLD_FILE.
"""

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
"""Its path. No path that a container can name leads out of it."""
BINDS = "/bootmatrix/binds"
"""Init's folder for a container's binds, resolved in the view as by the container."""
VOLUMES = "/containers/volumes/"

PROGRAMS = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc"}
"""Folders of the root with programs and settings of init: to be read, but not written to."""
INIT_OWN = {"init", "bootmatrix", "containers"}
"""Init's own folders, and those that it mounts for containers."""


@dataclass(frozen=True)
class Named:
    """A path that a container names; if `is_made`, init creates it before."""

    container: str
    path: str
    can_write: bool
    is_made: bool = False


def needs_world(bundles: Sequence[BundleSpec], spec: Spec, tree: Tree) -> bool:
    """Return whether a container's path leads, or may lead, to init's files.

    Containers with all privileges do not count.
    """
    bounded = [bundle for bundle in bundles if not is_open(bundle.settings)]
    if any(_changes_mounts(bundle) for bundle in bounded):
        return True
    named = [path for bundle in bounded for path in named_paths(bundle)]
    links = {posixpath.normpath("/" + file.path) for file in spec.files if file.symlink}
    return any(not _is_harmless(path, named, links, tree) for path in named)


def _changes_mounts(bundle: BundleSpec) -> bool:
    """Return whether init mounts in, or creates paths in, a container's view."""
    runtime = bundle.settings.runtime
    if runtime is None:
        return False
    spaces = runtime.bind_ns.model_dump() if runtime.bind_ns else {}
    return bool(runtime.mounts or any(spaces.values()) or any(not path.startswith("/") for path in runtime.mkdir or ()))


def named_paths(bundle: BundleSpec) -> Iterator[Named]:
    """Yield guest paths that a container binds, or lets init create."""
    name, settings = bundle.container.name, bundle.settings
    for source, options in bind_sources(bundle):
        yield Named(name, normal(source), not is_readonly(options))
    runtime = settings.runtime
    for path in (runtime and runtime.mkdir) or ():
        if path.startswith("/"):
            yield Named(name, normal(path), can_write=False, is_made=True)


def bind_sources(bundle: BundleSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the sources and options of a container's binds."""
    for text in bundle.settings.binds or ():
        source, _, rest = text.partition(":")
        yield source, tuple(rest.partition(":")[2].split(","))
    for mount in bundle.settings.mounts or ():
        if is_bind(mount.usual_type, mount.options):
            yield mount.source, mount.options


def normal(path: str) -> str:
    """Normalise a path: no doubled slashes, `.` and `..`; relative to the root."""
    return posixpath.normpath("/" + path.lstrip("/"))


def is_volume(path: str) -> bool:
    """Return whether a path is a volume's, which containers cannot replace."""
    name, slash, rest = path.removeprefix(VOLUMES).partition("/")
    return path.startswith(VOLUMES) and bool(name and slash) and rest == "merged"


def _is_harmless(own: Named, named: Iterable[Named], links: set[str], tree: Tree) -> bool:
    if is_volume(own.path) or any(is_within(own.path, link) for link in links):
        return is_volume(own.path)
    try:
        path = normal(tree.resolve(own.path, whole=True))
    except BuildError:
        return False
    return not any(_can_replace(other, own, path) for other in named) and _is_elsewhere(path, own.can_write)


def _is_elsewhere(path: str, can_write: bool) -> bool:
    """Return whether a path, without links, is independent of init's files."""
    top, _, rest = path[1:].partition("/")
    if top in PROGRAMS:
        return not can_write
    if top == "proc":  # /proc/1/root leads everywhere, and /proc has the processes of all others
        process = rest.partition("/")[0]
        return bool(process) and not process.isdigit() and not process.endswith("self")
    if is_within(path, "/dev/fd"):  # which leads to /proc/self
        return False
    return bool(top) and top not in INIT_OWN and not (path == "/dev" and can_write)


def _can_replace(other: Named, own: Named, path: str) -> bool:
    """Return whether another container may replace a part of a path by a link."""
    if not other.can_write or (own.is_made and own.container == other.container):
        return False
    return any(each != other.path and is_within(each, other.path) for each in (own.path, path))


def is_within(path: str, folder: str) -> bool:
    """Return whether a path is a folder or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
