"""Properties of a kernel file: form, release, configuration."""

import lzma
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import get_args

import zstandard

from bootmatrix.assembly.kernel.decompress import MAGICS, MAX_PAYLOADS, unpacked
from bootmatrix.errors import BuildError
from bootmatrix.model import KernelForm
from bootmatrix.model.kernel import PageKib
from bootmatrix.model.profile import has_magic

CONFIG_LIMIT_BYTES = 16 << 20
_RELEASE = re.compile(rb"Linux version ([0-9][0-9A-Za-z.+~_-]{1,63}) ")
_CONFIG = (b"IKCFG_ST", b"IKCFG_ED")
"""Marks around the gzipped configuration, with CONFIG_IKCONFIG (kernel/configs.c)."""
_BOOT_HEADER = (0x202, b"HdrS")
"""Magic of a bzImage. At 0x20e it has the offset of its version's text less 512 (Linux's boot protocol)."""
_SETUP_SECTORS, _DEFAULT_SECTORS = 0x1F1, 4
"""Sectors of the real-mode part after the first one; 3 bytes on, the rest's size (syssize) in paragraphs."""
_SECTOR_BYTES, _PARAGRAPH_BYTES = 512, 16
_ZIMAGE_HEADER = (0x24, bytes.fromhex("18286f01"))
"""Magic of a zImage, followed by its start and end addresses (Documentation/arch/*/booting.rst)."""
_FAULTS = (lzma.LZMAError, zstandard.ZstdError, zlib.error, OSError, EOFError, ValueError)


def check_whole(data: bytes) -> None:
    """Check a kernel's size by its headers. Raises BuildError if truncated."""
    needed = max([0, *_ends(data)])
    if needed > len(data):
        raise BuildError(f"the kernel is cut off: it has {len(data)} bytes, and its header says {needed}")


def _ends(data: bytes) -> Iterator[int]:
    """Yield the ends of a kernel's parts, as its headers say."""
    yield from _program_ends(data)
    offset, magic = _BOOT_HEADER
    if data[offset : offset + len(magic)] == magic:
        sectors, paragraphs = struct.unpack_from("<B2xI", data, _SETUP_SECTORS)
        yield ((sectors or _DEFAULT_SECTORS) + 1) * _SECTOR_BYTES + paragraphs * _PARAGRAPH_BYTES
    offset, magic = _ZIMAGE_HEADER
    if data[offset : offset + len(magic)] == magic and len(data) >= offset + 12:
        start, end = struct.unpack_from("<II", data, offset + 4)
        yield end - start


def _program_ends(data: bytes) -> Iterator[int]:
    """Yield the ends of ELF segments, or of an EFI program's sections."""
    with suppress(struct.error, IndexError):  # headers beyond the end do not exist
        if data[:4] == b"\x7fELF":
            order, wide = "<>"[data[5] - 1], data[4] == 2
            (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", data, 32 if wide else 28)
            size, count = struct.unpack_from(f"{order}HH", data, 54 if wide else 42)
            for number in range(count):
                values = struct.unpack_from(f"{order}{'8xQ16xQ' if wide else '4xI8xI'}", data, table + number * size)
                yield sum(values)
        elif data[:2] == b"MZ":
            (start,) = struct.unpack_from("<I", data, 0x3C)
            if data[start : start + 4] != b"PE\0\0":
                return
            count, optional = struct.unpack_from("<H12xH", data, start + 6)
            for number in range(count):
                yield sum(struct.unpack_from("<16xII", data, start + 24 + optional + number * 40))


def form_of(data: bytes, magic: Mapping[KernelForm, str]) -> KernelForm | None:
    """Return the form of a kernel by a profile's magic bytes; None if none match."""
    return next((form for form, rules in magic.items() if has_magic(data, rules)), None)


def release_of(data: bytes) -> str:
    """Return `uname -r` of a kernel file, packed or not; empty if unknown."""
    offset, magic = _BOOT_HEADER
    if data[offset : offset + len(magic)] == magic:
        start = int.from_bytes(data[0x20E:0x210], "little") + 0x200
        release = re.match(rb"[0-9][0-9A-Za-z.+~_-]{1,63}", data[start : start + 64])
        if release:
            return release[0].decode()
    for text in (data, *_packed_in(data)):
        match = _RELEASE.search(text)
        if match:
            return match[1].decode()
    return ""


def embedded_config(data: bytes) -> bytes | None:
    """Return the configuration embedded in a kernel, if any."""
    for text in (data, *_packed_in(data)):
        start, end = (text.find(mark) for mark in _CONFIG)
        if 0 <= start < end:
            with suppress(*_FAULTS):
                return _gunzip(text[start + len(_CONFIG[0]) : end])
    return None


def _gunzip(data: bytes) -> bytes:
    stream = zlib.decompressobj(31)  # 31: with gzip's header (zlib.h)
    plain = stream.decompress(data, CONFIG_LIMIT_BYTES)
    if not stream.eof:
        raise EOFError("it breaks off")
    return plain


def page_kib_of(config: bytes) -> PageKib:
    """Return the page size of a configuration; 4 if it has no choice."""
    match = re.search(rb"^CONFIG_(?:\w+_)?(?:(\d+)K_PAGES|PAGE_SIZE_(\d+)KB)=y$", config, re.MULTILINE)
    size = int(match[1] or match[2]) if match else 4
    return next((known for known in get_args(PageKib) if known == size), 4)


def _packed_in(data: bytes) -> Iterator[bytes]:
    """Yield the payloads of a self-unpacking kernel."""
    for match in islice(MAGICS.finditer(data), MAX_PAYLOADS):
        # The unpacker itself contains such bytes, too.
        with suppress(BuildError):
            inside = unpacked(data[match.start() :])
            if _RELEASE.search(inside):
                yield inside
                return
