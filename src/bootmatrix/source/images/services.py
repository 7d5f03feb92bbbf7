"""Services shared by image sources: store, registries, engine, cached images."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bootmatrix.errors import UntrustedError
from bootmatrix.model import StoredImage
from bootmatrix.source.images.engine import Engine
from bootmatrix.source.images.registry_access import RegistryAccess
from bootmatrix.store import Store, model_codec

_FORMAT = 1
"""Version of the records: another one if the same image would be stored differently."""


@dataclass(frozen=True)
class Services:
    """Thread-safe, blocking."""

    store: Store
    registries: RegistryAccess
    engine: Engine = field(default_factory=Engine)

    def once(self, reference: str, key: Sequence[str], make: Callable[[], StoredImage]) -> StoredImage:
        """Load a cached image, or make it, under this name; its key is all of it."""
        image = cached_image("pulled", json.dumps([_FORMAT, *key]), make, self.store)
        return image.model_copy(update={"reference": reference})  # the same image may have had another name


def cached_image(kind: str, key: str, make: Callable[[], StoredImage], store: Store) -> StoredImage:
    """Load the image kept under a kind and key, or make and keep it."""
    return store.cached(kind, key, make, model_codec(StoredImage), lambda image: is_whole(image, store))


def is_whole(image: StoredImage, store: Store) -> bool:
    """Return whether the store has all parts of an image. Layers are not read."""
    if not all(map(store.has, (image.digest, *image.layers))):
        return False
    try:
        manifest = json.loads(store.verified(image.digest).read_bytes())
    except UntrustedError:
        return False
    return store.has(manifest["config"]["digest"].removeprefix("sha256:"))
