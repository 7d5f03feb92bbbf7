"""Wrappers of kernels: compression, boot headers, EFI; others are refused.

Sources: Linux's scripts/Makefile.lib and drivers/firmware/efi/libstub/zboot-header.S; U-Boot's include/image.h and
doc/usage/fit; the UAPI group's Unified Kernel Image; lz4_Frame_format.md; Android's boot_img_hdr.
"""

import bz2
import io
import lzma
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import lz4.block
import lz4.frame
import zstandard

from bootmatrix.assembly.kernel.decompress import (
    LZ4_MAGIC,
    UIMAGE,
    UIMAGE_KERNEL,
    UIMAGE_MAGIC,
    XZ_MEMORY_BYTES,
    in_lz4,
)
from bootmatrix.assembly.kernel.fit import MAGIC as FIT_MAGIC
from bootmatrix.assembly.kernel.fit import fit_kernel
from bootmatrix.errors import BuildError
from bootmatrix.source.elf import read_program

LIMIT_BYTES = 1 << 30
PEEK_BYTES = 72 << 10
"""Bytes by which a kernel's form is detected: the magics of all profiles are within them."""
MAX_WRAPPERS = 4
"""Limit of nested wrappers: a uImage of a zboot program with a compressed kernel has three."""
_ZSTD_STEP_BYTES = 2048
"""A block of four bytes may unpack to 128 KiB."""
_FAULTS = (
    *(lzma.LZMAError, zstandard.ZstdError, zlib.error, OSError, EOFError, ValueError),
    *(RuntimeError, lz4.block.LZ4BlockError),  # errors of lz4's two modules
)
_ZBOOT, _ZBOOT_KIND_AT = b"zimg", 24
"""At offset 4: an EFI program that unpacks the kernel, and where it says how that is packed."""
_LZMA_ALONE = re.compile(rb"\x5d\0\0[\0-\xff]{10}\0", re.DOTALL)
"""lzma's old format has no magic: its usual properties, a dictionary of whole 64 KiB, a size, and a first byte 0."""


class _Stream(Protocol):
    """A decompressor that detects the end of its stream."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, most: int, /) -> bytes: ...


_Unpacker = Callable[[bytes, int], bytes]


def _whole(plain: bytes, limit: int, *, is_over: bool) -> bytes:
    if not is_over and len(plain) < limit:
        raise EOFError("it breaks off")
    if not is_over and limit == LIMIT_BYTES:
        raise ValueError("it is too large")
    return plain


def _by(open_stream: Callable[[], _Stream]) -> _Unpacker:
    def unpack(data: bytes, limit: int) -> bytes:
        stream = open_stream()
        return _whole(stream.decompress(data, limit), limit, is_over=stream.eof)

    return unpack


_unlzma = _by(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=XZ_MEMORY_BYTES))


def _unzstd(data: bytes, limit: int) -> bytes:
    if zstandard.frame_content_size(data) > LIMIT_BYTES:
        raise ValueError("it is too large")
    if limit < LIMIT_BYTES:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
            return reader.read(limit)
    stream, plain = zstandard.ZstdDecompressor().decompressobj(), bytearray()
    for start in range(0, len(data), _ZSTD_STEP_BYTES):  # a size that the frame does not say is not bounded otherwise
        plain += stream.decompress(data[start : start + _ZSTD_STEP_BYTES])
        if len(plain) > limit:
            raise ValueError("it is too large")
        if stream.eof:
            break
    return _whole(bytes(plain), limit, is_over=stream.eof)


_UNPACKERS: dict[bytes, _Unpacker] = {
    b"\x1f\x8b\x08": _by(lambda: zlib.decompressobj(31)),  # 31: with gzip's header (zlib.h)
    b"\xfd7zXZ\0": _by(lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES)),
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"BZh": _by(bz2.BZ2Decompressor),
    struct.pack("<I", LZ4_MAGIC): in_lz4,
    b"\x04\x22\x4d\x18": _by(lz4.frame.LZ4FrameDecompressor),
}
_STRANGE: Mapping[tuple[int, bytes], tuple[str, str]] = {
    (0, b"\x89LZO\0\r\n\x1a\n"): ("compressed with LZO, which is not supported", "Unpack it with `lzop -d`."),
    (0, b"ANDROID!"): ("an Android boot image", "Take the kernel out of it with `unpack_bootimg`."),
    (0, b"VNDRBOOT"): ("an Android vendor boot image", "The kernel is in boot.img."),
    (0, b"hsqs"): ("a squashfs image", ""),
    (0, b"QFI\xfb"): ("a disk image (qcow2)", "A spec boots one as 'disk'."),
    (510, b"\x55\xaa\0\0\0\0\0\0"): ("a disk image or a boot sector", "A spec boots one as 'disk'."),
    (512, b"EFI PART"): ("a disk image", "A spec boots one as 'disk'."),
    (32769, b"CD001"): ("an ISO image", "A spec boots one as 'disk'."),
    (0, b"070701"): ("a cpio archive, as initrds are", "A kernel alone is added; a spec of its own has initrds."),
    (0, b"!<arch>\n"): ("an ar archive", ""),
    (0, b"PK\x03\x04"): ("a zip archive", "Unpack it."),
    (0, b"7z\xbc\xaf\x27\x1c"): ("a 7z archive", "Unpack it."),
    (257, b"ustar"): ("a tar archive", ""),
}
_FDT = FIT_MAGIC


def unwrapped(data: bytes, limit: int = LIMIT_BYTES) -> bytes:
    """Remove compression and wrappers from a kernel. `limit` is for probing only.

    Raises BuildError if it is damaged, or wrapped in an unsupported form.
    """
    for _ in range(MAX_WRAPPERS):
        inside = _unwrap(data, limit)
        if inside is data:
            return data
        data = inside
    return data


def start_of(data: bytes) -> bytes:
    """Return the first bytes of a file's content; empty if unknown."""
    try:
        return unwrapped(data, PEEK_BYTES)
    except BuildError:
        return b""


