"""Initrds: read back by a reader of the format, by busybox, and the same whenever and wherever they are made."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bootmatrix.assembly.initrd.cpio import ZSTD, write_cpio
from bootmatrix.assembly.initrd.cpio import compress as compressed
from bootmatrix.assembly.slices import Slice
from bootmatrix.assembly.tree import Node, Tree, directory, symlink, text_file
from bootmatrix.errors import BuildError
from packages import read_cpio

TIME_S = 1_492_533_000


def compress(pieces: Iterable[bytes]) -> bytes:
    return b"".join(compressed(pieces))


def cpio(tree: Tree) -> bytes:
    return b"".join(write_cpio(tree, TIME_S))


def sample() -> Tree:
    tree = Tree()
    tree.put("usr/bin/busybox", Node("file", 0o4755, 7, 8, data=b"program"))
    tree.put("bin", symlink("usr/bin"))
    tree.link("bin/sh", "bin/busybox")
    tree.link("init", "bin/sh")
    tree.put("dev/console", Node("char", 0o600, device=(5, 1)))
    tree.put("dev/sda", Node("block", 0o660, device=(8, 0)))
    tree.put("pipe", Node("fifo", 0o600))
    tree.put("tmp", directory(0o1777))
    tree.put("empty", text_file(""))
    return tree


def test_everything_comes_back() -> None:
    entries = read_cpio(cpio(sample()))
    kinds = {path: (stat.filemode(one.mode), one.uid, one.gid, one.device) for path, one in entries.items()}
    assert kinds == {
        "bin": ("lrwxrwxrwx", 0, 0, (0, 0)),
        "dev": ("drwxr-xr-x", 0, 0, (0, 0)),
        "dev/console": ("crw-------", 0, 0, (5, 1)),
        "dev/sda": ("brw-rw----", 0, 0, (8, 0)),
        "empty": ("-rw-r--r--", 0, 0, (0, 0)),
        "init": ("-rwsr-xr-x", 7, 8, (0, 0)),
        "pipe": ("prw-------", 0, 0, (0, 0)),
        "tmp": ("drwxrwxrwt", 0, 0, (0, 0)),
        "usr": ("drwxr-xr-x", 0, 0, (0, 0)),
        "usr/bin": ("drwxr-xr-x", 0, 0, (0, 0)),
        "usr/bin/busybox": ("-rwsr-xr-x", 7, 8, (0, 0)),
        "usr/bin/sh": ("-rwsr-xr-x", 7, 8, (0, 0)),
    }
    assert entries["bin"].data == b"usr/bin"
    assert {one.mtime_s for one in entries.values()} == {TIME_S}


def test_a_folder_comes_before_what_is_in_it() -> None:
    tree = Tree()
    for path in ("a/x", "a-b/x", "a.b", "b/c/d"):
        tree.put(path, text_file("x"))
    seen: set[str] = {""}
    for path in read_cpio(cpio(tree)):
        assert path.rpartition("/")[0] in seen
        seen.add(path)


def test_hard_links_have_one_number_and_their_data_once() -> None:
    entries = read_cpio(cpio(sample()))
    names = ["init", "usr/bin/busybox", "usr/bin/sh"]
    assert {entries[name].inode for name in names} == {entries["init"].inode}
    assert [entries[name].links for name in names] == [3, 3, 3]
    assert [entries[name].data for name in names] == [b"", b"", b"program"], "the last one has it"
    others = [one.inode for path, one in entries.items() if path not in names]
    assert len(set(others)) == len(others)
    assert entries["init"].inode not in others
    assert all(one.links == 1 for path, one in entries.items() if path not in names)


def test_equal_files_are_no_hard_links() -> None:
    tree = Tree()
    tree.put("a", text_file("same"))
    tree.put("b", text_file("same"))
    assert {one.links for one in read_cpio(cpio(tree)).values()} == {1}


@pytest.mark.skipif(not shutil.which("busybox"), reason="another reader, where there is one")
def test_another_reader_reads_the_same(tmp_path: Path) -> None:
    tree = Tree()
    tree.put("usr/a", text_file("content"))
    tree.link("b", "usr/a")
    tree.put("c", symlink("usr/a"))
    tree.put("odd", text_file("x" * 4097, 0o600))
    command = ["busybox", "cpio", "-i", "-d"]
    subprocess.run(command, input=cpio(tree), cwd=tmp_path, check=True, capture_output=True, timeout=30)
    assert (tmp_path / "b").read_text() == "content"
    assert (tmp_path / "b").samefile(tmp_path / "usr/a")
    assert (tmp_path / "c").readlink() == Path("usr/a")
    assert (tmp_path / "odd").read_text() == "x" * 4097
    assert stat.S_IMODE((tmp_path / "odd").stat().st_mode) == 0o600


def test_contents_may_be_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(b"before-content-after")
    tree = Tree()
    tree.put("x", Node("file", data=Slice(tmp_path / "layer", 7, 7)))
    assert read_cpio(cpio(tree))["x"].data == b"content"


def test_bytes_do_not_depend_on_the_order_of_making() -> None:
    first, second = Tree(), Tree()
    for path in ("z", "a/b", "m"):
        first.put(path, text_file(path))
    for path in ("m", "a/b", "z"):
        second.put(path, text_file(path))
    assert cpio(first) == cpio(second)
    assert compress(write_cpio(first, TIME_S)) == compress(write_cpio(second, TIME_S))


@pytest.mark.parametrize(
    ("path", "node"),
    [
        ("TRAILER!!!", text_file("x")),
        ("a" * 256, text_file("x")),
        ("ü" * 128, directory()),
        ("/".join(["d" * 200] * 21), directory()),
        ("link", symlink("x" * 4096)),
        ("link", symlink("")),
    ],
)
def test_what_the_kernel_would_leave_out_is_refused(path: str, node: Node) -> None:
    """Most of it by the tree already, as no root can hold it."""
    tree = Tree()
    with pytest.raises(BuildError, match=r"cannot be in an initrd|too long|has a target of"):
        tree.put(path, node)
        cpio(tree)


def test_what_just_fits() -> None:
    tree = Tree()
    tree.put("etc/TRAILER!!!", text_file("x"))
    tree.put("ü" * 127, text_file("y"))
    tree.put("link", symlink("x" * 4095))
    tree.put("raw\udcff", Node("file", uid=(1 << 32) - 1, data=b"z"))
    entries = read_cpio(cpio(tree))
    assert entries["etc/TRAILER!!!"].data == b"x"
    assert len(entries["link"].data) == 4095
    assert (entries["raw\udcff"].uid, entries["raw\udcff"].data) == ((1 << 32) - 1, b"z")


def test_initrds_can_follow_one_another() -> None:
    """Each is a whole number of words, and a frame of its own with a checksum; nothing but zeros is in between."""
    first, second = sample(), Tree()
    second.put("etc/modules", text_file("x\n"))
    packed = [compress(write_cpio(tree, TIME_S)) for tree in (first, second)]
    assert [len(one) % 4 for one in packed] == [0, 0]
    rest, plain = b"".join(packed), []
    while rest:
        frame = zstandard.ZstdDecompressor().decompressobj()
        plain.append(frame.decompress(rest))
        assert frame.eof
        rest = frame.unused_data.lstrip(b"\0")
    assert plain == [cpio(first), cpio(second)]
    assert zstandard.get_frame_parameters(packed[0]).has_checksum


def test_packed_bytes_depend_on_neither_threads_nor_pieces() -> None:
    data = b"".join(b"%d" % number for number in range(2_000_000))
    assert len(data) > 3 * ZSTD.job_size
    packed = compress(iter([data]))
    assert compress(data[at : at + 99_991] for at in range(0, len(data), 99_991)) == packed
    for threads in (1, 4):
        same = zstandard.ZstdCompressionParameters.from_level(
            3, threads=threads, job_size=ZSTD.job_size, write_checksum=True
        )
        alone = zstandard.ZstdCompressor(compression_params=same).compressobj()
        frame = alone.compress(data) + alone.flush()
        assert packed == frame + bytes(-len(frame) % 4)


def test_a_flipped_bit_shows() -> None:
    packed = bytearray(compress(iter([b"content" * 1000])))
    packed[len(packed) // 2] ^= 4
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompressobj().decompress(bytes(packed))


NAMES = st.text(alphabet=st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: name not in {".", "..", "TRAILER!!!"}), st.binary(max_size=9)))
def test_any_name_and_content_comes_back(contents: dict[str, bytes]) -> None:
    tree = Tree()
    for name, data in contents.items():
        tree.put(name, Node("file", data=data))
    data = cpio(tree)
    assert {path: one.data for path, one in read_cpio(data).items()} == contents
    assert len(data) % 4 == 0
