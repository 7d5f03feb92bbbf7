"""Disk formats of clouds and hypervisors. Random IDs are replaced by digests."""

import re
import shutil
import struct
from functools import partial
from pathlib import Path

from bootmatrix.assembly.formats import Format, Maker, bios, efi
from bootmatrix.assembly.formats.media import pad
from bootmatrix.assembly.formats.source import Source
from bootmatrix.assembly.formats.tools import run, versions
from bootmatrix.assembly.tree import EPOCH_S
from bootmatrix.errors import HostError

GIB = 1 << 30
VHD_MAGIC, VHD_FOOTER_BYTES = b"conectix", 512
VHD_TIME_AT, VHD_SUM_AT, VHD_ID_AT = 24, 64, 68
"""Seconds since 2000, checksum and number in a footer (Microsoft's Virtual Hard Disk Image Format Specification)."""
YEAR_2000_S = 946684800
VMDK_TEXT_BYTES = 64 << 10
"""Bytes searched for a VMDK's description, which is in its first sectors."""
CID_DIGITS = 8
CONVERTER = "qemu-img"


def qcow2(disk: Maker, source: Source) -> Path:
    """Write a disk as qcow2."""
    raw = disk(source)
    return source.kept("qcow2", lambda path: _convert(raw, path, "qcow2"), raw.name, *versions(CONVERTER))


def aws(source: Source) -> Path:
    """Write a disk of whole GiB, as EC2 counts."""
    return source.kept("aws", lambda path: _in_gib(bios.disk(source), path), bios.disk(source).name)


def gcp(disk: Maker, source: Source) -> Path:
    """Write `disk.raw` of whole GiB as a tar.gz of GNU's old format, for GCE."""
    raw = disk(source)

    def make(path: Path) -> None:
        _in_gib(raw, path.with_name("disk.raw"))
        owner = ["--owner=0", "--group=0", "--numeric-owner", "--mode=0644", f"--mtime=@{EPOCH_S}"]
        sparse = ["--format=oldgnu", "--sparse", "--hole-detection=raw"]
        packer = ["-I", "gzip -n -6"]
        run("tar", ["--create", *sparse, *owner, *packer, "-f", path, "-C", path.parent, "disk.raw"])

    return source.kept("gcp", make, raw.name, *versions("tar", "gzip"))


def vmdk(source: Source) -> Path:
    """Write a growing VMDK."""

    def make(path: Path) -> None:
        _convert(bios.disk(source), path, "vmdk")
        with path.open("r+b") as file:
            head = with_cid(file.read(VMDK_TEXT_BYTES), source.id[:CID_DIGITS].encode())
            file.seek(0)
            file.write(head)

    return source.kept("vmdk", make, bios.disk(source).name, *versions(CONVERTER))


def with_cid(head: bytes, cid: bytes) -> bytes:
    """Set the content ID in the first bytes of a VMDK, keeping the length.

    qemu-img chooses it at random, and writes it without leading zeros. The text is padded with zero bytes, some of
    which are used.

    Raises HostError if the text is missing.
    """
    match = re.search(rb"\nCID=([0-9a-f]{1,8})\n", head)
    end = head.find(b"\0", match.end()) if match else -1
    more = len(cid) - len(match[1]) if match else 0
    if not match or end < 0 or head[end : end + more].strip(b"\0"):
        raise HostError("qemu-img wrote a VMDK without a CID", "Please report this, with its version.")
    return head[: match.start(1)] + cid + head[match.end(1) : end] + head[end + more :]


def _vhd(source: Source, subformat: str) -> Path:
    """Write a VHD, of fixed size (the disk and a footer) or growing."""

    def make(path: Path) -> None:
        _convert(bios.disk(source), path, "vpc", f"subformat={subformat},force_size=on")
        with path.open("r+b") as file:
            places = [file.seek(0, 2) - VHD_FOOTER_BYTES, *([0] if subformat == "dynamic" else [])]
            for place in places:
                file.seek(place)
                footer = _settled_footer(file.read(VHD_FOOTER_BYTES), source)
                file.seek(place)
                file.write(footer)

    return source.kept(f"{subformat}-vhd", make, bios.disk(source).name, *versions(CONVERTER))


def _settled_footer(footer: bytes, source: Source) -> bytes:
    """Return a VHD's footer with a reproducible time and ID."""
    if not footer.startswith(VHD_MAGIC):
        raise HostError("qemu-img wrote a VHD without a footer", "Please report this, with its version.")
    data = bytearray(footer)
    struct.pack_into(">I", data, VHD_TIME_AT, EPOCH_S - YEAR_2000_S)
    data[VHD_ID_AT : VHD_ID_AT + 16] = source.uuid("vhd").bytes
    struct.pack_into(">I", data, VHD_SUM_AT, 0)
    struct.pack_into(">I", data, VHD_SUM_AT, ~sum(data) & 0xFFFFFFFF)
    return bytes(data)


def _convert(raw: Path, path: Path, form: str, options: str = "") -> None:
    run(CONVERTER, ["convert", "-f", "raw", "-O", form, *(["-o", options] if options else []), raw, path])


def _in_gib(disk: Path, path: Path) -> None:
    shutil.copyfile(disk, path)
    pad(path, GIB)


QCOW2_BIOS = Format("a disk as qcow2", {".qcow2": partial(qcow2, bios.disk)}, "bios", "disk")
QCOW2_EFI = Format("a disk as qcow2", {"-efi.qcow2": partial(qcow2, efi.disk)}, "efi", "disk")
GCP = Format("for Google Compute Engine", {".img.tar.gz": partial(gcp, bios.disk)}, "bios", "disk")
GCP_EFI = Format("for Google Compute Engine", {"-efi.img.tar.gz": partial(gcp, efi.disk)}, "efi", "disk")
AWS = Format("for Amazon EC2: a disk of whole GiB", {".raw": aws}, "bios", "disk")
VHD = Format("for Azure: a VHD of fixed size", {".vhd": partial(_vhd, subformat="fixed")}, "bios", "disk")
DYNAMIC_VHD = Format("for Hyper-V: a VHD that grows", {".vhd": partial(_vhd, subformat="dynamic")}, "bios", "disk")
VMDK = Format("for VMware", {".vmdk": vmdk}, "bios", "disk")
