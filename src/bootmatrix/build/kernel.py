"""What is in a kernel's packages: the kernel itself, its configuration, device trees and modules."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import zstandard

from bootmatrix.build.forms import UNPACKED_FORMS, in_form
from bootmatrix.build.tree import Node, Tree, text_file
from bootmatrix.errors import BuildError
from bootmatrix.model import Artefact, Kernel, Machine
from bootmatrix.model.base import Model, Sha256
from bootmatrix.source.archive import Archive
from bootmatrix.source.deb import open_data
from bootmatrix.store import Store

FORMAT = "2"
"""Changes whenever what is unpacked, or its form, does."""
MODULE_LIMIT_BYTES = 64 << 20
FILE_LIMIT_BYTES = 256 << 20
XZ_MEMORY_BYTES = 128 << 20
"""xz -9 takes 65 MiB; a header that asks for gibibytes is refused."""
KERNEL_FOLDERS = ("boot/", "lib/modules/", "usr/lib/modules/", "usr/lib/linux-image-")
KERNEL_NAMES = ("vmlinuz", "vmlinux")
"""Up to 6.12 with the release behind it, in boot; later without, in usr/lib/modules/<release>."""


class Module(Model):
    """A kernel module: its path in the guest, where it is in the blob, and the modules it needs.

    The path is below /usr: /lib may be a link, and the kernel would put a folder in the link's place.
    """

    path: str
    offset: int
    size: int
    needs: tuple[str, ...] = ()


class KernelFiles(Model):
    """A kernel's files in the store; modules by name, with `_` for `-`, each a zstd frame of the blob `pack`."""

    image: Sha256
    image_bytes: int
    config: Sha256
    dtbs: dict[str, tuple[str, int]]
    pack: Sha256
    modules: dict[str, Module]
    builtin: tuple[str, ...] = ()


def unpack_kernel(kernel: Kernel, archive: Archive, store: Store) -> KernelFiles:
    """The files of a kernel, unpacked once.

    Raises:
        BuildError: the packages hold no kernel.
        InfraError: they cannot be had.
    """
    key = json.dumps([FORMAT, kernel.release, *(package.sha256 for package in kernel.packages)])
    with store.once("kernel", key):
        known = store.memo("kernel", key)
        if known is not None:
            files = KernelFiles.model_validate_json(known)
            needed = (files.image, files.config, files.pack, *(digest for digest, _ in files.dtbs.values()))
            if all(map(store.has, needed)):
                return files
        files = _unpack(kernel, [archive.fetch(package) for package in kernel.packages], store)
        store.set_memo("kernel", key, files.model_dump_json().encode())
        return files


def _unpack(kernel: Kernel, packages: list[Path], store: Store) -> KernelFiles:
    image = config = None
    dtbs: dict[str, tuple[str, int]] = {}
    modules: dict[str, Module] = {}
    builtin: tuple[str, ...] = ()
    with store.writer() as pack:
        for path, data in _members(packages):
            name = path.rpartition("/")[2]
            if is_module(name):
                module, frame = _pack_module(path, data, pack.tell())
                pack.write(frame)
                modules[module_name(name)] = module
            elif name.removesuffix(f"-{kernel.release}") in KERNEL_NAMES:
                image = (store.add_bytes(data), len(data))
            elif name == f"config-{kernel.release}" or path.endswith(f"{kernel.release}/config"):
                config = store.add_bytes(data)
            elif name.endswith(".dtb"):
                dtbs[name] = (store.add_bytes(data), len(data))
            elif name == "modules.builtin":
                builtin = tuple(sorted(module_name(line) for line in data.decode(errors="replace").split()))
        packed = pack.commit()
    if image is None or config is None:
        lacking = "kernel" if image is None else "configuration"
        raise BuildError(f"the packages of {kernel.release} hold no {lacking}: {', '.join(map(str, kernel.packages))}")
    return KernelFiles(
        image=image[0],
        image_bytes=image[1],
        config=config,
        dtbs=dtbs,
        pack=packed,
        modules=modules,
        builtin=builtin,
    )