def describe(data: bytes) -> tuple[str, str]:
    """Describe a file that is not a kernel, with a hint; empty if unknown."""
    program = read_program(io.BytesIO(data))
    if not data or (program and program.interpreter):
        return "a program, not a kernel" if data else "an empty file", ""
    for (offset, magic), words in _STRANGE.items():
        if data[offset : offset + len(magic)] == magic:
            return words
    if data.startswith(_FDT):
        if b"configurations\0" in data[-(1 << 16) :] or b"configurations\0" in data[: 1 << 16]:
            return "a FIT image (U-Boot)", "Take the kernel out: dumpimage -T flat_dt -p 0 -o KERNEL FILE."
        return "a device tree", "A kernel's device trees are taken from its package or build tree."
    if data[:2] == b"MZ":
        return "an EFI program without a kernel that is known", ""
    inner = start_of(data)
    return describe(inner) if inner and not data.startswith(inner) else ("", "")


def _unwrap(data: bytes, limit: int) -> bytes:
    if data[4:8] == _ZBOOT and data[:2] == b"MZ":
        return _zboot(data, limit)
    if data[:4] == struct.pack(">I", UIMAGE_MAGIC):
        return _uimage(data)
    if data.startswith(_FDT):
        return fit_kernel(data) or data
    linux = _section(data, b".linux")
    if linux is not None:
        return linux
    for magic, unpack in _UNPACKERS.items():
        if data.startswith(magic):
            return _unpacked(unpack, data, limit)
    return _unpacked(_unlzma, data, limit) if _LZMA_ALONE.match(data) else data


def _unpacked(unpack: _Unpacker, data: bytes, limit: int) -> bytes:
    try:
        return unpack(data, limit)
    except _FAULTS as error:
        raise BuildError(f"the kernel is damaged: it cannot be unpacked: {error}") from error


def _zboot(data: bytes, limit: int) -> bytes:
    """Return the payload of Linux's self-unpacking EFI program."""
    start, size = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    kind = data[_ZBOOT_KIND_AT : _ZBOOT_KIND_AT + 8].partition(b"\0")[0].decode("ascii", "replace")
    payload = data[start : start + size]
    if len(payload) < size:
        raise BuildError(f"the kernel is cut off: it has {len(data)} bytes, and its zboot header says {start + size}")
    if kind == "lzma":
        return _unpacked(_unlzma, payload, limit)
    if kind == "lz4" and payload.startswith(struct.pack("<I", LZ4_MAGIC)):
        return _unpacked(in_lz4, payload, limit)
    if not any(payload.startswith(magic) for magic in _UNPACKERS):
        raise BuildError(f"the kernel is an EFI program (zboot) that is compressed with {kind or 'an unknown method'}")
    return payload


def _uimage(data: bytes) -> bytes:
    """Return the payload of U-Boot's legacy format."""
    if len(data) < UIMAGE.size:
        raise BuildError("the kernel is cut off: a uImage with an incomplete header")
    size, kind, packed = int.from_bytes(data[12:16], "big"), data[30], data[31]
    if kind != UIMAGE_KERNEL:
        raise BuildError(f"a uImage (U-Boot) of the type {kind}, and a kernel's is {UIMAGE_KERNEL}")
    payload = data[UIMAGE.size : UIMAGE.size + size]
    if len(payload) < size:
        raise BuildError(f"the kernel is cut off: its uImage header says {size} bytes, and there are {len(payload)}")
    if packed == _UIMAGE_LZO:
        raise BuildError("a uImage (U-Boot) whose kernel is compressed with LZO, which is not supported")
    return payload


_UIMAGE_LZO = 4


def _section(data: bytes, name: bytes) -> bytes | None:
    """Return a section of an EFI program (PE), such as a UKI's `.linux`."""
    if data[:2] != b"MZ" or len(data) < 0x40:
        return None
    start = int.from_bytes(data[0x3C:0x40], "little")
    if data[start : start + 4] != b"PE\0\0":
        return None
    count, optional = struct.unpack_from("<H12xH", data.ljust(start + 24, b"\0"), start + 6)
    table = start + 24 + optional
    for at in range(table, table + 40 * count, 40):
        header = data[at : at + 40]
        if len(header) == 40 and header[:8].rstrip(b"\0") == name:
            virtual, _, raw, offset = struct.unpack_from("<4I", header, 8)
            if offset + min(raw, virtual or raw) > len(data):
                raise BuildError("the kernel is cut off: a unified kernel image with an incomplete kernel")
            return data[offset : offset + min(raw, virtual or raw)]
    return None
