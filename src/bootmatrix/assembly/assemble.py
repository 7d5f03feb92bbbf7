"""Assemble a spec, a machine and a kernel into a bootable; parts are cached."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from bootmatrix.assembly.firmware import board_firmware
from bootmatrix.assembly.fork import DISK_FORMAT, disk_tree, template_tree, why_not, writes_bundles
from bootmatrix.assembly.fork import MODULES as FORK_MODULES
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.image_disks import MODULES as DISK_MODULES
from bootmatrix.assembly.image_disks import SCRATCH_MODULES, check_scratch, image_disks, images_on_disk, write_disk
from bootmatrix.assembly.initrd.bundle_spec import (
    first_process,
    named_modules,
    needed_modules,
    needs_every_module,
    needs_network,
    needs_outbound,
)
from bootmatrix.assembly.initrd.cache import FORMAT, Segment, join, segment
from bootmatrix.assembly.initrd.cpio import write_cpio
from bootmatrix.assembly.initrd.memory import check_memory
from bootmatrix.assembly.initrd.own_init import check_cmdline
from bootmatrix.assembly.initrd.privileges import MAKE_DEVICES, capability_names
from bootmatrix.assembly.initrd.segments import every_module_segment, for_kernel, module_segment, modules_key
from bootmatrix.assembly.kernel.module_pack import Module
from bootmatrix.assembly.kernel.options import Purpose, is_built_in, missing_options
from bootmatrix.assembly.kernel.package import (
    KernelFiles,
    check_form,
    check_modules,
    dtb_artefact,
    every_module_tree,
    kernel_artefact,
    load_order,
    module_tree,
    unpack_kernel,
)
from bootmatrix.assembly.prebuilt_guest import without_consoles
from bootmatrix.assembly.tree import EPOCH_S, Tree
from bootmatrix.assembly.userland import Userland, gather_userland
from bootmatrix.errors import BuildError
from bootmatrix.model import Artefact, Bootable, Forkable, Kernel, Machine, Profile, RootPlace, Spec, StoredImage
from bootmatrix.model.artefact import LACKS_MODULE, LACKS_OPTION
from bootmatrix.model.spec import PID1

CHROOT = "/chroot"
"""The end of the name of the image whose runtime only changes the root: it needs no options of containers."""


@dataclass(frozen=True)
class Assembly(Userland):
    """All fetched inputs of a guest: a userland for a machine and a kernel."""

    machine: Machine
    kernel: Kernel
    files: KernelFiles
    wanted: tuple[str, ...]
    network: bool
    on_disk: tuple[StoredImage, ...] = ()

    @cached_property
    def key(self) -> str:
        """Cache key of the guest's root and initrd, computed without building them.

        Images count by their digests: they have extended attributes, for which an initrd has no place.
        """
        modules = modules_key(self.kernel, self.files, [module.path for module in self.modules[0]])
        return json.dumps([self.root_key, modules, needs_every_module(self.bundles), self.files.ucode])

    @property
    def modules(self) -> tuple[list[Module], list[str]]:
        """Modules in load order, and the names that the kernel lacks."""
        return load_order(self.files, self.wanted)

    def whole(self) -> Tree:
        """The guest's root with the kernel's modules."""
        tree = self.root()
        tree.graft(module_tree(self.kernel, self.files, self.modules[0], self.builder.store), "")
        if needs_every_module(self.bundles):
            tree.graft(every_module_tree(self.kernel, self.files, self.builder.store), "")
        return tree


def gather(  # noqa: PLR0913, PLR0917
    spec: Spec,
    profile: Profile,
    machine: Machine,
    kernel: Kernel,
    builder: Builder,
    roots: RootPlace = "ram",
    images: dict[str, StoredImage] | None = None,
) -> Assembly:
    """Fetch everything that a machine boots for a spec.

    `roots` says where the roots of containers are in a cold boot. `images` are the spec's, if they are there already.

    Raises BuildError if the spec cannot be built for this machine, InfraError for a fault of the archive, the network
    or the host.
    """
    user = gather_userland(spec, profile, builder, images)
    bundles, init = user.bundles, user.init
    if user.reports:
        check_cmdline(" ".join(machine.cmdline), f"the profile's cmdline of {machine.machine}")
    if first_process(bundles) and machine.result != "virtio-serial":
        raise BuildError(
            f"a service is to be the guest's first process ({PID1}), which takes the console: init needs a port, and "
            f"{machine.machine} has none",
            "Exclude this machine.",
        )
    network = needs_network(bundles, init)
    if network and not machine.network:
        raise BuildError(f"the spec needs a network card, and {machine.machine} has none", "Exclude this machine.")
    files = unpack_kernel(kernel, builder.archive, builder.store)
    check_form(kernel, files, machine)
    check_modules(kernel, files, named_modules(bundles, init))
    if machine.scratch_mib:
        check_scratch(machine, files, init)
    on_disk = images_on_disk(roots, machine, files, bundles, init)
    wanted = (
        *machine.modules,
        *(DISK_MODULES if on_disk else ()),
        *(SCRATCH_MODULES if machine.scratch_mib else ()),
        *(machine.network_modules if network else ()),
        *needed_modules(bundles, init, spec.volumes),
    )
    userland = (user.spec, user.profile, user.builder, user.images, user.bundles)
    return Assembly(*userland, machine, kernel, files, wanted, network, on_disk)


def build(  # noqa: PLR0913, PLR0917
    spec: Spec, profile: Profile, machine: Machine, kernel: Kernel, builder: Builder, roots: RootPlace = "ram"
) -> Bootable:
    """Build the bootable of a machine for a spec, with the parts for forking.

    Raises BuildError if the spec cannot be built for this machine, InfraError for a fault of the archive, the network
    or the host.
    """
    bootable = bootable_of(gather(spec, profile, machine, kernel, builder, roots))
    check_memory(machine, bootable)
    return bootable


def bootable_of(assembly: Assembly) -> Bootable:
    """Build the bootable; its `reports` is true if the spec's init is ours."""
    initrd, unpacked_bytes = _initrd(assembly)
    bootable = without_initrd(assembly).model_copy(update={"initrd": initrd, "unpacked_bytes": unpacked_bytes})
    return bootable.model_copy(update=_forkable(assembly, bootable.cmdline)) if assembly.builder.fork else bootable


