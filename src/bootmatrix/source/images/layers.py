"""Unpack layers of images once into tar files in the store, bounded and verified."""

from typing import BinaryIO, cast

from bootmatrix.errors import BuildError, UntrustedError
from bootmatrix.source.compressed import MAGIC_BYTES, suffix_of
from bootmatrix.source.images.blobs import CHUNK_BYTES, BlobLocation, Descriptor, Digested
from bootmatrix.source.safe_archive import FAULTS, Bounded, FileSlice
from bootmatrix.store import Store

_NOT_TAR = ("encrypted", "foreign", "in-toto")


def unpack_layer(layer: Descriptor, location: BlobLocation, diff_id: str | None, store: Store) -> tuple[str, int]:
    """Unpack a layer into the store; return digest and size of its tar file.

    `diff_id` is the expected digest, if known.

    Raises UntrustedError if size or digest of the layer or its content differs, BuildError if the layer is damaged, a
    bomb, or of an unsupported type.
    """
    if any(word in layer.media_type for word in _NOT_TAR):
        raise BuildError(f"the layer {layer.sha256} has the unsupported type {layer.media_type}")
    if location.size_bytes != layer.size_bytes:  # even if it was unpacked before, for an image with the right size
        raise UntrustedError(
            f"size mismatch of the layer {layer.sha256}: expected {layer.size_bytes} bytes, got {location.size_bytes}"
        )
    digest, size = store.cached_file("layer", layer.sha256, lambda: _unpacked(layer, location, store))
    if diff_id not in {None, digest}:
        raise UntrustedError(
            f"the layer {layer.sha256} unpacks to the SHA-256 {digest}, but the image's configuration has {diff_id}"
        )
    return digest, size


def _unpacked(layer: Descriptor, location: BlobLocation, store: Store) -> tuple[str, int]:
    with location.open() as file, store.writer() as writer:
        suffix = suffix_of(file.read(MAGIC_BYTES))
        digested = Digested(file)
        part = FileSlice(cast(BinaryIO, digested), location.offset, location.size_bytes)
        try:
            writer.take(Bounded(part, suffix))
            while part.read(CHUNK_BYTES):  # the digest covers trailing data too
                pass
        except FAULTS as error:
            _check(layer, digested, part)  # a corrupted transfer is not the image's fault
            raise BuildError(f"the layer {layer.sha256} cannot be unpacked: {error}") from error
        _check(layer, digested, part)
        return writer.commit(), writer.tell()


def _check(layer: Descriptor, digested: Digested, part: FileSlice) -> None:
    while part.read(CHUNK_BYTES):
        pass
    digest = digested.sha256.hexdigest()
    if digest != layer.sha256:
        raise UntrustedError(f"SHA-256 mismatch of the layer {layer.sha256}: got {digest}")
