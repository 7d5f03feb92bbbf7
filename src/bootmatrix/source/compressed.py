"""Untrusted compressed streams, of bounded memory and number."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

import zstandard

MAX_STREAMS, STREAM_BYTES = 250_000, 512
"""Limit of compressed streams in a row, and data of a further one: a layer with a stream for each file has more."""
_SKIPPABLE = b"\x2a\x4d\x18"
"""End of the magic of zstd's skippable frames."""
_ZSTD_FEED_BYTES = 2048
"""Input of one step of zstd: a block of four bytes may unpack to 128 KiB."""
XZ_MEMORY_BYTES = 256 << 20
"""xz -9 needs 65 MiB; a header may ask for 4 GiB, which its data then fills."""


class DamagedArchive(Exception):
    """Damage of an archive; the text completes a message."""


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Streams:
    """Counts successive streams, each of which takes time, also without data."""

    def __init__(self) -> None:
        self._left = float(MAX_STREAMS)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise DamagedArchive(f"it has more than {MAX_STREAMS} compressed streams of little data")

    def _counted(self, data: bytes) -> bytes:
        self._left += len(data) / STREAM_BYTES
        return data


class _Gzip(_Streams):
    """Decompress successive gzip members (RFC 1952).

    GzipFile reads a header's name, which may have no end, byte by byte.
    """

    def __init__(self, part: BinaryIO) -> None:
        super().__init__()
        self._part, self._stream, self._rest = part, zlib.decompressobj(31), b""  # 31: with gzip's header (zlib.h)

    def read(self, size: int) -> bytes:
        while True:
            if self._stream.eof:
                if not self._begin():
                    return b""
                continue
            packed = self._rest or self._part.read(1 << 16)
            try:
                data = self._stream.decompress(packed, size)
            except zlib.error as error:
                raise DamagedArchive(f"its gzip data is damaged: {error}") from error
            self._rest = self._stream.unconsumed_tail
            if data:
                return self._counted(data)
            if not packed and not self._stream.eof:
                raise EOFError("its gzip data is truncated")

    def _begin(self) -> bool:
        """Begin the next member; False at the end. Zeros may pad a member."""
        packed = self._stream.unused_data.lstrip(b"\0")
        while not packed:
            if not (more := self._part.read(1 << 16)):
                return False
            packed = more.lstrip(b"\0")
        self._count()
        self._stream, self._rest = zlib.decompressobj(31), packed
        return True


class _Zstd(_Streams):
    """Decompress successive zstd frames (RFC 8878).

    The library's own reader accepts a truncated frame as complete.
    """

    def __init__(self, part: BinaryIO) -> None:
        super().__init__()
        self._part, self._rest, self._plain = part, b"", io.BytesIO()
        self._context = zstandard.ZstdDecompressor()  # to make one takes longer than a small frame
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def read(self, size: int) -> bytes:
        while not (data := self._plain.read(size)):
            if not self._fill():
                return b""
        return self._counted(data)

    def _fill(self) -> bool:
        """Decompress a few more bytes; False at the end."""
        packed = self._rest or self._part.read(_ZSTD_FEED_BYTES)
        if not packed:
            if self._frame:
                raise EOFError("its zstd data is truncated")
            return False
        if self._frame is None:
            self._count()
            packed += self._part.read(max(0, 8 - len(packed)))
            if packed[1:4] == _SKIPPABLE:
                self._rest = self._skipped(packed)
                return True
            self._frame = self._context.decompressobj()
        self._plain = io.BytesIO(self._frame.decompress(packed))
        self._rest = b""
        if self._frame.eof:
            self._rest, self._frame = self._frame.unused_data, None
        return True

    def _skipped(self, packed: bytes) -> bytes:
        """Skip a skippable frame, and return the data after it."""
        left = 8 + int.from_bytes(packed[4:8], "little") - len(packed)
        while left > 0:
            data = self._part.read(min(left, 1 << 16))
            if not data:
                raise EOFError("its zstd data is truncated")
            left -= len(data)
        return packed[left:] if left < 0 else b""


class _Chained(_Streams):
    """Decompress successive streams of a library that keeps what follows one."""

    def __init__(self, part: BinaryIO) -> None:
        super().__init__()
        self._part, self._stream = part, self._begin()

    def _begin(self) -> lzma.LZMADecompressor | bz2.BZ2Decompressor:
        raise NotImplementedError

    def read(self, size: int) -> bytes:
        while True:
            if self._stream.eof:
                packed = self._stream.unused_data.lstrip(b"\0")  # zeros may pad a stream
                while not packed:
                    if not (more := self._part.read(1 << 16)):
                        return b""
                    packed = more.lstrip(b"\0")
                self._count()
                self._stream = self._begin()
            elif self._stream.needs_input:
                if not (packed := self._part.read(1 << 16)):
                    raise EOFError("its compressed data is truncated")
            else:
                packed = b""
            if data := self._stream.decompress(packed, size):
                return self._counted(data)


class _Xz(_Chained):
    """Decompress xz streams (xz-file-format.txt), of bounded memory.

    LZMAFile has no limit of memory.
    """

    def _begin(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)


class _Bzip2(_Chained):
    """Decompress bzip2 streams. BZ2File has no limit of their number."""

    def _begin(self) -> bz2.BZ2Decompressor:
        return bz2.BZ2Decompressor()


OPENERS: dict[str, Callable[[BinaryIO], _Reader]] = {
    "": lambda part: part,
    ".gz": _Gzip,
    ".xz": _Xz,
    ".bz2": _Bzip2,
    ".zst": _Zstd,
}


_MAGICS = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\0": ".xz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}
_MAGICS |= {bytes([low]) + _SKIPPABLE: ".zst" for low in range(0x50, 0x60)}
"""The last ones are skippable frames, which may precede others (RFC 8878, section 3.1.2)."""
MAGIC_BYTES = 6


def suffix_of(start: bytes) -> str:
    """Return the suffix of a compression by its magic; empty if unknown."""
    return next((suffix for magic, suffix in _MAGICS.items() if start.startswith(magic)), "")
