"""Assembly of a spec, a machine and a kernel into a bootable. Shared parts are cached."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bootmatrix.assembly.firmware import board_firmware
from bootmatrix.assembly.fork import writes_bundles
from bootmatrix.assembly.forked_parts import ForkPlan, forked_parts
from bootmatrix.assembly.image.builder import EPOCH_S, Builder, make_image
from bootmatrix.assembly.image.contents import spec_contents
from bootmatrix.assembly.image.oci_volume import layout_image, layout_key
from bootmatrix.assembly.image.programs import check_programs
from bootmatrix.assembly.image_disks import MODULES as DISK_MODULES
from bootmatrix.assembly.image_disks import image_disks, images_on_disk
from bootmatrix.assembly.initrd.bundle import results
from bootmatrix.assembly.initrd.bundle_spec import (
    BundleSpec,
    check_seconds,
    console_proof,
    ignored_users,
    lost_paths,
    named_modules,
    needed_modules,
    needs_every_module,
    needs_network,
    needs_outbound,
    place,
    stop_seconds,
)
from bootmatrix.assembly.initrd.cache import FORMAT, Segment, join, segment
from bootmatrix.assembly.initrd.cpio import write_cpio
from bootmatrix.assembly.initrd.files import source_digests
from bootmatrix.assembly.initrd.image_label import check_labels, label_notes, self_granted
from bootmatrix.assembly.initrd.memory import check_memory
from bootmatrix.assembly.initrd.own_init import check_cmdline, find_protocol, privileged, unknown_daemons
from bootmatrix.assembly.initrd.root import RootParts, guest_tree
from bootmatrix.assembly.initrd.segments import every_module_segment, for_kernel, module_segment, modules_key
from bootmatrix.assembly.kernel.options import MissingOption, Purpose, missing_options
from bootmatrix.assembly.kernel.package import (
    KernelFiles,
    Module,
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
from bootmatrix.assembly.tree import Tree
from bootmatrix.errors import BuildError, InputError
from bootmatrix.model import Artefact, Bootable, Kernel, Machine, Profile, RootPlace, Spec, StoredImage
from bootmatrix.model.artefact import LACKS_MODULE, LACKS_OPTION


@dataclass(frozen=True)
class Assembly:
    """All fetched inputs of a guest, before anything is built."""

    spec: Spec
    profile: Profile
    machine: Machine
    kernel: Kernel
    builder: Builder
    images: dict[str, StoredImage]
    placed: tuple[BundleSpec, ...]
    files: KernelFiles
    wanted: tuple[str, ...]
    network: bool
    on_disk: tuple[StoredImage, ...] = ()

    @property
    def init(self) -> list[StoredImage]:
        """The init images."""
        return [self.images[reference] for reference in self.spec.init]

    @cached_property
    def protocol(self) -> int | None:
        """Version of the protocol by which the spec's init reports; None if it is not ours."""
        return find_protocol(self.init)

    @property
    def reports(self) -> bool:
        """True if the spec's init is bootmatrix's own."""
        return self.protocol is not None

    @cached_property
    def sources(self) -> dict[str, str]:
        """Digests of the spec's own files, which are used as they were when digested."""
        return source_digests(self.spec)

    @cached_property
    def key(self) -> str:
        """Cache key of the guest's root and initrd, computed without building them.

        Images count by their digests: they have extended attributes, for which an initrd has no place.
        """
        modules = modules_key(self.kernel, self.files, [one.path for one in self.modules[0]])
        every = needs_every_module(self.placed)
        more = [modules, every, self.files.ucode]
        return json.dumps([_userland_key(self.spec, self.images, self.sources), *more])

    @property
    def modules(self) -> tuple[list[Module], list[str]]:
        """Modules in load order, and the names that the kernel lacks."""
        return load_order(self.files, self.wanted)

    def userland(self) -> Tree:
        """The guest's root, without what depends on the kernel and the machine."""
        return guest_tree(RootParts(self.spec, self.images, self.placed, self.builder.store, self.sources))

    def userland_beside_disks(self) -> Tree:
        """The guest's root without the roots that are on disks."""
        digests = {image.digest for image in self.on_disk}
        return guest_tree(RootParts(self.spec, self.images, self.placed, self.builder.store, self.sources, digests))

    def whole(self) -> Tree:
        """The guest's root with the kernel's modules."""
        tree = self.userland()
        tree.graft(module_tree(self.kernel, self.files, self.modules[0], self.builder.store), "")
        if needs_every_module(self.placed):
            tree.graft(every_module_tree(self.kernel, self.files, self.builder.store), "")
        return tree


