"""The part of a guest without kernel and machine: images and the root."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bootmatrix.assembly.image.builder import Builder, make_image, shipped_digests
from bootmatrix.assembly.image.contents import spec_contents
from bootmatrix.assembly.image.oci_volume import layout_image, layout_key
from bootmatrix.assembly.image.programs import check_programs
from bootmatrix.assembly.initrd.bundle import results
from bootmatrix.assembly.initrd.bundle_spec import (
    BundleSpec,
    check_seconds,
    console_proof,
    ignored_users,
    lost_paths,
    place,
    stop_seconds,
)
from bootmatrix.assembly.initrd.cache import FORMAT
from bootmatrix.assembly.initrd.files import source_digests
from bootmatrix.assembly.initrd.image_label import check_labels, label_notes, self_granted
from bootmatrix.assembly.initrd.own_init import (
    SHIPPED,
    check_cmdline,
    find_protocol,
    other_inits,
    privileged,
    unknown_daemons,
    unknown_runtimes,
)
from bootmatrix.assembly.initrd.root import RootParts, guest_tree
from bootmatrix.assembly.tree import Tree
from bootmatrix.errors import BuildError, InputError
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.model import Artefact, Bootable, Profile, Spec, StoredImage


@dataclass(frozen=True)
class Userland:
    """A spec for one architecture, with its images fetched."""

    spec: Spec
    profile: Profile
    builder: Builder
    images: dict[str, StoredImage]
    bundles: tuple[BundleSpec, ...]

    @property
    def init(self) -> list[StoredImage]:
        """The init images."""
        return [self.images[reference] for reference in self.spec.init]

    @cached_property
    def protocol(self) -> int | None:
        """Version of the init's protocol; None if it is not ours."""
        return find_protocol(self.init)

    @property
    def reports(self) -> bool:
        """True if the spec's init is bootmatrix's own."""
        return self.protocol is not None

    def weaker_init(self) -> tuple[str, ...]:
        """Return the init images whose programs weaken a pass."""
        builder = replace(self.builder, overrides=())  # a matrix, which may be anybody's, has some
        others = other_inits(self.init, lambda: make_image(SHIPPED, specs_folder() / "x.yml", self.profile, builder))
        runtimes = unknown_runtimes(self.init, builder.store, lambda: shipped_digests(self.profile, builder))
        return (*others, *unknown_daemons(self.init, builder.store), *runtimes)

    @cached_property
    def sources(self) -> dict[str, str]:
        """Digests of the spec's own files, which are used as they were when digested."""
        return source_digests(self.spec)

    @property
    def root_key(self) -> str:
        """Cache key of the root.

        Images count by their digests, and by what counts of their configuration: a copy of our init from elsewhere has
        the digest of ours, and is not checked as ours.
        """
        contents = self.spec.model_dump(mode="json", by_alias=True, exclude={"path", "notes", "kernel"})
        images = {name: [image.digest, image.config.model_dump(mode="json")] for name, image in self.images.items()}
        return json.dumps(["userland", FORMAT, contents, self.sources, images], sort_keys=True)

    def root(self, without: frozenset[str] = frozenset()) -> Tree:
        """Build the root; `without` are digests of images whose roots are left out."""
        return guest_tree(RootParts(self.spec, self.images, self.bundles, self.builder.store, self.sources, without))

    def described(self) -> Bootable:
        """Describe the containers and their evidence, as a bootable without any file."""
        bundles, builder = self.bundles, self.builder
        return Bootable(
            images=tuple(image_artefact(image, builder) for image in self.images.values()),
            contents=tuple(spec_contents(self.spec, self.images, self.sources)),
            onboot=_names(bundles, "onboot"),
            services=tuple(
                bundle.container.name for bundle in bundles if bundle.section == "services" and not _is_check(bundle)
            ),
            checks=check_seconds(bundles),
            stops=stop_seconds(bundles),
            onshutdown=_names(bundles, "onshutdown"),
            results=results(bundles),
            reports=self.reports,
            protocol=self.protocol or 1,
            privileged=privileged(bundles, self.init, builder.store) if self.reports else (),
            self_granted=self_granted(bundles),
            daemons=self.weaker_init() if self.reports else (),
            proof=None if self.reports else console_proof(bundles),
            notes=(*self.spec.notes, *lost_paths(bundles), *ignored_users(bundles), *label_notes(bundles)),
        )


def gather_userland(
    spec: Spec, profile: Profile, builder: Builder, images: dict[str, StoredImage] | None = None
) -> Userland:
    """Fetch the images of a spec, unless they are given, and check its containers.

    Raises BuildError if the spec cannot be built for this architecture, InfraError for a fault of the archive, the
    network or the host.
    """
    images = images or fetch_images(spec, profile, builder)
    userland = Userland(spec, profile, builder, images, place(spec, images))
    check_programs(userland.bundles, profile, builder)
    if userland.reports:
        check_cmdline(spec.kernel.cmdline, "kernel.cmdline")
        check_labels(userland.bundles)
    return userland


def fetch_images(spec: Spec, profile: Profile, builder: Builder) -> dict[str, StoredImage]:
    """Fetch or make all images of a spec, by reference.

    Raises BuildError if an image cannot be built for this architecture, InfraError for a fault of the archive, the
    network or the host.
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


@contextmanager
def _asked_by(spec: Spec, name: str) -> Iterator[None]:
    """Name the file of a merged spec that asks for an image which cannot be had."""
    try:
        yield
    except (InputError, BuildError) as error:
        if name in spec.asked_by:
            raise type(error)(f"{spec.asker(name)}: {error.message}", error.hint) from error
        raise


def references(spec: Spec) -> list[str]:
    """List the images that a spec names, except those of OCI volumes."""
    containers = (*spec.onboot, *spec.services, *spec.onshutdown)
    volumes = (volume.image for volume in spec.volumes if volume.image and volume.format != "oci")
    return list(dict.fromkeys((*spec.init, *volumes, *(container.image for container in containers))))


def _names(bundles: tuple[BundleSpec, ...], section: str) -> tuple[str, ...]:
    return tuple(bundle.container.name for bundle in bundles if bundle.section == section)


def _is_check(bundle: BundleSpec) -> bool:
    return bundle.container.name in check_seconds((bundle,))


def image_artefact(image: StoredImage, builder: Builder) -> Artefact:
    """Return an image as an artefact of records."""
    path = str(builder.store.blob(image.digest))
    return Artefact(kind="image", name=image.reference, path=path, sha256=image.digest, size_bytes=image.size_bytes)
