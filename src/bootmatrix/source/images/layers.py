"""Layers of images: unpacked once, as a tar file in the store, within limits and by digest."""

from __future__ import annotations

from typing import BinaryIO, cast

from bootmatrix.errors import BuildError, UntrustedError
from bootmatrix.source.images.blobs import CHUNK_BYTES, BlobLocation, Descriptor, Digested
from bootmatrix.source.safe_archive import FAULTS, MAGIC_BYTES, Bounded, FileSlice, suffix_of
from bootmatrix.store import Store, Writer

_NOT_TAR = ("encrypted", "foreign", "in-toto")


def unpack_layer(layer: Descriptor, place: BlobLocation, diff_id: str | None, store: Store) -> tuple[str, int]:
    """The digest and the size of a layer's tar file in the store. `diff_id` is its expected digest, if known.

    Raises:
        UntrustedError: the layer, or what it unpacks to, is not what was announced.
        BuildError: it is damaged, a bomb, or of a kind that is not known.
    """
    if any(word in layer.media_type for word in _NOT_TAR):
        raise BuildError(f"the layer {layer.sha256} is of the kind {layer.media_type}, which cannot be unpacked")
    digest, size = store.cached_file("layer", layer.sha256, lambda: _unpacked(layer, place, store))
    if diff_id not in {None, digest}:
        raise UntrustedError(
            f"the layer {layer.sha256} unpacks to the SHA-256 {digest}, and the image's configuration says {diff_id}"
        )
    return digest, size


def _unpacked(layer: Descriptor, place: BlobLocation, store: Store) -> tuple[str, int]:
    if place.size_bytes != layer.size_bytes:
        raise UntrustedError(
            f"the layer {layer.sha256} has {place.size_bytes} bytes, and {layer.size_bytes} were announced"
        )
    with place.open() as file, store.writer() as writer:
        suffix = suffix_of(file.read(MAGIC_BYTES))
        digested = Digested(file)
        part = FileSlice(cast(BinaryIO, digested), place.offset, place.size_bytes)
        try:
            _copy(Bounded(part, suffix), writer)
            while part.read(CHUNK_BYTES):  # what comes after the end of the compressed data belongs to the digest too
                pass
        except FAULTS as error:
            _check(layer, digested, part)  # a layer that was changed on its way is not the image's fault
            raise BuildError(f"the layer {layer.sha256} cannot be unpacked: {error}") from error
        _check(layer, digested, part)
        return writer.commit(), writer.tell()


def _copy(plain: Bounded, writer: Writer) -> None:
    while data := plain.read(CHUNK_BYTES):
        writer.write(data)


def _check(layer: Descriptor, digested: Digested, part: FileSlice) -> None:
    while part.read(CHUNK_BYTES):
        pass
    found = digested.sha256.hexdigest()
    if found != layer.sha256:
        raise UntrustedError(f"the layer {layer.sha256} has the SHA-256 {found}")