def fetch_images(spec: Spec, profile: Profile, builder: Builder) -> dict[str, StoredImage]:
    """Fetch or make all images of a spec, by reference.

    Raises:
        BuildError: an image cannot be built for this architecture.
        InfraError: a fault of the archive, the network or the host.
    """
    images = {}
    for name in references(spec):
        with _asked_by(spec, name):
            images[name] = make_image(name, Path(spec.path), profile, builder)
    for volume in spec.volumes:
        if volume.format == "oci":
            with _asked_by(spec, volume.image):
                images[layout_key(volume)] = layout_image(volume, Path(spec.path), profile, builder)
    return images


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

    Raises:
        BuildError: the spec cannot be built for this machine.
        InfraError: a fault of the archive, the network or the host.
    """
    images = images or fetch_images(spec, profile, builder)
    placed = place(spec, images)
    check_programs(placed, profile, builder)
    init = [images[reference] for reference in spec.init]
    if find_protocol(init) is not None:
        check_cmdline(spec)
        check_labels(placed)
    network = needs_network(placed, init)
    if network and not machine.network:
        raise BuildError(f"the spec needs a network card, and {machine.machine} has none", "Exclude this machine.")
    files = unpack_kernel(kernel, builder.archive, builder.store)
    check_form(kernel, files, machine)
    check_modules(kernel, files, named_modules(placed, init))
    on_disk = images_on_disk(roots, machine, files, placed, init)
    wanted = (
        *machine.modules,
        *(DISK_MODULES if on_disk else ()),
        *(machine.network_modules if network else ()),
        *needed_modules(placed, init, spec.volumes),
    )
    return Assembly(spec, profile, machine, kernel, builder, images, placed, files, wanted, network, on_disk)


def build(  # noqa: PLR0913, PLR0917
    spec: Spec, profile: Profile, machine: Machine, kernel: Kernel, builder: Builder, roots: RootPlace = "ram"
) -> Bootable:
    """Build the bootable of a machine for a spec, with the parts for forking if enabled.

    Raises:
        BuildError: the spec cannot be built for this machine.
        InfraError: a fault of the archive, the network or the host.
    """
    bootable = bootable_of(gather(spec, profile, machine, kernel, builder, roots))
    check_memory(machine, bootable)
    return bootable


def bootable_of(assembly: Assembly) -> Bootable:
    """Build the bootable. Its `reports` is true if the spec's init is bootmatrix's own."""
    initrd, unpacked_bytes = _initrd(assembly)
    bootable = without_initrd(assembly).model_copy(update={"initrd": initrd, "unpacked_bytes": unpacked_bytes})
    return bootable.model_copy(update=_forkable(assembly, bootable.cmdline)) if assembly.builder.fork else bootable


@contextmanager
def _asked_by(spec: Spec, name: str) -> Iterator[None]:
    """Name the file of a merged spec that asks for an image which cannot be had."""
    try:
        yield
    except (InputError, BuildError) as error:
        if name in spec.asked_by:
            raise type(error)(f"{spec.asker(name)}: {error.message}", error.hint) from error
        raise


def _leads_out(assembly: Assembly) -> bool:
    """Return whether the guest's network leads outside.

    Raises BuildError if it does, and only what a lock has may be used.
    """
    leads_out = assembly.network and needs_outbound(assembly.placed)
    if leads_out and assembly.builder.archive.is_confined:
        raise BuildError(
            "its network leads outside (outbound): an unreproducible input, which no lock holds",
            "Run it without --locked, or with '--network guest'.",
        )
    return leads_out


def without_initrd(assembly: Assembly) -> Bootable:
    """Build all of a bootable except its initrd, which takes the longest."""
    spec, machine, kernel, builder = assembly.spec, assembly.machine, assembly.kernel, assembly.builder
    placed, files = assembly.placed, assembly.files
    return Bootable(
        kernel=kernel_artefact(kernel, files, machine, builder.store),
        kernel_release=kernel.release,
        dtb=dtb_artefact(machine.dtb, kernel, files, builder.store) if machine.dtb else None,
        **board_firmware(machine, assembly.profile, builder),
        cmdline=_cmdline(spec)[0],
        network=assembly.network,
        outbound=_leads_out(assembly),
        roots=image_disks(assembly.on_disk, builder.store),
        images=tuple(image_artefact(image, builder) for image in assembly.images.values()),
        contents=tuple(spec_contents(spec, assembly.images, assembly.sources)),
        onboot=_names(placed, "onboot"),
        services=tuple(one.container.name for one in placed if one.section == "services" and not _is_check(one)),
        checks=check_seconds(placed),
        stops=stop_seconds(placed),
        onshutdown=_names(placed, "onshutdown"),
        results=results(placed),
        reports=assembly.reports,
        protocol=assembly.protocol or 1,
        privileged=privileged(placed, assembly.init, builder.store) if assembly.reports else (),
        self_granted=self_granted(placed),
        daemons=unknown_daemons(assembly.init, builder.store) if assembly.reports else (),
        proof=None if assembly.reports else console_proof(placed),
        notes=(
            *spec.notes,
            *_cmdline(spec)[1],
            *lost_paths(placed),
            *ignored_users(placed),
            *label_notes(placed),
            *(f"{LACKS_MODULE}{name}" for name in assembly.modules[1]),
            *(f"{LACKS_OPTION}{option}" for option in _lacking_options(assembly)),
        ),
    )


def _lacking_options(assembly: Assembly) -> tuple[MissingOption, ...]:
    """Return what the kernel's configuration lacks for the spec, if it has one and init is ours."""
    if not (assembly.files.config and assembly.reports):
        return ()
    config = assembly.builder.store.verified(assembly.files.config).read_bytes()
    needed: dict[Purpose, bool] = {
        "containers": bool(assembly.placed),
        "roots": "overlay" in assembly.wanted,
        "network": assembly.network,
    }
    purposes = (purpose for purpose, is_needed in needed.items() if is_needed)
    return missing_options(config, assembly.machine, *purposes, release=assembly.kernel.release)


