"""Parts of a forked guest: the template's initrd, and a disk with the spec's own part."""

from __future__ import annotations

from collections.abc import Iterable

from bootmatrix.assembly.initrd.bundle_spec import BundleSpec, writes_root
from bootmatrix.assembly.initrd.root import base_tree
from bootmatrix.assembly.tree import Node, Tree, directory, text_file
from bootmatrix.errors import BuildError
from bootmatrix.model import Machine, Profile, Spec, StoredImage
from bootmatrix.qemu.command import DISK_BUSES
from bootmatrix.store import Store

FORK = "bootmatrix.fork"
"""Label of an init image whose init knows how to be copied."""
MODULES = ("virtio_blk", "squashfs", "overlay")
"""Kernel modules with which a copy reads its disk, and that containers need."""
RESEED = "usr/lib/bootmatrix/reseed"
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


def why_not(profile: Profile, machine: Machine, cmdline: str, init: Iterable[StoredImage]) -> str:
    """Return why a guest can only be booted cold; empty if it can be forked."""
    reasons = {
        "the spec has a kernel command line of its own": bool(cmdline),
        f"no init image has the label {FORK}": not any(FORK in image.config.labels for image in init),
    }
    return why_never(profile, machine) or next((reason for reason, holds in reasons.items() if holds), "")


def why_never(profile: Profile, machine: Machine) -> str:
    """Return why no guest of a machine can be forked; empty if some can."""
    reasons = {
        "the machine has no virtio bus": machine.bus not in DISK_BUSES or machine.result != "virtio-serial",
        "the machine has flash memory": bool(machine.flash),
        "QEMU does not restore saved guests of this machine": not machine.forks,
        "only an emulated CPU is forked": not machine.emulated().is_emulated(),
        "the profile has no 'reseed'": not profile.reseed,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def template_tree(init: list[StoredImage], profile: Profile, store: Store) -> Tree:
    """Build the template's root: the common part of all specs with these init images.

    Raises:
        BuildError: the init images contain no program of this architecture.
    """
    tree = base_tree(init, store)
    tree.put(CONTAINERS, directory())
    tree.put(RESEED, Node("file", 0o755, data=_program(bytes.fromhex(profile.reseed or ""), tree)))
    return tree


def _program(code: bytes, tree: Tree) -> bytes:
    """Build a static ELF executable of this machine code, for the machine of the tree's programs (elf(5))."""
    like = next((node.read() for _, node in tree.items() if node.kind == "file" and _is_elf(node)), None)
    if like is None:
        raise BuildError("the init images hold no program")
    order = "little" if like[5] == 1 else "big"
    wide = like[4] == 2
    word, header, entry = (8, 64, 56) if wide else (4, 52, 32)
    start = 0x10000  # below it, vm.mmap_min_addr may forbid a mapping

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little" if order == "little" else "big")

    flags = like[48:52] if wide else like[36:40]
    size = header + entry + len(code)
    head = b"".join(
        (
            like[:16],
            number(2, 2),
            like[18:20],
            number(1, 4),
            number(start + header + entry, word),
            number(header, word),
            number(0, word),
            flags,
            *(number(value, 2) for value in (header, entry, 1, 0, 0, 0)),
        )
    )
    place = [number(value, word) for value in (0, start, start, size, size)]
    rights = number(5, 4)
    segment = (number(1, 4), rights, *place) if wide else (number(1, 4), *place, rights)
    return b"".join((head, *segment, number(0x10000, word), code))


def _is_elf(node: Node) -> bool:
    return node.size > 64 and node.read()[:4] == b"\x7fELF"


def disk_tree(whole: Tree, init: list[StoredImage], store: Store, *, writes: bool) -> tuple[Tree, str]:
    """Build the tree of a clone's disk: the guest's root beyond the init images, or a reason."""
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


def writes_bundles(spec: Spec, placed: Iterable[BundleSpec]) -> bool:
    """Return whether anything may write below /containers; a disk needs an overlay for that."""
    return bool(spec.volumes) or any(writes_root(one) for one in placed)


def _put_with_folders(path: str, whole: Tree, disk: Tree) -> None:
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        part = "/".join(parts[:count])
        disk.put(f"{ROOT_FOLDER}/{part}", whole.nodes[part])


def _same(one: Node, other: Node) -> bool:
    same = (one.kind, one.mode, one.uid, one.gid, one.target, one.device) == (
        (other.kind, other.mode, other.uid, other.gid, other.target, other.device)
    )
    return same and (one.data == other.data or one.read() == other.read())
