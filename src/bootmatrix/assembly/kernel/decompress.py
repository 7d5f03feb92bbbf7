"""Kernels converted to the form that a machine loads, without their unpackers.

Unpackers are slow under emulation. The conversion is done once, and every guest starts faster.
"""

import lzma
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

import lz4.block
import zstandard

from bootmatrix.errors import BuildError
from bootmatrix.model import KernelForm

PIECE_BYTES = 1 << 20
MAX_PAYLOADS = 64
"""Maximum of possible payload offsets: each may unpack to much."""
MAX_BYTES = 256 << 20
"""Larger than any kernel."""
XZ_MEMORY_BYTES = 256 << 20
"""Kernels since 6.12 ask for a dictionary of 128 MiB; a header that asks for gibibytes is refused."""
LZ4_BLOCK_BYTES = 8 << 20
"""Maximum block of lz4's legacy frame (lz4_Frame_format.md)."""
LZ4_MAGIC = 0x184C2102

PVH_NOTE = struct.pack("<III4s", 4, 4, 18, b"Xen\0"), struct.pack("<III4s", 4, 8, 18, b"Xen\0")
"""Start of the ELF note with the entry point without an unpacker: XEN_ELFNOTE_PHYS32_ENTRY, of 4 or 8 bytes
(Xen's public/elfnote.h). QEMU refuses a kernel that has none."""
PVH_SINCE = (5, 0)
"""Linux' first version whose entry works without Xen (CONFIG_PVH, platform/pvh)."""
_VERSION = re.compile(rb"Linux version (\d{1,4})\.(\d{1,4})")

BZ_MAGIC = b"HdrS"
BZ_SECTORS_AT, BZ_MAGIC_AT, BZ_VERSION_AT, BZ_PAYLOAD_AT = 0x1F1, 0x202, 0x206, 0x248
BZ_PAYLOAD_VERSION = 0x208
"""Fields of a bzImage's header, and the version of the boot protocol that brought the payload's (boot.rst)."""

Z_HEADER, Z_HEADER_AT = struct.Struct("<6I"), 0x24
Z_MAGIC, Z_TABLE_MAGIC, Z_SIZES_MAGIC = 0x016F2818, 0x45454545, 0x5A534C4B
"""A zImage's header (magic, start, end, byte order, table's magic, table) and the mark of the table (vmlinux.lds.S)."""

UIMAGE = struct.Struct(">7I4B32s")
UIMAGE_MAGIC, UIMAGE_LINUX, UIMAGE_KERNEL = 0x27051956, 5, 2
"""U-Boot's image.h; QEMU looks at no more of it."""


MADE_OF: dict[KernelForm, KernelForm] = {"vmlinux": "bzImage", "uImage": "zImage"}
"""Forms that are made here, of kernels that come in another."""
UNPACKED_FORMS = tuple(MADE_OF)


def boots(machines: KernelForm, own: KernelForm) -> bool:
    """Return whether a machine for one kernel form boots a kernel of another form."""
    return own in {machines, MADE_OF.get(machines)}


def in_form(data: bytes, form: KernelForm, ram_start: int) -> bytes:
    """Convert a kernel to a form; unchanged if not wrapped.

    Raises BuildError if the kernel is damaged.
    """
    if form == "vmlinux" and data[BZ_MAGIC_AT : BZ_MAGIC_AT + 4] == BZ_MAGIC:
        plain = unpacked(_bz_payload(data))
        return plain if _has_entry(plain) else data
    if form == "uImage":
        return _as_uimage(data, ram_start)
    return data


def _has_entry(plain: bytes) -> bool:
    """Return whether QEMU can start a kernel without its unpacker."""
    version = _VERSION.search(plain)
    is_xens = version is not None and tuple(map(int, version.groups())) < PVH_SINCE
    return not is_xens and any(note in plain for note in PVH_NOTE)


def unpacked(data: bytes) -> bytes:
    """Unpack a kernel's payload, which is followed by its unpacked size.

    Raises BuildError if it is damaged, too large, or packed by an unknown method.
    """
    for magic, unpack in UNPACKERS.items():
        if data.startswith(magic):
            try:
                plain = unpack(data)
            except (lzma.LZMAError, zlib.error, zstandard.ZstdError, lz4.block.LZ4BlockError) as error:
                raise BuildError(f"the kernel is damaged: {error}") from error
            if len(plain) >= MAX_BYTES:
                raise BuildError(f"the kernel has more than {MAX_BYTES >> 20} MiB")
            return plain
    raise BuildError(f"the kernel is packed by an unknown method, beginning with {data[:6].hex()}")


