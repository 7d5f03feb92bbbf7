"""Kernels taken out of the programs that unpack them."""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib
from collections.abc import Callable

import lz4.block
import pytest
import zstandard

from bootmatrix.assembly.kernel.decompress import in_form
from bootmatrix.errors import BuildError

NOTE = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x1000000)
KERNEL = b"\x7fELF" + NOTE + bytes(range(256)) * 40_000
RAM = 0x40000000
TEXT = 0x208000


def lz4_legacy(data: bytes) -> bytes:
    blocks = [lz4.block.compress(data[at : at + (8 << 20)], store_size=False) for at in range(0, len(data), 8 << 20)]
    return struct.pack("<I", 0x184C2102) + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4_legacy,
}


def bzimage(payload: bytes, version: int = 0x20F) -> bytes:
    """A kernel as the boot protocol describes it: three sectors of setup, then an unpacker of 16 bytes, then this."""
    head = bytearray(2048)
    head[0x1F1] = 3
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    packed = payload + struct.pack("<I", len(KERNEL))
    struct.pack_into("<II", head, 0x248, 16, len(packed))
    return bytes(head) + b"U" * 16 + packed + b"the end of the setup data"


def zimage(payload: bytes, mark: int = 0x5A534C4B) -> bytes:
    """A kernel behind an unpacker that holds the bytes of a payload's beginning itself."""
    head = bytearray(256)
    size_at = 256 + 64 + len(payload)
    struct.pack_into("<6I", head, 0x24, 0x016F2818, 0, size_at + 4, 0x04030201, 0x45454545, 128)
    struct.pack_into("<5I", head, 128, 4, mark, size_at, 0x1000, TEXT)
    unpacker = (b"\xfd7zXZ\0 and \x1f\x8b\x08 are what I look for").ljust(64, b"\0")
    return bytes(head) + unpacker + payload + struct.pack("<I", len(KERNEL))


@pytest.mark.parametrize("name", PACKERS)
def test_a_kernel_is_taken_out_of_a_bzimage(name: str) -> None:
    assert in_form(bzimage(PACKERS[name](KERNEL)), "vmlinux", 0) == KERNEL


def test_a_kernel_that_cannot_start_by_itself_stays_in_its_bzimage() -> None:
    wrapped = bzimage(gzip.compress(KERNEL.replace(NOTE, bytes(len(NOTE)))))
    assert in_form(wrapped, "vmlinux", 0) == wrapped


@pytest.mark.parametrize(
    ("release", "is_extracted"), [("4.4.0", False), ("4.18.0-25-generic", False), ("5.0.0", True), ("6.10.1", True)]
)
def test_a_kernel_whose_entry_is_for_xen_alone_stays_in_its_bzimage(release: str, is_extracted: bool) -> None:
    kernel = KERNEL + f"Linux version {release} (a@b) #1".encode()
    wrapped = bzimage(gzip.compress(kernel))
    assert in_form(wrapped, "vmlinux", 0) == (kernel if is_extracted else wrapped)


def test_what_is_in_the_form_already_is_left_as_it_is() -> None:
    assert in_form(KERNEL, "vmlinux", 0) == KERNEL
    assert in_form(KERNEL, "uImage", RAM) == KERNEL
    assert in_form(bzimage(b""), "bzImage", 0) == bzimage(b"")


@pytest.mark.parametrize("name", PACKERS)
def test_a_zimages_kernel_goes_where_it_expects_to_be(name: str) -> None:
    made = in_form(zimage(PACKERS[name](KERNEL)), "uImage", RAM)
    magic, checksum, _, size, load, entry, data_checksum, system, _, kind, packing = struct.unpack_from(">7I4B", made)
    assert (magic, size, load, entry) == (0x27051956, len(KERNEL), RAM + TEXT, RAM + TEXT)
    assert (system, kind, packing) == (5, 2, 0)
    assert data_checksum == zlib.crc32(KERNEL)
    assert checksum == zlib.crc32(made[:4] + bytes(4) + made[8:64])
    assert made[64:] == KERNEL


def test_a_zimage_that_does_not_say_where_its_kernel_ends_is_left_as_it_is() -> None:
    old = zimage(gzip.compress(KERNEL), mark=0)
    assert in_form(old, "uImage", RAM) == old


@pytest.mark.parametrize(
    "wrapped",
    [
        bzimage(b"\x1f\x8b\x08 and nothing that unpacks"),
        bzimage(b"BZh9 which nobody uses"),
        bzimage(lz4_legacy(KERNEL)[:1000]),
        bzimage(gzip.compress(KERNEL), version=0x207),
    ],
)
def test_a_damaged_bzimage_is_told(wrapped: bytes) -> None:
    with pytest.raises(BuildError):
        in_form(wrapped, "vmlinux", 0)


def test_a_damaged_zimage_is_told() -> None:
    with pytest.raises(BuildError, match="damaged"):
        in_form(zimage(b"nothing"), "uImage", RAM)


@pytest.mark.parametrize("name", PACKERS)
def test_no_kernel_fills_the_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.assembly.kernel.decompress.MAX_BYTES", 1 << 20)
    with pytest.raises(BuildError, match="more than"):
        in_form(bzimage(PACKERS[name](KERNEL)), "vmlinux", 0)
