"""Settings of sources, their builder, and a cell's inputs before a build."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.kernel.custom import find_kernel, find_spec_kernel
from bootmatrix.assembly.kernel.package import unpack_kernel
from bootmatrix.assembly.prepare.preparer import Preparer
from bootmatrix.load.expand import OWN_KERNEL, SPEC_KERNEL
from bootmatrix.load.registries import load_registries, registries_file
from bootmatrix.model import Cell, Kernel, Machine, Profile, Spec
from bootmatrix.model.run_config import SourceConfig
from bootmatrix.progress import Observer
from bootmatrix.source.archive import open_archive
from bootmatrix.source.images.images import Images
from bootmatrix.source.images.registry_access import Access
from bootmatrix.store import Store
from bootmatrix.store.trim import tidy


@dataclass(frozen=True)
class BuildContext:
    """Specs by path, profiles by name, and a builder."""

    specs: Mapping[str, Spec]
    profiles: Mapping[str, Profile]
    builder: Builder

    def machine(self, cell: Cell) -> Machine:
        """Return the cell's machine."""
        return self.profiles[cell.arch].machine(cell.machine).sized(cell.size)


def fetch_kernel(cell: Cell, context: BuildContext) -> Kernel | None:
    """Return the cell's kernel, unpacked in the store; None for a guest with its own."""
    if cell.kernel == OWN_KERNEL:
        return None
    profile, builder = context.profiles[cell.arch], context.builder
    if cell.kernel == SPEC_KERNEL:
        kernel = find_spec_kernel(context.specs[cell.spec], profile, builder)
    else:
        kernel = find_kernel(cell.kernel, profile.kernels_of(cell.machine)[cell.kernel], profile, builder)
    unpack_kernel(kernel, builder.archive, builder.store)
    return kernel


@contextmanager
def open_builder(config: SourceConfig, observer: Observer, *, fork: bool = False) -> Iterator[Builder]:
    """Open a builder over the sources; downloads end with the context.

    `fork` also builds the parts for forked guests.
    """
    store = Store(config.cache)
    archive = open_archive(
        store,
        offline=config.offline,
        lock=config.lock,
        address=config.archive,
        progress=observer,
        refresh=config.refresh,
        lock_is_whole=config.lock_is_whole,
        allow_older=config.allow_older_release,
    )
    file = registries_file()
    registries = load_registries(file).registries
    access = Access(registries, file.parent, config.offline, config.lock, config.lock_is_whole)
    builder = Builder(
        store=store,
        archive=archive,
        images=Images(store, observer, archive.used, access),
        overrides=config.images,
        fork=fork,
        prepare=Preparer(observer),
    )
    try:
        yield builder
    finally:
        builder.close()
        tidy(store)
