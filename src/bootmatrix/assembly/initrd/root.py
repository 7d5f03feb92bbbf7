"""The guest's root: init images, volumes, containers, files, and init's settings."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.image.roots import completed
from bootmatrix.assembly.initrd.bundle import SHARED_PIDS, add_bundles
from bootmatrix.assembly.initrd.bundle_spec import BundleSpec, check_seconds, first_process, stop_seconds
from bootmatrix.assembly.initrd.files import SpecSources, add_files, source_digests
from bootmatrix.assembly.initrd.own_init import PROTOCOL, check_files, check_images
from bootmatrix.assembly.initrd.volumes import RESOLV_CONF, add_volumes
from bootmatrix.assembly.initrd.world import WORLD_FILE, needs_world
from bootmatrix.assembly.tree import Node, Tree, directory, text_file
from bootmatrix.errors import BuildError
from bootmatrix.model import Spec, StoredImage
from bootmatrix.store import Store

FIRST_ID = 100
"""Containers that are named in a uid or gid get numbers from here on, as in LinuxKit."""


@dataclass(frozen=True)
class RootParts:
    """A spec, its images and bundles. `sources` are digests of the spec's files.

    The roots of images whose digests are in `on_disk` are left out.
    """

    spec: Spec
    images: Mapping[str, StoredImage]
    bundles: tuple[BundleSpec, ...]
    store: Store
    sources: Mapping[str, str] | None = None
    on_disk: Collection[str] = ()


def guest_tree(parts: RootParts) -> Tree:
    """Build the guest's root without kernel parts.

    Raises BuildError if an image, a setting or a file is not possible in the guest.
    """
    tree = _folders()
    tree.graft(linuxkit_tree(parts), "")
    if tree.get("init") is None:
        raise BuildError(
            f"{parts.spec.path}: none of the images under 'init' has a file /init", "Add the image 'init'."
        )
    _put_console(tree)
    tree.put("etc/bootmatrix/checks", text_file(_seconds_list(check_seconds(parts.bundles))))
    if stops := stop_seconds(parts.bundles):
        tree.put("etc/bootmatrix/stops", text_file(_seconds_list(stops)))
    if words := first_process(parts.bundles):
        tree.put("etc/bootmatrix/pid1", text_file("\t".join(words) + "\n"))
    return tree


def _seconds_list(limits: Mapping[str, float]) -> str:
    return "".join(f"{name} {max(1, round(limit))}\n" for name, limit in limits.items())


def base_tree(init: Iterable[StoredImage], store: Store) -> Tree:
    """Build the init images' part of the root, which is all of it for an empty spec."""
    tree = _folders()
    tree.graft(_init_tree(init, store), "")
    _put_console(tree)
    return tree


def _folders() -> Tree:
    tree = Tree()
    for path in ("run", "var"):
        tree.put(path, directory())
    tree.put("tmp", directory(0o1777))
    return tree


def _put_console(tree: Tree) -> None:
    tree.put("dev/console", Node("char", 0o600, device=(5, 1)))


def _init_tree(init: Iterable[StoredImage], store: Store) -> Tree:
    tree = Tree()
    for image in init:
        tree.graft(completed(image_tree(image, store), resolv_conf=RESOLV_CONF), "")
    return tree


def linuxkit_tree(parts: RootParts) -> Tree:
    """Build the root as LinuxKit does, and init's settings in etc/bootmatrix.

    Raises BuildError as guest_tree does.
    """
    spec, images, store = parts.spec, parts.images, parts.store
    init = [images[reference] for reference in spec.init]
    tree = _init_tree(init, store)
    if any(PROTOCOL in image.config.labels for image in init):
        check_images(tree, init, store)
    ids = container_ids(parts.bundles)
    add_volumes(spec.volumes, images, tree, store)
    in_world = needs_world(parts.bundles, spec, tree)
    if in_world:
        tree.put(WORLD_FILE, text_file(""))
        tree.put(SHARED_PIDS, text_file(""))  # whose /proc is what they see of it
    add_bundles(id_order(parts.bundles), ids, tree, store, in_world=in_world, on_disk=parts.on_disk)
    before = dict(tree.nodes) if spec.files and any(PROTOCOL in image.config.labels for image in init) else None
    add_files(spec, ids, tree, SpecSources(store, source_digests(spec) if parts.sources is None else parts.sources))
    if before is not None:
        check_files(before, tree)
    return tree


def container_ids(bundles: tuple[BundleSpec, ...]) -> dict[str, int]:
    """Return the numbers that containers' names stand for in a uid or gid."""
    return {bundle.container.name: number for number, bundle in enumerate(id_order(bundles), start=FIRST_ID)}


def id_order(bundles: tuple[BundleSpec, ...]) -> list[BundleSpec]:
    """Return bundles in the order in which they are numbered and share roots."""
    order = {"onboot": 0, "onshutdown": 1, "services": 2}
    return sorted(bundles, key=lambda bundle: order[bundle.section])
