"""Makes images, and what boots, out of folders, packages and specs that tests write."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from archive_client import Opener, kernel_source
from bootmatrix.assembly.assemble import build
from bootmatrix.assembly.image.builder import Builder, image_tree, make_image
from bootmatrix.assembly.tree import Tree
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Bootable, ImageRecipe, Kernel, StoredImage
from bootmatrix.store import Store
from packages import Deb, Entry, entry, read_cpio
from small_archive import SmallArchive

PROFILES = load_profiles(arch_folders())
RELEASE = "6.1.0-9-cloud-amd64"


@dataclass(frozen=True)
class Kitchen:
    """Makes images out of folders beside a spec."""

    builder: Builder
    folder: Path
    small: SmallArchive

    def recipe(self, name: str, **fields: Any) -> Path:
        """Write a build.yml, and give its folder."""
        where = self.folder / "images" / name
        where.mkdir(parents=True, exist_ok=True)
        (where / "build.yml").write_text(json.dumps(fields or {"description": "nothing"}))
        return where

    def make(self, name: str = "mine", arch: str = "x86_64", base: str = "", **fields: Any) -> StoredImage:
        """Write a build.yml if there are fields, and make its image."""
        if fields or base:
            self.recipe(name, **{"from": f"@pkg:../{base}"} if base else {}, **fields)
        return make_image(f"@pkg:./images/{name}", self.folder / "spec.yml", PROFILES[arch], self.builder)

    def tree(self, name: str = "mine", **fields: Any) -> Tree:
        """The same; the image's files."""
        return image_tree(self.make(name, **fields), self.builder.store)

    def deb(self, name: str, data: bytes) -> str:
        """Write a package, and give its path relative to a recipe's folder."""
        (self.folder / "dist").mkdir(exist_ok=True)
        (self.folder / "dist" / name).write_bytes(data)
        return f"../../dist/{name}"

    def kernel(self, data: bytes = b"", release: str = RELEASE) -> Kernel:
        """Publish a kernel in one package, and ask the archive for it."""
        data = data or old_kernel(
            release,
            virtio_console__ko=module(),
            virtio_net__ko=module("failover"),
            failover__ko=module(),
            af_packet__ko=module(),
            overlay__ko=module(),
        )
        add_deb(self.small, "old", f"linux-image-{release}", "6.1.9-1", data)
        self.small.publish()
        return self.builder.archive.kernel("6.1", kernel_source(suites="old"), "amd64")

    def build(self, yaml: str, kernel: Kernel, arch: str = "x86_64", machine: str = "") -> Bootable:
        """Write a spec, and make what boots."""
        path = self.folder / "spec.yml"
        path.write_text(yaml)
        profile = PROFILES[arch]
        board = profile.machines[machine or profile.default_machine()]
        return build(load_spec(path), profile, board, kernel, self.builder)


def files(tree: Tree) -> dict[str, bytes]:
    """Contents of a tree's files."""
    return {path: node.read() for path, node in tree.items() if node.kind == "file"}


def of_recipe(recipe: ImageRecipe) -> Callable[[Path], ImageRecipe]:
    """Stands for a recipe that never saw the loader's checks."""
    return lambda _: recipe


def stamps(store: Store) -> dict[str, tuple[int, int]]:
    """Every file of a store, and whether it is still the same."""
    found = {str(path): path.lstat() for kind in ("blobs", "memo") for path in (store.folder / kind).rglob("*")}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def spoil(path: Path) -> None:
    """Flip a bit of a file of the store."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def module(*needs: str, size: int = 100) -> bytes:
    """A kernel module of this many zeros, which says what it needs."""
    return elf_module(b"license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0", bytes(size))


def elf_module(modinfo: bytes, text: bytes = b"") -> bytes:
    """An ELF file with the section .modinfo, right behind other bytes (elf(5))."""
    names = b"\0.modinfo\0.shstrtab\0"
    at = [64, 64 + len(text), 64 + len(text) + len(modinfo)]
    table = at[2] + len(names)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    rows = [(0, 0, 0, 0), (1, 1, at[1], len(modinfo)), (10, 3, at[2], len(names))]
    sections = (
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, where, size, 0, 0, 1, 0) for name, kind, where, size in rows
    )
    return header + text + modinfo + names + b"".join(sections)


def old_kernel(release: str = RELEASE, /, **modules: bytes) -> bytes:
    """A kernel as it is up to 6.12, all in one package; of the modules' names, two `_` stand for a dot."""
    below = f"./lib/modules/{release}"
    members = [
        entry(f"./boot/vmlinuz-{release}", b"kernel of " + release.encode()),
        entry(f"./boot/config-{release}", b"CONFIG_RD_ZSTD=y\n"),
        entry(f"./boot/System.map-{release}", b"map"),
        entry(f"./usr/lib/linux-image-{release}/vendor/board.dtb", b"tree"),
        entry(f"{below}/modules.builtin", b"kernel/drivers/virtio_pci.ko\nkernel/fs/built-in-thing.ko\n"),
        *(entry(f"{below}/kernel/{name.replace('__', '.')}", data) for name, data in modules.items()),
    ]
    return Deb(f"linux-image-{release}", "6.1.9-1", "amd64").of(*members)


def add_deb(small: SmallArchive, suite: str, name: str, version: str, data: bytes, depends: str = "") -> None:
    """Put a package into the archive as it is."""
    file = small.root / f"pool/main/{name}_{version}_amd64.deb"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    paragraph = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
    paragraph += f"Depends: {depends}\n" if depends else ""
    digest = hashlib.sha256(data).hexdigest()
    paragraph += f"Filename: {file.relative_to(small.root)}\nSize: {len(data)}\nSHA256: {digest}\nDescription: x\n"
    small.suite(suite).paragraphs.setdefault("amd64", []).append(paragraph)


def unpacked(initrd: Path) -> dict[str, Entry]:
    """Paths of an initrd of several archives, the later ones over the earlier ones."""
    rest, entries = initrd.read_bytes(), dict[str, Entry]()
    while rest:
        frame = zstandard.ZstdDecompressor().decompressobj()
        entries |= read_cpio(frame.decompress(rest))
        rest = frame.unused_data.lstrip(b"\0")
    return entries


@pytest.fixture
def kitchen(opened: Opener, store: Store, tmp_path: Path, small: SmallArchive) -> Kitchen:
    small.root.mkdir(exist_ok=True)
    (tmp_path / "work").mkdir()
    return Kitchen(Builder(store, opened()), tmp_path / "work", small)
