"""Initrds: cpio archives in `newc` format.

Source: the kernel's driver-api/early-userspace/buffer-format.rst.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import zstandard

from bootmatrix.assembly.tree import Node, Tree
from bootmatrix.errors import BuildError

FILE_TYPES = {
    "file": 0o100000,
    "dir": 0o040000,
    "symlink": 0o120000,
    "char": 0o020000,
    "block": 0o060000,
    "fifo": 0o010000,
}
"""The type bits of a mode, by inode(7)."""
MAX_FILE_BYTES = (1 << 32) - 1
"""The size of a file has eight hexadecimal digits in a newc archive."""
TRAILER = "TRAILER!!!"
"""The name that ends an archive."""
PATH_MAX, NAME_MAX = 4096, 255
"""linux/limits.h: the kernel passes over a longer path or link, which counts its final NUL, and says nothing."""
ZSTD = zstandard.ZstdCompressionParameters.from_level(3, threads=2, job_size=4 << 20, write_checksum=True)
"""Level 3 packs in a sixth of the time of level 12, and a tenth larger; the guest unpacks all levels equally fast. The
bytes depend on the size of jobs, and not on how many threads do them, for each of which a few are in memory."""
SMALL_BYTES = 8 << 20
SMALL_ZSTD = zstandard.ZstdCompressionParameters.from_level(12, write_checksum=True)
"""Parameters for archives up to that size, such as init's: a fifth smaller, for some tenths of a second."""
PACKED_BYTES = 1 << 17
PACKER = f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}, to {SMALL_BYTES} level 12"
"""Another version may write other bytes."""


def write_cpio(tree: Tree, mtime_s: int) -> Iterator[bytes]:
    """Yield a cpio archive of a tree. A hard-linked file's data is at its last path.

    Raises BuildError if the kernel would skip a path or a link.
    """
    paths: dict[int, list[str]] = {}
    for path, node in tree.items():
        paths.setdefault(id(node), []).append(path)
    numbers: dict[int, int] = {}
    for path, node in tree.items():
        _check_names(path, node)
        is_file = node.kind == "file"
        names = paths[id(node)] if is_file else [path]
        number = numbers.setdefault(id(node) if is_file else -len(numbers), len(numbers) + 1)
        target = _encoded(node.target) if node.kind == "symlink" else b""
        has_data = is_file and path == names[-1]
        size = node.size if has_data else len(target)
        yield _header(path, node, Inode(number, len(names), mtime_s), size) + target
        yield from node.pieces() if has_data else ()
        yield _padding(size)
    yield _header(TRAILER, Node("file", 0), Inode(0, 1, 0), 0, file_type=0)


def _check_names(path: str, node: Node) -> None:
    names = _encoded(path).split(b"/")
    too_long = max(map(len, names)) > NAME_MAX or max(len(_encoded(path)), len(_encoded(node.target))) >= PATH_MAX
    if node.size > MAX_FILE_BYTES:
        raise BuildError(
            f"{path[:200]!r} has {node.size >> 20} MiB: a file of an initrd has less than 4 GiB",
            "Put large data on a disk, or into smaller files.",
        )
    if too_long or path == TRAILER or (node.kind == "symlink" and not node.target):
        raise BuildError(
            f"{path[:200]!r} cannot be in an initrd: its name is too long or the archive's end, or its target is empty"
        )


def _encoded(text: str) -> bytes:
    """Encode a name; invalid UTF-8 is kept as in Python's file names."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Inode:
    """The inode number and link count shared by the paths of a hard-linked file."""

    number: int
    links: int
    mtime_s: int


def _header(path: str, node: Node, inode: Inode, size: int, file_type: int | None = None) -> bytes:
    encoded = _encoded(path) + b"\0"
    mode = node.mode | (FILE_TYPES[node.kind] if file_type is None else file_type)
    owner = (node.uid, node.gid, inode.links, inode.mtime_s, size)
    fields = (inode.number, mode, *owner, 0, 0, *node.device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % value for value in fields) + encoded
    return header + _padding(len(header))


def _padding(length: int) -> bytes:
    return bytes(-length % 4)


def compress(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress as one zstd frame, padded so that another can follow."""
    size = 0
    for packed in _compressed(pieces):
        size += len(packed)
        yield packed
    yield _padding(size)


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest, start = iter(pieces), bytearray()
    for piece in rest:
        start += piece
        if len(start) > SMALL_BYTES:
            break
    parameters = ZSTD if len(start) > SMALL_BYTES else SMALL_ZSTD
    chunker = zstandard.ZstdCompressor(compression_params=parameters).chunker(chunk_size=PACKED_BYTES)
    for piece in chain((bytes(start),), rest):
        yield from chunker.compress(piece)
    yield from chunker.finish()  # type: ignore[no-untyped-call]  # zstandard's stub forgot it
