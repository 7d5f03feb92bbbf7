"""Segments of initrds: kernel modules, a shell; packing for old kernels."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import zstandard

from bootmatrix.assembly.image.builder import Builder, image_tree, make_image
from bootmatrix.assembly.initrd.cache import FORMAT, SEGMENT_CODEC, Segment, join, segment
from bootmatrix.assembly.initrd.cpio import write_cpio
from bootmatrix.assembly.kernel.package import KernelFiles, every_module_tree, module_tree
from bootmatrix.assembly.tree import EPOCH_S, Node, Tree
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.model import Bootable, Kernel, Profile
from bootmatrix.store import Store


def module_segment(kernel: Kernel, files: KernelFiles, paths: list[str], builder: Builder) -> Segment:
    """Return the segment with some of the modules, by their paths."""
    by_path = {module.path: module for module in files.modules.values()}
    key = modules_key(kernel, files, paths)
    modules = [by_path[path] for path in paths]
    return segment(key, builder, lambda: write_cpio(module_tree(kernel, files, modules, builder.store), EPOCH_S))


def modules_key(kernel: Kernel, files: KernelFiles, paths: list[str]) -> str:
    """Return the key of that segment."""
    return json.dumps(["modules", FORMAT, kernel.release, files.pack, files.config, paths])


def every_module_segment(kernel: Kernel, files: KernelFiles, builder: Builder) -> Segment:
    """Return the segment with all modules."""
    places = {name: [module.path, module.needs, module.wants, module.aliases] for name, module in files.modules.items()}
    key = json.dumps(["every module", FORMAT, kernel.release, files.pack, places])
    return segment(key, builder, lambda: write_cpio(every_module_tree(kernel, files, builder.store), EPOCH_S))


Packing = Literal["zstd", "gzip", "plain"]
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_OPTION = re.compile(rb"^CONFIG_RD_(ZSTD|GZIP)=y$", re.MULTILINE)
_LEVEL = 1
"""The guest unpacks all levels equally fast, and it is done once."""
_PIECE_BYTES = 1 << 17


def packing_of(config: bytes) -> Packing:
    """Return the best packing that a kernel unpacks; zstd if unknown."""
    options = set(_OPTION.findall(config))
    if not config or b"ZSTD" in options:
        return "zstd"
    return "gzip" if b"GZIP" in options else "plain"


def for_kernel(parts: Iterable[Segment], files: KernelFiles, builder: Builder) -> tuple[Segment, ...]:
    """Return the segments of an initrd in a packing that the kernel unpacks, cached."""
    config = builder.store.verified(files.config).read_bytes() if files.config else b""
    packing = packing_of(config)
    return tuple(parts) if packing == "zstd" else tuple(_repacked(part, packing, builder.store) for part in parts)


def _repacked(part: Segment, packing: Packing, store: Store) -> Segment:
    path = store.verified(part.sha256)
    with path.open("rb") as file:
        if file.read(len(_ZSTD_MAGIC)) != _ZSTD_MAGIC:  # microcode, which is plain
            return part
    key = json.dumps(["repacked", packing, _LEVEL, zlib.ZLIB_RUNTIME_VERSION, part.sha256])

    def make() -> Segment:
        with store.writer() as target:
            for piece in _pieces(path, packing):
                target.write(piece)
            target.write(bytes(-target.tell() % 4))
            size = target.tell()
            return replace(part, sha256=target.commit(), size_bytes=size)

    return store.cached("segment", key, make, SEGMENT_CODEC, lambda made: store.has(made.sha256))


def _pieces(path: Path, packing: Packing) -> Iterator[bytes]:
    """Yield a segment in another packing: one zstd frame, with padding behind it."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    packer = zlib.compressobj(_LEVEL, wbits=31)  # 31: with gzip's header (zlib.h)
    with path.open("rb") as file:
        while not frame.eof and (data := file.read(_PIECE_BYTES)):
            piece = frame.decompress(data)
            yield packer.compress(piece) if packing == "gzip" else piece
    if packing == "gzip":
        yield packer.flush()


IMAGE = "@pkg:./images/busybox"
"""The shipped image with a shell and small tools in one program."""
PROGRAM = "bin/busybox"
PLACE = "usr/lib/bootmatrix/busybox"
"""Its path in the guest, known to init."""


def shell_program(profile: Profile, builder: Builder) -> Node:
    """Return the program, which finds its tools by itself."""
    program = image_tree(make_image(IMAGE, specs_folder() / "x.yml", profile, builder), builder.store).get(PROGRAM)
    assert program
    return program


def with_shell(bootable: Bootable, profile: Profile, builder: Builder) -> Bootable:
    """Add a shell to an initrd, for `run --shell`."""
    if bootable.initrd is None:
        return bootable
    program = shell_program(profile, builder)
    tree = Tree()
    tree.put(PLACE, program)
    key = json.dumps(["shell", FORMAT, sha256(program.read()).hexdigest()])
    part = segment(key, builder, lambda: write_cpio(tree, EPOCH_S))
    initrd = Segment(bootable.initrd.sha256, bootable.initrd.size_bytes)
    return bootable.model_copy(update={"initrd": join((initrd, part), f"{bootable.initrd.name}, shell", builder)})
