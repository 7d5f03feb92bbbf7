"""Frozen configuration of sources, and the builder made from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.prepare.preparer import Preparer
from bootmatrix.load.recipe import find_recipe, load_recipe
from bootmatrix.load.registries import load_registries, registries_file
from bootmatrix.model.run_config import SourceConfig
from bootmatrix.progress import Observer
from bootmatrix.source.archive import open_archive
from bootmatrix.source.images.images import Images
from bootmatrix.source.images.registry_access import Access
from bootmatrix.store import Store
from bootmatrix.store.trim import tidy


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
        find_recipe=find_recipe,
        load_recipe=load_recipe,
        images=Images(store, observer, archive.used, access),
        given=config.images,
        fork=fork,
        prepare=Preparer(observer),
    )
    try:
        yield builder
    finally:
        builder.close()
        tidy(store)