def _initrd(assembly: Assembly) -> tuple[Artefact, int]:
    """Build the initrd; return its unpacked size in bytes too."""
    kernel, builder = assembly.kernel, assembly.builder
    modules = [one.path for one in assembly.modules[0]]
    parts = (
        *((Segment(*assembly.files.ucode),) if assembly.files.ucode else ()),
        _userland(assembly),
        module_segment(kernel, assembly.files, modules, builder),
        *((every_module_segment(kernel, assembly.files, builder),) if needs_every_module(assembly.placed) else ()),
    )
    name = f"{assembly.spec.name} {assembly.profile.name} {kernel.release}"
    return join(for_kernel(parts, assembly.files, builder), name, builder), sum(part.plain_bytes for part in parts)


def _forkable(assembly: Assembly, cmdline: str) -> dict[str, object]:
    """Return the fields of a Bootable about forking."""
    if needs_every_module(assembly.placed):
        return {"cold_reason": "a container sees the folder of the kernel's modules"}
    plan = ForkPlan(
        assembly.profile,
        assembly.machine,
        assembly.kernel,
        assembly.files,
        assembly.wanted,
        tuple(assembly.init),
        cmdline,
        writes_bundles(assembly.spec, assembly.placed),
    )
    return forked_parts(
        plan, assembly.userland, _userland_key(assembly.spec, assembly.images, assembly.sources), assembly.builder
    )


def _cmdline(spec: Spec) -> tuple[str, tuple[str, ...]]:
    """Return the spec's kernel command line without consoles, and a note on each of them."""
    cmdline, consoles = without_consoles(spec.kernel.cmdline)
    return cmdline, tuple(f"{word} on the kernel's command line is not used: the machine sets it" for word in consoles)


def references(spec: Spec) -> list[str]:
    """List the images that a spec names, except those of OCI volumes."""
    containers = (*spec.onboot, *spec.services, *spec.onshutdown)
    volumes = (volume.image for volume in spec.volumes if volume.image and volume.format != "oci")
    return list(dict.fromkeys((*spec.init, *volumes, *(container.image for container in containers))))


def _names(placed: tuple[BundleSpec, ...], section: str) -> tuple[str, ...]:
    return tuple(one.container.name for one in placed if one.section == section)


def _is_check(one: BundleSpec) -> bool:
    return one.container.name in check_seconds((one,))


def image_artefact(image: StoredImage, builder: Builder) -> Artefact:
    """Return an image as an artefact of records."""
    path = str(builder.store.blob(image.digest))
    return Artefact(kind="image", name=image.reference, path=path, sha256=image.digest, size_bytes=image.size_bytes)


def _userland(assembly: Assembly) -> Segment:
    """The segment that is independent of the kernel, shared by all kernels."""
    key = _userland_key(assembly.spec, assembly.images, assembly.sources)
    if assembly.on_disk:
        key = json.dumps([key, "without", *(image.digest for image in assembly.on_disk)])
    return segment(key, assembly.builder, lambda: write_cpio(assembly.userland_beside_disks(), EPOCH_S))


def _userland_key(spec: Spec, images: dict[str, StoredImage], sources: Mapping[str, str]) -> str:
    contents = spec.model_dump(mode="json", by_alias=True, exclude={"path", "notes", "kernel"})
    return json.dumps(
        ["userland", FORMAT, contents, sources, {name: image.digest for name, image in images.items()}], sort_keys=True
    )
