"""Initrds joined from cached segments: the guest's root, a kernel's modules."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.initrd.cpio import PACKER, compress
from bootmatrix.errors import BuildError
from bootmatrix.model import Artefact
from bootmatrix.store import Codec, Store

MAX_INITRD_BYTES = 4 << 30
"""Boot protocols pass its size in 32 bits, such as ramdisk_size of Linux's."""
FORMAT = "19"
"""Changes whenever the same spec and images would give another initrd."""


@dataclass(frozen=True)
class Segment:
    """A segment of an initrd, in the store."""

    sha256: str
    size_bytes: int
    plain_bytes: int = 0


SEGMENT_CODEC = Codec(
    lambda record: Segment(*json.loads(record)),
    lambda part: json.dumps([part.sha256, part.size_bytes, part.plain_bytes]).encode(),
)


def segment(key: str, builder: Builder, make: Callable[[], Iterator[bytes]]) -> Segment:
    """Return a segment by its key, built if missing."""
    key = json.dumps([PACKER, key])
    store = builder.store
    return store.cached(
        "segment",
        key,
        lambda: _write(make(), store),
        SEGMENT_CODEC,
        lambda part: bool(part.plain_bytes) and store.has(part.sha256),
    )


def _write(pieces: Iterable[bytes], store: Store) -> Segment:
    plain = 0

    def counted() -> Iterator[bytes]:
        nonlocal plain
        for piece in pieces:
            plain += len(piece)
            yield piece

    with store.writer() as file:
        for packed in compress(counted()):
            file.write(packed)
        size = file.tell()
        return Segment(file.commit(), size, plain)


def join(segments: Iterable[Segment], name: str, builder: Builder) -> Artefact:
    """Join segments into one initrd, which the kernel unpacks in order.

    Raises BuildError if the initrd is larger than any machine supports.
    """
    store, parts = builder.store, tuple(segments)
    size = sum(part.size_bytes for part in parts)
    if size >= MAX_INITRD_BYTES:
        raise BuildError(
            f"the initrd of {name} has {size >> 20} MiB: machines and boot loaders take less than 4 GiB",
            "Reduce the spec's images, and put large data on a disk.",
        )
    key = json.dumps([FORMAT, *(part.sha256 for part in parts)])
    digest = store.cached_digest("initrd", key, lambda: _concatenate(parts, store))
    return Artefact(kind="initrd", name=name, path=str(store.verified(digest)), sha256=digest, size_bytes=size)


def _concatenate(parts: Iterable[Segment], store: Store) -> str:
    with store.writer() as file:
        for part in parts:
            with store.verified(part.sha256).open("rb") as source:
                file.take(source)
        return file.commit()
