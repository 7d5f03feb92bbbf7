"""Parts of a forked guest: the template's initrd, and a disk of the spec's."""

from collections.abc import Iterable

from bootmatrix.assembly.initrd.bundle_spec import BundleSpec, writes_root
from bootmatrix.assembly.initrd.root import base_tree
from bootmatrix.assembly.tree import Node, Tree, directory, text_file
from bootmatrix.model import Machine, Spec, StoredImage
from bootmatrix.qemu.suitability import why_never
from bootmatrix.store import Store

FORK = "bootmatrix.fork"
"""Label of an init image whose init knows how to be copied."""
MODULES = ("virtio_blk", "squashfs", "overlay")
"""Kernel modules with which a copy reads its disk, and that containers need."""
DISK_FORMAT = 2
"""Changes whenever an older disk would not do any more."""
CONTAINERS = "containers"
SETTINGS = "etc/bootmatrix/"
SETTINGS_FOLDER = ".settings"
"""Folder of the disk that is mounted on /etc/bootmatrix; the disk itself is mounted on /containers."""
ROOT_FOLDER = ".root"
"""Folder of the disk whose files are copied to the guest's root, if there is one."""
WRITES_FILE = ".writes"
"""A file of the disk by which init knows to put an overlay on it."""


def why_not(machine: Machine, cmdline: str, init: Iterable[StoredImage]) -> str:
    """Return why a guest can only be booted cold; empty if it can be forked."""
    reasons = {
        "the spec has a kernel command line of its own": bool(cmdline),
        f"no init image has the label {FORK}": not any(FORK in image.config.labels for image in init),
    }
    return why_never(machine) or next((reason for reason, holds in reasons.items() if holds), "")


def template_tree(init: list[StoredImage], store: Store) -> Tree:
    """Build the template's root: the common part of all specs with these init images."""
    tree = base_tree(init, store)
    tree.put(CONTAINERS, directory())
    return tree


def disk_tree(whole: Tree, init: list[StoredImage], store: Store, *, writes: bool) -> tuple[Tree, str]:
    """Build the tree of a clone's disk, beyond the init images, or a reason."""
    base, disk = base_tree(init, store), Tree()
    disk.put(SETTINGS_FOLDER, directory())
    if writes:
        disk.put(WRITES_FILE, text_file(""))
    for path, node in whole.items():
        section, _, rest = path.partition("/")
        known = base.nodes.get(path)
        if section == CONTAINERS:
            disk.put(rest or ".", node)
        elif f"{path}/".startswith(SETTINGS):
            disk.put(f"{SETTINGS_FOLDER}/{path[len(SETTINGS) :]}".rstrip("/"), node)
        elif known is None:
            _put_with_folders(path, whole, disk)
        elif not _same(known, node):
            return disk, f"the spec replaces /{path} of the init images"
    return disk, ""


def writes_bundles(spec: Spec, bundles: Iterable[BundleSpec]) -> bool:
    """Return whether anything may write below /containers, and needs an overlay."""
    return bool(spec.volumes) or any(writes_root(bundle) for bundle in bundles)


def _put_with_folders(path: str, whole: Tree, disk: Tree) -> None:
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        part = "/".join(parts[:count])
        disk.put(f"{ROOT_FOLDER}/{part}", whole.nodes[part])


def _same(node: Node, other: Node) -> bool:
    same = (node.kind, node.mode, node.uid, node.gid, node.target, node.device) == (
        (other.kind, other.mode, other.uid, other.gid, other.target, other.device)
    )
    return same and node.has_data_of(other)
