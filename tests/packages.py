"""Packages for tests, good and evil, and what is needed to read back what is made of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import zstandard

CONTROL = "Package: {name}\nVersion: {version}\nArchitecture: {arch}\n{more}Description: of the tests\n"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor(level=3).compress,
}


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, to: str = "", **more: int) -> tarfile.TarInfo:
    """A tar member; its data goes along as an attribute of its own."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, to, len(data)
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    member.uid, member.gid = more.get("uid", 0), more.get("gid", 0)
    member.devmajor, member.devminor = more.get("major", 0), more.get("minor", 0)
    member.mode = more.get("mode", member.mode)
    member.pax_headers = {"data": data.decode("latin-1")}
    return member


def folder(name: str) -> tarfile.TarInfo:
    """A folder of a tar archive."""
    return entry(name, kind=tarfile.DIRTYPE)


def link(name: str, to: str) -> tarfile.TarInfo:
    """A symbolic link of a tar archive."""
    return entry(name, kind=tarfile.SYMTYPE, to=to)


def hard_link(name: str, to: str) -> tarfile.TarInfo:
    """A hard link of a tar archive."""
    return entry(name, kind=tarfile.LNKTYPE, to=to)


def make_tar(members: Iterable[tarfile.TarInfo], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for member in members:
            headers = dict(member.pax_headers)
            data = str(headers["data"]).encode("latin-1")
            member.pax_headers = {name: value for name, value in headers.items() if name != "data"}
            archive.addfile(member, io.BytesIO(data))
            member.pax_headers = headers
    return buffer.getvalue()


def make_ar(parts: dict[str, bytes]) -> bytes:
    """An ar archive."""
    ar = b"!<arch>\n"
    for name, data in parts.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        ar += header + data + b"\n" * (len(data) % 2)
    return ar


@dataclass(frozen=True)
class Deb:
    """A package under construction; `more` are further lines of its control file."""

    name: str = "thing"
    version: str = "1.0-1"
    arch: str = "all"
    more: str = ""
    suffix: str = ".gz"

    def control(self) -> bytes:
        """The control archive."""
        text = CONTROL.format(name=self.name, version=self.version, arch=self.arch, more=self.more)
        return gzip.compress(make_tar([entry("./control", text.encode())]), mtime=0)

    def of(self, *members: tarfile.TarInfo) -> bytes:
        """The package with these files."""
        return self.of_tar(make_tar(members))

    def of_tar(self, data: bytes) -> bytes:
        """The package with this tar archive."""
        return self.of_packed(PACKERS[self.suffix](data))

    def of_packed(self, data: bytes) -> bytes:
        """The package with this compressed tar archive."""
        parts = {"debian-binary": b"2.0\n", "control.tar.gz": self.control(), f"data.tar{self.suffix}": data}
        return make_ar(parts)


@dataclass(frozen=True)
class Entry:
    """What a cpio archive says of a path."""

    inode: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime_s: int
    device: tuple[int, int]
    data: bytes


def read_cpio(data: bytes) -> dict[str, Entry]:
    """The paths of a newc archive up to its end mark, by cpio(5): 13 fields of 8 hexadecimal digits after the magic."""
    entries: dict[str, Entry] = {}
    position = 0
    while True:
        header = data[position : position + 110]
        assert header[:6] == b"070701", f"no header at {position}"
        fields = [int(header[start : start + 8], 16) for start in range(6, 110, 8)]
        inode, mode, uid, gid, links, mtime_s, size, _, _, major, minor, name_size, _ = fields
        name = data[position + 110 : position + 110 + name_size]
        assert name.endswith(b"\0")
        start = _round(position + 110 + name_size)
        path = name[:-1].decode("utf-8", "surrogateescape")
        if path == "TRAILER!!!":
            return entries
        assert path not in entries
        entries[path] = Entry(inode, mode, uid, gid, links, mtime_s, (major, minor), data[start : start + size])
        position = _round(start + size)


def _round(position: int) -> int:
    return -(-position // 4) * 4