def _members(packages: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Regular files of packages that may belong to a kernel, by path.

    Raises:
        BuildError: one of them is larger than any kernel's.
    """
    for package in packages:
        with open_data(package) as archive:
            for member in archive:
                path = member.name.removeprefix("./")
                if not member.isreg() or not path.startswith(KERNEL_FOLDERS):
                    continue
                if member.size > FILE_LIMIT_BYTES:
                    raise BuildError(f"{package} holds {path} of {member.size} bytes, more than any kernel's")
                file = archive.extractfile(member)
                if file:
                    yield path, file.read()


def is_module(name: str) -> bool:
    """Whether a file name is a module's."""
    return name.endswith((".ko", ".ko.xz", ".ko.zst"))


def module_name(path: str) -> str:
    """A module's name as the kernel has it: without folder and suffix, `_` for `-`."""
    return PurePosixPath(path).name.split(".")[0].replace("-", "_")


def _pack_module(path: str, data: bytes, offset: int) -> tuple[Module, bytes]:
    plain = _uncompressed(path, data)
    frame = zstandard.ZstdCompressor(level=1).compress(plain)
    where = "usr/" + path.removeprefix("usr/").removesuffix(".xz").removesuffix(".zst")
    return Module(path=where, offset=offset, size=len(frame), needs=_depends(plain)), frame


def _uncompressed(path: str, data: bytes) -> bytes:
    """A module as the kernel takes it.

    Raises:
        BuildError: it is damaged, or larger than any module.
    """
    try:
        if path.endswith(".xz"):
            stream = lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES)
            plain = stream.decompress(data, MODULE_LIMIT_BYTES)
            complete = stream.eof
        elif path.endswith(".zst"):
            complete = zstandard.frame_content_size(data) <= MODULE_LIMIT_BYTES
            plain = zstandard.ZstdDecompressor().decompress(data, MODULE_LIMIT_BYTES) if complete else b""
        else:
            return data
    except (lzma.LZMAError, zstandard.ZstdError) as error:
        raise BuildError(f"the module {path} is damaged: {error}") from error
    if not complete:
        raise BuildError(f"the module {path} is cut off, or has more than {MODULE_LIMIT_BYTES >> 20} MiB")
    return plain


def _depends(module: bytes) -> tuple[str, ...]:
    """The names after `depends=` in a module's .modinfo section, which is a list of strings that end with a NUL."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    names = found[1].decode(errors="replace") if found else ""
    return tuple(name.replace("-", "_") for name in names.split(",") if name)


def load_order(files: KernelFiles, wanted: tuple[str, ...]) -> tuple[list[Module], list[str]]:
    """Modules and all that they need, each after those it needs; and the names that this kernel has in no form."""
    order: dict[str, Module] = {}
    missing: list[str] = []
    begun: set[str] = set()

    def visit(name: str) -> None:
        if name in begun or name in files.builtin:
            return
        begun.add(name)
        module = files.modules.get(name)
        if module is None:
            missing.append(name)
            return
        for need in module.needs:
            visit(need)
        order[name] = module

    for name in wanted:
        visit(name.replace("-", "_"))
    return list(order.values()), missing


def module_tree(kernel: Kernel, files: KernelFiles, modules: list[Module], store: Store) -> Tree:
    """What the guest needs of a kernel: modules, the list in whose order they are loaded, and the configuration."""
    tree = Tree()
    pack = store.verified(files.pack)
    with pack.open("rb") as file:
        for module in modules:
            file.seek(module.offset)
            tree.put(
                module.path, Node("file", 0o644, data=zstandard.ZstdDecompressor().decompress(file.read(module.size)))
            )
    tree.put("etc/bootmatrix/modules", text_file("".join(f"/{module.path}\n" for module in modules)))
    config = store.verified(files.config).read_bytes()
    tree.put(f"boot/config-{kernel.release}", Node("file", 0o644, data=config))
    return tree


def kernel_artefact(kernel: Kernel, files: KernelFiles, machine: Machine, store: Store) -> Artefact:
    """The kernel itself, in the form that the machine loads; made once.

    Raises:
        BuildError: it is damaged.
    """
    digest, size = files.image, files.image_bytes
    if machine.kernel_form in UNPACKED_FORMS:
        key = json.dumps([FORMAT, files.image, machine.kernel_form, machine.ram_start])
        with store.once("kernel-form", key):
            known = store.memo("kernel-form", key)
            digest, size = json.loads(known) if known else ("", 0)
            if not store.has(digest):
                data = in_form(store.verified(files.image).read_bytes(), machine.kernel_form, machine.ram_start)
                digest, size = store.add_bytes(data), len(data)
                store.set_memo("kernel-form", key, json.dumps([digest, size]).encode())
    path = str(store.verified(digest))
    return Artefact(kind="kernel", name=kernel.release, path=path, sha256=digest, size_bytes=size)


def dtb_artefact(name: str, kernel: Kernel, files: KernelFiles, store: Store) -> Artefact:
    """A device tree of the kernel.

    Raises:
        BuildError: the kernel's packages have none of this name.
    """
    if name not in files.dtbs:
        raise BuildError(f"the packages of {kernel.release} hold no device tree {name}")
    digest, size = files.dtbs[name]
    return Artefact(kind="dtb", name=name, path=str(store.verified(digest)), sha256=digest, size_bytes=size)
