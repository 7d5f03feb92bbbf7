"""Kernels by what they are, whatever they are called and wrapped in."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import lz4.block
import lz4.frame
import pytest
import yaml
import zstandard

import kernel_forms as forms
from bootmatrix.assembly.kernel import wrappers
from bootmatrix.assembly.kernel.fit import fit_kernel
from bootmatrix.assembly.kernel.wrappers import PEEK_BYTES, start_of, unwrapped
from bootmatrix.errors import BuildError
from command_line import Tool
from kernel_forms import PROFILES, RELEASE, kernel_files, make_kernel

pytest_plugins = ("archive_fixtures", "command_line")

IMAGE = make_kernel(PROFILES["aarch64"])
Pack = Callable[[bytes], bytes]


def lz4_legacy(data: bytes) -> bytes:
    block = bytes(lz4.block.compress(data, store_size=False))
    return struct.pack("<II", 0x184C2102, len(block)) + block


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


def uimage(data: bytes, packed: int = 0, kind: int = 2) -> bytes:
    fields = (0x27051956, 0, 0, len(data), 0x8000, 0x8000, zlib.crc32(data), 5, 22, kind, packed, b"Linux")
    return struct.pack(">7I4B32s", *fields) + data


def zboot(data: bytes, kind: bytes) -> bytes:
    header = b"MZ\0\0zimg" + struct.pack("<II", 4096, len(data)) + bytes(8) + kind
    return header.ljust(4096, b"\0") + data + b"signature"


def pe(**sections: bytes) -> bytes:
    """An EFI program of these sections."""
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    table, body, start = b"", b"", 0x1000
    for name, data in sections.items():
        at = start + len(body)
        table += struct.pack("<8s4I16x", f".{name}".encode(), len(data), at, len(data) + -len(data) % 512, at)
        body += data + bytes(-len(data) % 512)
    coff = b"PE\0\0" + struct.pack("<HH12xHH", 0xAA64, len(sections), 0, 0)
    return (head.ljust(0x80, b"\0") + coff + table).ljust(start, b"\0") + body


def uki(kernel: bytes) -> bytes:
    """A unified kernel image."""
    return pe(osrel=b"ID=mine\n", cmdline=b"quiet", initrd=b"070701" + bytes(900), linux=kernel, uname=b"6.9")


def tree(nodes: dict[str, object]) -> bytes:
    """A flattened tree (Devicetree Specification, chapter 5) of nested nodes and their properties."""
    names, body = b"", b""

    def add(name: str, node: dict[str, object]) -> None:
        nonlocal names, body
        body += struct.pack(">I", 1) + name.encode() + b"\0" * (4 - len(name) % 4)
        for key, value in node.items():
            if isinstance(value, bytes):
                body += struct.pack(">III", 3, len(value), len(names)) + value + bytes(-len(value) % 4)
                names += key.encode() + b"\0"
        for key, value in node.items():
            if isinstance(value, dict):
                add(key, value)
        body += struct.pack(">I", 2)

    add("", nodes)
    body += struct.pack(">I", 9)
    header = (0xD00DFEED, 56 + len(body) + len(names), 56, 56 + len(body), 40, 17, 16, 0, len(names), len(body))
    return struct.pack(">10I", *header) + bytes(16) + body + names


def fit_of(kernel: bytes) -> bytes:
    """A FIT image with another kernel before the configured one."""
    images = {
        "fdt": {"type": b"flat_dt\0", "data": b"\xd0\x0d\xfe\xed"},
        "old": {"type": b"kernel\0", "data": b"another"},
        "new": {"type": b"kernel\0", "compression": b"none\0", "data": kernel},
    }
    configurations = {"default": b"conf\0", "conf": {"kernel": b"new\0"}}
    return tree({"images": images, "configurations": configurations})


def fit_outside(kernel: bytes) -> bytes:
    """A FIT image whose data are behind the tree (`mkimage -E`)."""
    sizes = {"data-offset": struct.pack(">I", 0), "data-size": struct.pack(">I", len(kernel))}
    made = tree({"images": {"kernel": {"type": b"kernel\0", **sizes}}})
    return made + bytes(-len(made) % 4) + kernel


WRAPPED: dict[str, Pack] = {
    "nothing": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lzma_alone,
    "zstd": zstandard.compress,
    "lz4 (make Image.lz4)": lz4_legacy,
    "lz4 (frames)": lambda data: bytes(lz4.frame.compress(data)),
    "uImage": uimage,
    "uImage, gzip": lambda data: uimage(gzip.compress(data), 1),
    "uImage, lzma": lambda data: uimage(lzma_alone(data), 3),
    "zboot, gzip": lambda data: zboot(gzip.compress(data), b"gzip"),
    "zboot, lzma": lambda data: zboot(lzma_alone(data), b"lzma"),
    "zboot, lz4": lambda data: zboot(lz4_legacy(data), b"lz4"),
    "zboot, xz": lambda data: zboot(lzma.compress(data), b"xzkern"),
    "zboot, zstd": lambda data: zboot(zstandard.compress(data), b"zstd22"),
    "UKI": uki,
    "FIT": fit_of,
    "FIT, gzip": lambda data: fit_of(gzip.compress(data)),
    "FIT, data outside": lambda data: fit_outside(lzma_alone(data)),
    "UKI of zboot": lambda data: uki(zboot(gzip.compress(data), b"gzip")),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_what_a_kernel_is_wrapped_in(wrapper: str) -> None:
    data = WRAPPED[wrapper](IMAGE)
    assert unwrapped(data).startswith(IMAGE)
    assert start_of(data)[:PEEK_BYTES] == IMAGE[:PEEK_BYTES]
    if wrapper != "nothing":
        with pytest.raises(BuildError, match=r"damaged|cut off"):
            unwrapped(data[: len(data) * 6 // 10])


def test_a_zstd_frame_without_a_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one repeated byte (RFC 8878, section 3.1.1.2): each four bytes unpack to 128 KiB."""
    block = ((128 << 10 << 3) | 2).to_bytes(3, "little") + b"\0"
    last = ((128 << 10 << 3) | 3).to_bytes(3, "little") + b"\0"
    bomb = b"\x28\xb5\x2f\xfd\x00\x58" + block * 4096 + last
    monkeypatch.setattr(wrappers, "LIMIT_BYTES", 1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(BuildError, match="it is too large"):
            unwrapped(bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 300 << 20, "half of a gibibyte is never unpacked"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["kernel8.img", "image", "anything", "Image.lz4", "vmlinuz.efi", "x.tar", "linux.efi"])
@pytest.mark.parametrize("wrapper", ["nothing", "lz4 (make Image.lz4)", "zboot, lzma", "UKI", "uImage, gzip"])
def test_a_file_of_any_name(tool: Tool, tmp_path: Path, name: str, wrapper: str) -> None:
    (tmp_path / name).write_bytes(WRAPPED[wrapper](IMAGE))
    done = tool("kernels", "add", "mine", str(tmp_path / name), "--arch", "aarch64")
    assert done.returncode == 0, done.stderr
    entry = yaml.safe_load(Path("kernels.yml").read_text())["kernels"]["mine"]["aarch64"]
    assert (entry["release"], entry["parts"][0]["kind"]) == (RELEASE, "image")


@pytest.mark.parametrize("arch", ["s390x", "aarch64", "x86_64"])
@pytest.mark.parametrize(
    "where", [f"boot/image-{RELEASE}", f"usr/lib/modules/{RELEASE}/image", f"boot/kernel8-{RELEASE}.img"]
)
@pytest.mark.parametrize("is_told", [True, False])
def test_a_kernel_of_any_name_in_a_package(tool: Tool, tmp_path: Path, arch: str, where: str, is_told: bool) -> None:
    """As SUSE's for s390x and those of the Raspberry Pi are called."""
    image = make_kernel(PROFILES[arch])
    others = {name: data for name, data in kernel_files(image).items() if not name.startswith("boot/vmlinuz")}
    noise = {"boot/initrd.img": gzip.compress(b"070701" + bytes(99_000)), "boot/x.gz": b"\x1f\x8b\x08" + bytes(99)}
    package = forms.rpm({**noise, **others, where: image}, tmp_path)
    done = tool("kernels", "add", "mine", str(package), *(["--arch", arch] if is_told else []))
    assert done.returncode == 0, done.stderr
    assert f"mine for {arch}: Linux {RELEASE}" in done.stdout


def fit() -> bytes:
    """The beginning of a flattened tree, and its list of names."""
    return struct.pack(">10I", 0xD00DFEED, 4096, 56, 100, 40, 17, 16, 0, 0, 60) + b"images\0configurations\0".ljust(
        4056, b"\0"
    )


REFUSED: dict[str, tuple[bytes, str]] = {
    "FIT": (fit(), "this is a FIT image (U-Boot)"),
    "device tree": (struct.pack(">I", 0xD00DFEED) + bytes(400), "this is a device tree"),
    "Android": (b"ANDROID!" + bytes(4000), "an Android boot image"),
    "LZO": (b"\x89LZO\0\r\n\x1a\n" + bytes(99), "compressed with LZO"),
    "uImage, LZO": (uimage(b"\x89LZO\0\r\n\x1a\n" + bytes(99), 4), "compressed with LZO"),
    "uImage of a ramdisk": (uimage(IMAGE, kind=3), "a uImage (U-Boot) of the type 3"),
    "zboot, LZO": (zboot(b"\x89LZO\0\r\n\x1a\n" + bytes(99), b"lzo"), "(zboot) that is compressed with lzo"),
    "an EFI program": (pe(text=b"code"), "an EFI program without a kernel"),
    "initrd": (b"070701" + bytes(200), "a cpio archive, as initrds are"),
    "squashfs": (b"hsqs" + bytes(200), "a squashfs image"),
    "qcow2": (b"QFI\xfb" + bytes(200), "a disk image (qcow2)"),
    "zip": (b"PK\x03\x04" + bytes(200), "a zip archive"),
    "initrd, gzip": (gzip.compress(b"070701" + bytes(200)), "a cpio archive, as initrds are"),
    "nothing": (b"", "an empty file"),
    "a program": (Path("/bin/sh").read_bytes(), "a program, not a kernel"),
    "cut": (gzip.compress(os.urandom(4000))[:2000], "file: the kernel is damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("is_told", [True, False])
def test_what_is_no_kernel_is_named(tool: Tool, tmp_path: Path, case: str, is_told: bool) -> None:
    data, message = REFUSED[case]
    (tmp_path / "file").write_bytes(data)
    done = tool("kernels", "add", "mine", str(tmp_path / "file"), *(["--arch", "aarch64"] if is_told else []))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message.removeprefix("this is ") in done.stderr


def test_a_compressed_container_image_is_named(tool: Tool, tmp_path: Path) -> None:
    path = forms.docker_archive(kernel_files(IMAGE), tmp_path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    done = tool("kernels", "add", "mine", str(path), "--arch", "aarch64")
    assert done.returncode == 2
    assert "Name it docker-archive:saved.tar" in done.stderr


def test_a_fit_image_whose_properties_share_a_long_name() -> None:
    """Each would copy it: 20 GB in all."""
    properties = struct.pack(">3I", 3, 0, 0) * 20_000
    tree = struct.pack(">I4s", 1, b"\0" * 4) + properties
    names = 40 + len(tree)
    data = (
        struct.pack(">10I", 0xD00DFEED, names + (1 << 20) + 1, 40, names, 0, 17, 16, 0, 0, 0)
        + tree
        + b"x" * (1 << 20)
        + b"\0"
    )
    with pytest.raises(BuildError, match="is damaged"):
        fit_kernel(data)