def _xz(data: bytes) -> bytes:
    """Unpack in pieces: joining blocks would hold the kernel twice."""
    stream = lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES)
    plain = bytearray(stream.decompress(data, PIECE_BYTES))
    while not stream.eof and not stream.needs_input and len(plain) < MAX_BYTES:
        plain += stream.decompress(b"", PIECE_BYTES)
    del stream  # its window may be as large as the kernel
    return bytes(plain)


def _gzip(data: bytes) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, MAX_BYTES)


def _zstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data) as reader:
        return reader.read(MAX_BYTES)


def in_lz4(data: bytes, limit: int = MAX_BYTES) -> bytes:
    """Unpack lz4's legacy frame: blocks with sizes before them."""
    plain = bytearray()
    for block in _lz4_blocks(data):
        plain += lz4.block.decompress(block, uncompressed_size=LZ4_BLOCK_BYTES)
        if len(plain) >= limit:
            break
    return bytes(plain[:limit])


def _lz4_blocks(data: bytes) -> Iterator[bytes]:
    at = 4
    while at + 4 < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if size == LZ4_MAGIC:
            continue
        if at + size > len(data):
            raise BuildError("the kernel is cut off")
        yield data[at : at + size]
        at += size


UNPACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\0": _xz,
    b"\x1f\x8b\x08": _gzip,
    b"\x28\xb5\x2f\xfd": _zstd,
    struct.pack("<I", LZ4_MAGIC): in_lz4,
}
"""Decompressors by the payload's magic."""
MAGICS = re.compile(b"|".join(map(re.escape, UNPACKERS)))


def _bz_payload(data: bytes) -> bytes:
    """Return the packed kernel of a bzImage."""
    (version,) = struct.unpack_from("<H", data, BZ_VERSION_AT)
    if version < BZ_PAYLOAD_VERSION:
        raise BuildError(f"the kernel's boot protocol {version:#x} is too old: it has no payload offset")
    offset, length = struct.unpack_from("<II", data, BZ_PAYLOAD_AT)
    start = ((data[BZ_SECTORS_AT] or 4) + 1) * 512 + offset
    return data[start : start + length]


def _as_uimage(data: bytes, ram_start: int) -> bytes:
    """Convert a zImage's kernel to U-Boot's format, which has the load address."""
    sizes = _z_sizes(data)
    if sizes is None:
        return data
    payload_end, text_offset = sizes
    plain = _z_kernel(data[:payload_end])
    address = ram_start + text_offset

    def header(checksum: int) -> bytes:
        kind = (UIMAGE_LINUX, 0, UIMAGE_KERNEL, 0)
        return UIMAGE.pack(UIMAGE_MAGIC, checksum, 0, len(plain), address, address, zlib.crc32(plain), *kind, b"Linux")

    return header(zlib.crc32(header(0))) + plain


def _z_sizes(data: bytes) -> tuple[int, int] | None:
    """Return payload's end and kernel's offset of a zImage; None if unknown."""
    if len(data) < Z_HEADER_AT + Z_HEADER.size:
        return None
    magic, _, _, _, table_magic, table_at = Z_HEADER.unpack_from(data, Z_HEADER_AT)
    if (magic, table_magic) != (Z_MAGIC, Z_TABLE_MAGIC) or table_at + 20 > len(data):
        return None
    words, mark, size_at, _, text_offset = struct.unpack_from("<5I", data, table_at)
    return (size_at + 4, text_offset) if mark == Z_SIZES_MAGIC and words >= 4 else None


def _z_kernel(data: bytes) -> bytes:
    """Return a zImage's kernel. Raises BuildError without a payload."""
    for match in islice(MAGICS.finditer(data), MAX_PAYLOADS):
        # The unpacker itself contains such bytes, too.
        with suppress(BuildError):
            plain = unpacked(data[match.start() :])
            if len(plain) > len(data):
                return plain
    raise BuildError("the kernel is damaged: its zImage has no payload")
