"""Files of forked guests: the template's initrd, and the clone's disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from bootmatrix.assembly.fork import DISK_FORMAT, disk_tree, template_tree, why_not
from bootmatrix.assembly.fork import MODULES as FORK_MODULES
from bootmatrix.assembly.image.builder import EPOCH_S, Builder
from bootmatrix.assembly.image_disks import write_disk
from bootmatrix.assembly.initrd.cache import FORMAT, Segment, join, segment
from bootmatrix.assembly.initrd.cpio import write_cpio
from bootmatrix.assembly.initrd.segments import for_kernel, module_segment
from bootmatrix.assembly.kernel.package import (
    KernelFiles,
    load_order,
)
from bootmatrix.assembly.tree import Tree
from bootmatrix.model import Artefact, Forkable, Kernel, Machine, Profile, StoredImage


@dataclass(frozen=True)
class ForkPlan:
    """Inputs that decide if and how a guest can be forked."""

    profile: Profile
    machine: Machine
    kernel: Kernel
    files: KernelFiles
    modules: tuple[str, ...]
    init: tuple[StoredImage, ...]
    cmdline: str
    writes: bool


def forked_parts(plan: ForkPlan, whole: Callable[[], Tree], userland: str, builder: Builder) -> dict[str, object]:
    """Return the fields of a Bootable about forking."""
    reason = why_not(plan.machine, plan.cmdline, plan.init)
    if reason:
        return {"cold_reason": reason}
    modules, missing = load_order(plan.files, (*plan.modules, *FORK_MODULES))
    lacking = [name for name in missing if name in FORK_MODULES]
    if lacking:
        return {"cold_reason": f"the kernel has no module {lacking[0]}"}
    disk = _disk(plan, whole, userland, builder)
    if isinstance(disk, str):
        return {"cold_reason": disk}
    parts = (
        _template(plan, builder),
        module_segment(plan.kernel, plan.files, [module.path for module in modules], builder),
    )
    initrd = join(
        for_kernel(parts, plan.files, builder),
        f"to be forked, {plan.profile.name} {plan.kernel.release}",
        builder,
    )
    return {"forkable": Forkable(initrd=initrd, disk=disk)}


def _template(plan: ForkPlan, builder: Builder) -> Segment:
    init = list(plan.init)
    key = json.dumps(["template", FORMAT, [image.digest for image in init]])
    return segment(key, builder, lambda: write_cpio(template_tree(init, builder.store), EPOCH_S))


def _disk(plan: ForkPlan, whole: Callable[[], Tree], userland: str, builder: Builder) -> Artefact | str:
    """Build the disk of a clone, cached; return the reason if there cannot be one."""
    store, key = builder.store, json.dumps(["disk", DISK_FORMAT, FORMAT, userland])

    def make() -> tuple[str, str, int]:
        tree, reason = disk_tree(whole(), list(plan.init), store, writes=plan.writes)
        return (reason, "", 0) if reason else ("", *write_disk(tree, EPOCH_S, store))

    reason, digest, size = store.cached("disk", key, make, is_whole=lambda disk: bool(disk[0]) or store.has(disk[1]))
    if reason:
        return reason
    path = str(store.verified(digest))
    return Artefact(kind="disk", name="the spec's part", path=path, sha256=digest, size_bytes=size)
