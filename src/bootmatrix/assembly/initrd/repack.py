"""Initrds for kernels that do not unpack zstd, which Linux does since 5.9: gzip, or not compressed."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import zstandard

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.initrd.cache import SEGMENT_CODEC, Segment
from bootmatrix.assembly.kernel.package import KernelFiles
from bootmatrix.store import Store

Packing = Literal["zstd", "gzip", "plain"]
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_OPTION = re.compile(rb"^CONFIG_RD_(ZSTD|GZIP)=y$", re.MULTILINE)
_LEVEL = 1
"""The guest unpacks all levels equally fast, and it is done once."""
_PIECE_BYTES = 1 << 17


def packing_of(config: bytes) -> Packing:
    """Return the best packing that a kernel of a configuration unpacks; zstd if nothing is known."""
    options = set(_OPTION.findall(config))
    if not config or b"ZSTD" in options:
        return "zstd"
    return "gzip" if b"GZIP" in options else "plain"


def for_kernel(parts: Iterable[Segment], files: KernelFiles, builder: Builder) -> tuple[Segment, ...]:
    """Return the segments of an initrd in a packing that the kernel unpacks, cached."""
    config = builder.store.verified(files.config).read_bytes() if files.config else b""
    packing = packing_of(config)
    return tuple(parts) if packing == "zstd" else tuple(_repacked(part, packing, builder.store) for part in parts)


def _repacked(part: Segment, packing: Packing, store: Store) -> Segment:
    path = store.verified(part.sha256)
    with path.open("rb") as file:
        if file.read(len(_ZSTD_MAGIC)) != _ZSTD_MAGIC:  # microcode, which is plain
            return part
    key = json.dumps(["repacked", packing, _LEVEL, zlib.ZLIB_RUNTIME_VERSION, part.sha256])

    def make() -> Segment:
        with store.writer() as target:
            for piece in _pieces(path, packing):
                target.write(piece)
            target.write(bytes(-target.tell() % 4))
            size = target.tell()
            return replace(part, sha256=target.commit(), size_bytes=size)

    return store.cached("segment", key, make, SEGMENT_CODEC, lambda made: store.has(made.sha256))


def _pieces(path: Path, packing: Packing) -> Iterator[bytes]:
    """Yield a segment in another packing: one zstd frame, with padding behind it."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    packer = zlib.compressobj(_LEVEL, wbits=31)  # 31: with gzip's header (zlib.h)
    with path.open("rb") as file:
        while not frame.eof and (data := file.read(_PIECE_BYTES)):
            piece = frame.decompress(data)
            yield packer.compress(piece) if packing == "gzip" else piece
    if packing == "gzip":
        yield packer.flush()