def _leads_out(assembly: Assembly) -> bool:
    """Return whether the guest's network leads outside.

    Raises BuildError if it does, and only what a lock has may be used.
    """
    leads_out = assembly.network and needs_outbound(assembly.bundles)
    archive = assembly.builder.archive
    if leads_out and archive.is_confined:
        raise BuildError(
            "its network leads outside (outbound): an unreproducible input, which no lock holds",
            "Run it without --locked, or with '--network guest'.",
        )
    if leads_out:
        archive.used.add_unreproducible(f"{assembly.spec.name}/network", "outbound")
    return leads_out


def without_initrd(assembly: Assembly) -> Bootable:
    """Build all of a bootable except its initrd, which takes the longest."""
    machine, kernel, builder, files = assembly.machine, assembly.kernel, assembly.builder, assembly.files
    described = assembly.described()
    cmdline, consoles = without_consoles(assembly.spec.kernel.cmdline)
    unused = (f"{word} on the kernel's command line is not used: the machine sets it" for word in consoles)
    parts = {
        "kernel": kernel_artefact(kernel, files, machine, builder.store),
        "kernel_release": kernel.release,
        "dtb": dtb_artefact(machine.dtb, kernel, files, builder.store) if machine.dtb else None,
        **board_firmware(machine, assembly.profile, builder),
        "cmdline": cmdline,
        "network": assembly.network,
        "outbound": _leads_out(assembly),
        "privileged": (*described.privileged, *_scratch_writers(assembly)),
        "roots": image_disks(assembly.on_disk, builder.store),
        "notes": (*unused, *described.notes, *_lacking(assembly)),
    }
    return described.model_copy(update=parts)


def _scratch_writers(assembly: Assembly) -> Iterator[str]:
    """Return the containers that may write to others' files, and by what."""
    for bundle in assembly.bundles if assembly.machine.scratch_mib else ():
        if MAKE_DEVICES in capability_names(bundle.settings):
            yield f"{bundle.container.name}: {MAKE_DEVICES} beside a scratch disk"


