"""Packages are read, whoever made them; nothing hostile in one costs more than an error message."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from bootmatrix.assembly.image.dpkg_database import UnpackedPackage, register
from bootmatrix.assembly.tree import Node, Tree
from bootmatrix.errors import BuildError
from bootmatrix.source import compressed, safe_archive
from bootmatrix.source.deb import open_data, read_control
from packages import PACKERS, Deb, entry, folder, hard_link, link, make_ar, make_tar

GIB = 1 << 30


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path) -> dict[str, bytes]:
    tree = Tree()
    with open_data(path) as archive:
        tree.add_tar(archive)
    return {name: node.read() for name, node in tree.items() if node.kind == "file"}


@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_every_compression(tmp_path: Path, suffix: str) -> None:
    data = bytes(range(256)) * 9000
    package = Deb(suffix=suffix).of(folder("./usr"), entry("./usr/a", data), entry("./usr/b", b"b"))
    assert read(write(tmp_path / "a.deb", package)) == {"usr/a": data, "usr/b": b"b"}


@pytest.mark.parametrize("compression", ["gzip", "xz", "none"])
def test_a_package_of_dpkgs(tmp_path: Path, compression: str) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: real\nVersion: 1:2-3\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        "Depends: libc6 (>= 2.36), a | b\nDescription: of the tests\n"
    )
    (root / ("usr/" + "long" * 20 + "/" + "name" * 30)).mkdir(parents=True)
    (root / "usr/file").write_text("content")
    (root / "usr/twin").hardlink_to(root / "usr/file")
    command = ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "--build", "root", "a.deb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert read(tmp_path / "a.deb") == {"usr/file": b"content", "usr/twin": b"content"}
    control = read_control(tmp_path / "a.deb")
    assert (control["Package"], control["Version"], control["Depends"]) == ("real", "1:2-3", "libc6 (>= 2.36), a | b")


def test_zstandard_in_several_frames(tmp_path: Path) -> None:
    data = make_tar([entry("a", b"a" * 5000)])
    packed = b"".join(PACKERS[".zst"](data[start : start + 1000]) for start in range(0, len(data), 1000))
    assert read(write(tmp_path / "a.deb", Deb(suffix=".zst").of_packed(packed))) == {"a": b"a" * 5000}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not an ar archive"),
        (b"PK\x03\x04 a zip", "not an ar archive"),
        (b"!<arch>\n", "no data.tar"),
        (b"!<arch>\n" + b"x" * 60, "at byte 8"),
        (make_ar({"debian-binary": b"2.0\n"}), "no data.tar"),
        (make_ar({"data.tar.lz4": b"x"}), "known compression"),
        (make_ar({"data.tar": b""}), "truncated"),
        (make_ar({"data.tar.gz": b"no gzip"}), "gzip"),
        (make_ar({"data.tar.xz": b"no xz at all"}), "format"),
        (make_ar({"data.tar.zst": b"no zstd at all"}), "zstd"),
        (make_ar({"data.tar": b"x" * 512}), "truncated or corrupt"),
    ],
)
def test_what_is_no_package(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        read(write(tmp_path / "a.deb", data))


@pytest.mark.parametrize("size", [b"-60", b"1e3", b"", b"+5", "٣".encode(), b"9999999999"])
def test_an_ar_member_of_a_strange_size(tmp_path: Path, size: bytes) -> None:
    data = b"!<arch>\n" + b"debian-binary".ljust(48) + size.ljust(10) + b"`\n" + b"2.0\n" * 100
    with pytest.raises(BuildError, match=r"at byte|truncated: expected"):
        read(write(tmp_path / "a.deb", data))


def test_a_folder_or_nothing_for_a_package(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.deb"):
        with pytest.raises(BuildError, match=str(path)):
            read_control(path)


@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_a_cut_package_is_never_taken_for_whole(tmp_path: Path, suffix: str) -> None:
    noise = b"".join(number.to_bytes(4, "big") for number in range(5000))
    package = Deb(suffix=suffix).of(*(entry(f"f{number}", noise) for number in range(3)))
    for length in range(8, len(package) - 1, len(package) // 29):
        with pytest.raises(BuildError):
            read(write(tmp_path / "a.deb", package[:length]))


@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_a_cut_tar_archive_in_a_whole_package(tmp_path: Path, suffix: str) -> None:
    """Cut before packing, and after it; between two members, too."""
    tar = make_tar([entry("a", b"a" * 512), entry("b", b"b" * 512)])
    for length in (512, 1024, 1300, 2048):
        with pytest.raises(BuildError, match="damaged"):
            read(write(tmp_path / "a.deb", Deb(suffix=suffix).of_tar(tar[:length])))
    packed = PACKERS[suffix](tar)
    with pytest.raises(BuildError, match="damaged"):
        read(write(tmp_path / "a.deb", Deb(suffix=suffix).of_packed(packed[: len(packed) // 8])))


def test_a_flipped_header_is_not_the_end(tmp_path: Path) -> None:
    tar = bytearray(make_tar([entry("a"), entry("b"), entry("c")]))
    tar[512 + 150] ^= 1
    with pytest.raises(BuildError, match="corrupt"):
        read(write(tmp_path / "a.deb", Deb(suffix="").of_tar(bytes(tar))))


@pytest.mark.parametrize("kind", [b"x", b"g", b"S", b"V", b"M", b"Z", b"7"])
def test_kinds_that_no_package_may_have(tmp_path: Path, kind: bytes) -> None:
    tar = bytearray(make_tar([entry("strange", b"x" * 100)]))
    tar[156:157] = kind
    tar[148:156] = b" " * 8
    tar[148:156] = b"%06o\0 " % sum(tar[:512])
    with pytest.raises(BuildError, match="forbidden tar type"):
        read(write(tmp_path / "a.deb", Deb().of_tar(bytes(tar))))


def test_pax_headers_are_refused(tmp_path: Path) -> None:
    """They could make tarfile read a list without an end, and dpkg does not take them either."""
    tar = make_tar([entry("x" * 200)], tarfile.PAX_FORMAT)
    with pytest.raises(BuildError, match="forbidden tar type"):
        read(write(tmp_path / "a.deb", Deb().of_tar(tar)))


def _header(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo("much")
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_name_of_gibibytes(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(BuildError, match="invalid size"):
        read(write(tmp_path / "a.deb", Deb().of_tar(_header(3 * GIB, kind) + bytes(100_000))))


def test_long_names_that_belong_to_long_names(tmp_path: Path) -> None:
    tar = (_header(512, tarfile.GNUTYPE_LONGNAME) + b"n".ljust(512, b"\0")) * 5000
    with pytest.raises(BuildError, match="damaged"):
        read(write(tmp_path / "a.deb", Deb().of_tar(tar)))


@pytest.mark.parametrize("size", [-1, -GIB, 5 * GIB, 1 << 62])
def test_a_file_that_is_said_to_be_too_large(tmp_path: Path, size: int) -> None:
    with pytest.raises(BuildError, match=r"invalid size|larger than"):
        read(write(tmp_path / "a.deb", Deb().of_tar(_header(size) + bytes(2048))))


def test_a_file_that_is_said_to_be_larger_than_it_is(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="damaged"):
        read(write(tmp_path / "a.deb", Deb().of_tar(_header(GIB) + bytes(4096))))


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_archive, "MAX_MEMBERS", 100)
    whole = write(tmp_path / "a.deb", Deb().of(*(entry(f"f{number}") for number in range(90))))
    assert len(read(whole)) == 90
    with pytest.raises(BuildError, match="more than 100 files"):
        read(write(tmp_path / "b.deb", Deb().of(*(entry(f"f{number}") for number in range(101)))))


def bomb(suffix: str) -> bytes:
    """A small package that unpacks to hundreds of mebibytes, and says that it has gibibytes."""
    pack = PACKERS[suffix]
    return Deb(suffix=suffix).of_packed(pack(_header(3 * GIB)) + 40 * pack(bytes(8 << 20)))


SKIP = "for member in archive: pass"
KEEP = "Tree().add_tar(archive)"
READER = """
import re, sys, time
from pathlib import Path
from bootmatrix.assembly.tree import Tree
from bootmatrix.errors import BuildError
from bootmatrix.source.deb import open_data
try:
    with open_data(Path(sys.argv[1])) as archive:
        {what}
