"""The frozen description of where files come from, and the builder made from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.load.recipe import find_recipe, load_recipe
from bootmatrix.load.registries import load_registries, registries_file
from bootmatrix.model import ImageOverride, Lock
from bootmatrix.progress import Observer
from bootmatrix.source.archive import open_archive
from bootmatrix.source.images.images import Images
from bootmatrix.source.images.registry_access import Access
from bootmatrix.store import Store


@dataclass(frozen=True)
class SourceConfig:
    """The cache, the archive, the lock and the image overrides of a run. Picklable.

    `archive` is an address, or None for the host's own. `lock` confines the run to its entries, or, unless
    `lock_is_whole`, only has them preferred. `refresh` asks for newer indexes than those in the cache;
    `allow_older_release` takes releases older than one seen before.
    """

    cache: Path
    archive: str | None = None
    offline: bool = False
    refresh: bool = False
    allow_older_release: bool = False
    lock: Lock | None = None
    lock_is_whole: bool = True
    images: tuple[ImageOverride, ...] = ()


@contextmanager
def open_builder(config: SourceConfig, observer: Observer, *, fork: bool = False) -> Iterator[Builder]:
    """Open a builder over the sources; its downloads end with the context.

    `fork` has it build what copies of guests need too.
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
        find_recipe=find_recipe,
        load_recipe=load_recipe,
        images=Images(store, observer, archive.used, access),
        given=config.images,
        fork=fork,
    )
    try:
        yield builder
    finally:
        builder.close()