def _lacking(assembly: Assembly) -> Iterator[str]:
    """Note modules, and options by the configuration, that the kernel lacks."""
    files = assembly.files
    config = assembly.builder.store.verified(files.config).read_bytes() if files.config else b""
    yield from (f"{LACKS_MODULE}{name}" for name in assembly.modules[1] if not is_built_in(name, config))
    if not (config and assembly.reports):
        return
    needed: dict[Purpose, bool] = {
        "containers": bool(assembly.bundles) and not any(image.endswith(CHROOT) for image in assembly.spec.init),
        "roots": "overlay" in assembly.wanted,
        "network": assembly.network,
    }
    purposes = (purpose for purpose, is_needed in needed.items() if is_needed)
    options = missing_options(config, assembly.machine, *purposes, release=assembly.kernel.release)
    yield from (f"{LACKS_OPTION}{option}" for option in options)


def _initrd(assembly: Assembly) -> tuple[Artefact, int]:
    """Build the initrd; return its unpacked size in bytes too."""
    kernel, builder = assembly.kernel, assembly.builder
    modules = [module.path for module in assembly.modules[0]]
    parts = (
        *((Segment(*assembly.files.ucode),) if assembly.files.ucode else ()),
        _userland(assembly),
        module_segment(kernel, assembly.files, modules, builder),
        *((every_module_segment(kernel, assembly.files, builder),) if needs_every_module(assembly.bundles) else ()),
    )
    name = f"{assembly.spec.name} {assembly.profile.name} {kernel.release}"
    return join(for_kernel(parts, assembly.files, builder), name, builder), sum(part.plain_bytes for part in parts)


def _forkable(assembly: Assembly, cmdline: str) -> dict[str, object]:
    """Return the fields of a Bootable about forking, or why it is not forked."""
    if needs_every_module(assembly.bundles):
        return {"cold_reason": "a container sees the folder of the kernel's modules"}
    if first_process(assembly.bundles):
        return {"cold_reason": "a service is the guest's first process"}
    if reason := why_not(assembly.machine, cmdline, assembly.init):
        return {"cold_reason": reason}
    modules, missing = load_order(assembly.files, (*assembly.wanted, *FORK_MODULES))
    if lacking := [name for name in missing if name in FORK_MODULES]:
        return {"cold_reason": f"the kernel has no module {lacking[0]}"}
    disk = _disk(assembly)
    if isinstance(disk, str):
        return {"cold_reason": disk}
    kernel, files, builder = assembly.kernel, assembly.files, assembly.builder
    parts = (_template(assembly), module_segment(kernel, files, [module.path for module in modules], builder))
    name = f"to be forked, {assembly.profile.name} {kernel.release}"
    return {"forkable": Forkable(initrd=join(for_kernel(parts, files, builder), name, builder), disk=disk)}


def _template(assembly: Assembly) -> Segment:
    init, builder = assembly.init, assembly.builder
    key = json.dumps(["template", FORMAT, [image.digest for image in init]])
    return segment(key, builder, lambda: write_cpio(template_tree(init, builder.store), EPOCH_S))


def _disk(assembly: Assembly) -> Artefact | str:
    """Build the disk of a clone, cached; return the reason if there cannot be one."""
    store, key = assembly.builder.store, json.dumps(["disk", DISK_FORMAT, FORMAT, assembly.root_key])
    writes = writes_bundles(assembly.spec, assembly.bundles)

    def make() -> tuple[str, str, int]:
        tree, reason = disk_tree(assembly.root(), assembly.init, store, writes=writes)
        return (reason, "", 0) if reason else ("", *write_disk(tree, EPOCH_S, store))

    reason, digest, size = store.cached("disk", key, make, is_whole=lambda disk: bool(disk[0]) or store.has(disk[1]))
    if reason:
        return reason
    path = str(store.verified(digest))
    return Artefact(kind="disk", name="the spec's part", path=path, sha256=digest, size_bytes=size)


def _userland(assembly: Assembly) -> Segment:
    """The segment of the root without those on disks, shared by all kernels."""
    key, on_disk = assembly.root_key, [image.digest for image in assembly.on_disk]
    if on_disk:
        key = json.dumps([key, "without", *on_disk])
    return segment(key, assembly.builder, lambda: write_cpio(assembly.root(frozenset(on_disk)), EPOCH_S))