except BuildError as error:
    # ru_maxrss would be that of the process that started this one, if it was larger.
    memory_kib = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    print(memory_kib >> 10, time.process_time(), error)
"""


@pytest.mark.parametrize("what", [SKIP, KEEP])
@pytest.mark.parametrize("suffix", [".xz", ".zst"])
def test_a_bomb_goes_out_early(tmp_path: Path, suffix: str, what: str) -> None:
    path = write(tmp_path / "a.deb", bomb(suffix))
    assert path.stat().st_size < 500_000
    command = [sys.executable, "-c", READER.format(what=what), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "times its size" in done.stdout, done
    memory_mib, cpu_s, *_ = done.stdout.split()
    assert int(memory_mib) < 500
    assert float(cpu_s) < 10


def greedy(data: bytes) -> bytes:
    """An xz stream whose header asks for a dictionary of 4 GiB, which its data then fills."""
    packed = lzma.compress(data, check=lzma.CHECK_NONE)
    header = bytearray(packed[12 : 12 + packed[12] * 4])  # behind it is its checksum: xz-file-format.txt, 3.1
    header[header.index(b"\x21\x01") + 2] = 40
    return packed[:12] + bytes(header) + struct.pack("<I", zlib.crc32(header)) + packed[16 + packed[12] * 4 :]


def test_an_xz_stream_cannot_ask_for_gibibytes(tmp_path: Path) -> None:
    data = make_tar([entry("a", b"a" * 5000)])
    assert lzma.decompress(greedy(data)) == data, "the stream is sound"
    path = write(tmp_path / "a.deb", Deb(suffix=".xz").of_packed(greedy(data)))
    with pytest.raises(BuildError, match="Memory usage limit"):
        read(path)


def unpacked(data: bytes) -> bytes:
    plain = safe_archive.unpacking(io.BytesIO(data))
    return b"".join(iter(lambda: plain.read(30_000), b""))


@pytest.mark.parametrize("padding", [b"", bytes(4), bytes(70_000)])
@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress])
def test_several_streams(compress: Callable[[bytes], bytes], padding: bytes) -> None:
    packed = padding.join([*(compress(bytes([65 + number]) * 100_000) for number in range(3)), b""])
    assert unpacked(packed) == b"".join(bytes([65 + number]) * 100_000 for number in range(3))
    end = packed.rstrip(b"\0")
    for broken in (end[:-1], end[:-9], packed + b"more", b"\xff".join([end[:-5], end[-4:]])):
        with pytest.raises((EOFError, lzma.LZMAError, compressed.DamagedArchive)):
            unpacked(broken)


@pytest.mark.parametrize("size", [1, 7, 65536, 1 << 20])
def test_gzip_in_pieces_of_any_size(size: int) -> None:
    data = random.Random(size).randbytes(30_000) + bytes(300_000)
    plain = safe_archive.unpacking(io.BytesIO(gzip.compress(data[:20_000]) + gzip.compress(data[20_000:])))
    assert b"".join(iter(lambda: plain.read(size), b"")) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (64 << 20),
        gzip.compress(b"", mtime=0) * 600_000,
        zstandard.compress(b"") * 600_000,
        bz2.compress(b"") * 600_000,
    ],
    ids=["a name without end", "empty gzip members", "empty zstd frames", "empty bzip2 streams"],
)
def test_streams_without_data_are_not_read_for_ever(data: bytes) -> None:
    begun = time.process_time()
    with pytest.raises((EOFError, compressed.DamagedArchive)):
        unpacked(data)
    assert time.process_time() - begun < 15


def test_a_stream_for_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "MAX_STREAMS", 10)
    for compress in (gzip.compress, zstandard.compress, lzma.compress, bz2.compress):
        assert len(unpacked(compress(bytes(1024)) * 1000)) == 1024 * 1000
        with pytest.raises(compressed.DamagedArchive, match="more than 10 compressed streams"):
            unpacked(compress(b"a") * 1000)


def test_what_packs_well_is_no_bomb(tmp_path: Path) -> None:
    package = Deb(suffix=".xz").of(entry("zeros", bytes(30 << 20)), entry("b", b"b"))
    assert len(package) < (30 << 20) / safe_archive.MAX_RATIO
    assert sorted(read(write(tmp_path / "a.deb", package))) == ["b", "zeros"]


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (entry("../outside"), "leaves"),
        (entry("usr/../../outside"), "leaves"),
        (link("usr/../../../outside", "x"), "leaves"),
        (hard_link("inside", "../../etc/passwd"), "leaves"),
        (hard_link("inside", "/etc/passwd"), "does not exist"),
        (hard_link("inside", "inside"), "does not exist"),
        (hard_link("usr2", "usr"), "does not exist"),
        (entry("who", uid=-2), "uid"),
        (entry("who", gid=1 << 40), "gid"),
        (entry("dev", kind=tarfile.CHRTYPE, major=1 << 40), "device"),
    ],
)
def test_members_that_are_refused(tmp_path: Path, member: tarfile.TarInfo, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        read(write(tmp_path / "a.deb", Deb().of(folder("usr"), member)))


def test_writing_through_links_stays_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    package = Deb().of(
        link("a", str(outside)), entry("a/b", b"1"), link("c", "../../../../.."), entry("c/d", b"2"), entry("//e", b"3")
    )
    inside = {f"{outside}/b".lstrip("/"): b"1", "d": b"2", "e": b"3"}
    assert read(write(tmp_path / "a.deb", package)) == inside
    assert not list(outside.iterdir())


def test_devices_are_entries_and_nothing_more(tmp_path: Path) -> None:
    tree = Tree()
    package = Deb().of(
        entry("dev/x", kind=tarfile.CHRTYPE, major=1, minor=3), entry("p", kind=tarfile.FIFOTYPE, mode=0o600)
    )
    with open_data(write(tmp_path / "a.deb", package)) as archive:
        tree.add_tar(archive)
    assert (tree.nodes["dev/x"].kind, tree.nodes["dev/x"].device) == ("char", (1, 3))
    assert (tree.nodes["p"].kind, tree.nodes["p"].mode) == ("fifo", 0o600)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"Version: 1\nArchitecture: all\n", "Package"),
        (b"Package: a\nArchitecture: all\n", "Version"),
        (b"Package: a\nVersion: 1\n", "Architecture"),
        (b"\xff\xfe\0\0 nothing that is a field", "Package"),
        (b"", "Package"),
        (b"x" * ((4 << 20) + 1), "bytes"),
    ],
)
def test_control_files_that_lack_something(tmp_path: Path, text: bytes, why: str) -> None:
    control = PACKERS[".gz"](make_tar([entry("./control", text)]))
    path = write(tmp_path / "a.deb", make_ar({"debian-binary": b"2.0\n", "control.tar.gz": control}))
    with pytest.raises(BuildError, match=why):
        read_control(path)


def test_a_package_without_a_control_file(tmp_path: Path) -> None:
    control = PACKERS[".gz"](make_tar([entry("./md5sums", b""), folder("./control")]))
    with pytest.raises(BuildError, match="no control file"):
        read_control(write(tmp_path / "a.deb", make_ar({"control.tar.gz": control})))


def test_names_do_not_depend_on_the_locale(tmp_path: Path) -> None:
    """Names are bytes; those that are no UTF-8 come out as they went in."""
    package = Deb().of(entry("grün", b"1"), entry("raw\udcff", b"2"))
    assert read(write(tmp_path / "a.deb", package)) == {"grün": b"1", "raw\udcff": b"2"}


def test_lists_of_a_package_made_to_be_slow_to_read_are_not() -> None:
    control = {
        "control": b"Package: mine\nArchitecture: all\nVersion: 1\n",
        "conffiles": b"".join(b"/" * (number % 4000 + 1) + b"etc/mine\n" for number in range(4000)),
        "triggers": b"".join(b"interest /%d\n" % number for number in range(200_000)),
    }
    tree = Tree()
    tree.put("etc/mine", Node("file", data=bytes(8 << 20)))
    begun = time.process_time()
    register(tree, [UnpackedPackage(control, ())])
    assert time.process_time() - begun < 10
    assert tree.nodes["var/lib/dpkg/triggers/File"].read().endswith(b"/199999 mine\n")


def test_two_control_files(tmp_path: Path) -> None:
    """The record would say one version, and the guest's dpkg the other."""
    lines = "Package: thing\nArchitecture: all\nVersion: "
    members = [entry("./control", f"{lines}1.0\n".encode()), entry("control", f"{lines}2.0\n".encode())]
    package = make_ar({"debian-binary": b"2.0\n", "control.tar": make_tar(members), "data.tar": make_tar([])})
    with pytest.raises(BuildError, match="two control files"):
        read_control(write(tmp_path / "a.deb", package))
