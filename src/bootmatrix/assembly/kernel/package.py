"""Files of a kernel's packages: kernel, configuration, device trees and modules."""

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

import zstandard

from bootmatrix.assembly.kernel.decompress import UNPACKED_FORMS, boots, in_form
from bootmatrix.assembly.kernel.module_pack import NAMES_LIMIT_BYTES, Module, ModulePack, is_module, module_name
from bootmatrix.assembly.tree import Node, Tree, text_file
from bootmatrix.errors import BuildError, InfraError
from bootmatrix.model import Artefact, Kernel, KernelForm, KernelPart, Machine
from bootmatrix.model.base import Model, Sha256
from bootmatrix.source.archive import Archive
from bootmatrix.source.deb import open_data
from bootmatrix.store import Codec, Store

FORMAT = "4"
"""Changes whenever what is unpacked, or its form, does."""
_CONVERSION = "2"
"""Version of the conversion into a machine's form."""
FILE_LIMIT_BYTES = 256 << 20
LIST_LIMIT_BYTES = 2 << 20
"""Limit of modules.builtin, which has 0.1 MB."""
KERNEL_FOLDERS = ("boot/", "lib/modules/", "usr/lib/modules/", "usr/lib/linux-image-")
GENERIC = "_generic"
"""End of the names of ciphers and sums that need no instructions of a certain CPU (the kernel's crypto/Makefile)."""
KERNEL_NAMES = ("vmlinuz", "vmlinux")
"""Up to 6.12 with the release behind it, in boot; later without, in usr/lib/modules/<release>."""


class KernelFiles(Model):
    """A kernel's files in the store.

    Modules are by name, with `_` for `-`; each is a zstd frame of the blob `pack`. `form` and `release` are empty
    for kernels of the archive, whose profile and packages have them. A custom kernel may lack `config`. `ucode` is
    a cpio archive of microcode with its size; it is put before an initrd.
    """

    image: Sha256
    image_bytes: int
    form: KernelForm | Literal[""] = ""
    release: str = ""
    config: Sha256 | None
    dtbs: dict[str, tuple[str, int]]
    pack: Sha256
    modules: dict[str, Module]
    builtin: tuple[str, ...] = ()
    ucode: tuple[Sha256, int] | None = None

    @cached_property
    def built_in(self) -> frozenset[str]:
        """Names of the modules in the kernel itself."""
        return frozenset(self.builtin)

    @cached_property
    def by_alias(self) -> dict[str, str]:
        """Modules by alias: of several, the first one for every CPU."""
        found: dict[str, str] = {}
        for module in sorted(self.modules, key=lambda name: (not name.endswith(GENERIC), name)):
            for alias in self.modules[module].aliases:
                found.setdefault(alias, module)
        return found


def unpack_kernel(kernel: Kernel, archive: Archive, store: Store) -> KernelFiles:
    """Unpack the files of a kernel, cached.

    Raises BuildError if the packages contain no kernel, InfraError if they cannot be fetched.
    """
    key = kernel_key(kernel)

    def make() -> KernelFiles:
        if kernel.parts:
            raise InfraError(f"the cache has lost the kernel {kernel.name}", "Run again to fetch it again.")
        return _unpack(kernel, [archive.fetch(package) for package in kernel.packages], store)

    return store.cached("kernel", key, make, CODEC, lambda files: _is_whole(files, store))


def kernel_key(kernel: Kernel) -> str:
    """Return the cache key of a kernel's files: the digests of their sources."""
    if kernel.parts:
        parts = [(part.kind, part.sha256, *_names_in(part)) for part in kernel.parts]
        return json.dumps([FORMAT, "own", kernel.architecture, parts])
    return json.dumps([FORMAT, kernel.release, *(package.sha256 for package in kernel.packages)])


def _names_in(part: KernelPart) -> tuple[str, ...]:
    """Return a part's names of files in an image, each with its purpose."""
    names = {"binary": part.binary, "tar": part.tar, "ucode": part.ucode}
    return tuple(f"{purpose} {name}" for purpose, name in names.items() if name)


def known_files(key: str, store: Store) -> KernelFiles | None:
    """Return the cached files of a key, if the store has them all."""
    record = store.memo("kernel", key)
    files = CODEC.load(record) if record is not None else None
    return files if files and _is_whole(files, store) else None


def _is_whole(files: KernelFiles, store: Store) -> bool:
    more = [digest for digest, _ in (*files.dtbs.values(), *filter(None, [files.ucode]))]
    needed = (files.image, files.config, files.pack, *more)
    return all(store.has(digest) for digest in needed if digest)


@lru_cache(maxsize=16)
def _parsed(known: bytes) -> KernelFiles:
    """Parse cached files once for all cells of a kernel."""
    return KernelFiles.model_validate_json(known)


CODEC = Codec(_parsed, lambda files: files.model_dump_json().encode())


def _unpack(kernel: Kernel, packages: list[Path], store: Store) -> KernelFiles:
    image = config = None
    dtbs: dict[str, tuple[str, int]] = {}
    builtin: tuple[str, ...] = ()
    with store.writer() as file:
        pack = ModulePack(file)
        for path, data in _members(packages):
            name = path.rpartition("/")[2]
            if is_module(name):
                pack.add(path, data)
            elif name.removesuffix(f"-{kernel.release}") in KERNEL_NAMES:
                image = (store.add_bytes(data), len(data))
            elif name == f"config-{kernel.release}" or path.endswith(f"{kernel.release}/config"):
                config = store.add_bytes(data)
            elif name.endswith(".dtb"):
                dtbs[name] = (store.add_bytes(data), len(data))
            elif name == "modules.builtin":
                builtin = builtin_modules(data)
        packed = file.commit()
    if image is None or config is None:
        lacking = "kernel" if image is None else "configuration"
        raise BuildError(f"the packages of {kernel.release} hold no {lacking}: {', '.join(map(str, kernel.packages))}")
    return KernelFiles(
        image=image[0],
        image_bytes=image[1],
        config=config,
        dtbs=dtbs,
        pack=packed,
        modules=pack.modules,
        builtin=builtin,
    )


def _members(packages: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield regular files of packages that may belong to a kernel, by path.

    Raises BuildError if a file is larger than any kernel's.
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


def builtin_modules(data: bytes) -> tuple[str, ...]:
    """Return the names in modules.builtin. Raises BuildError if it is too large."""
    if len(data) > LIST_LIMIT_BYTES:
        raise BuildError(f"its modules.builtin has {len(data)} bytes, more than any kernel's")
    return tuple(sorted({module_name(line) for line in data.decode(errors="replace").split()}))


def providers(files: KernelFiles, name: str) -> list[str]:
    """Return the module of a name or alias, in a list: one for every CPU."""
    found = name if name in files.modules else files.by_alias.get(name)
    return [found] if found else []


def load_order(files: KernelFiles, wanted: tuple[str, ...]) -> tuple[list[Module], list[str]]:
    """Sort modules in load order; return names that the kernel lacks too."""
    order: list[Module] = []
    missing: list[str] = []
    begun: set[str] = set()

    def begin(name: str) -> tuple[Module, Iterator[str]] | None:
        if name in begun or name in files.built_in:
            return None
        begun.add(name)
        module = files.modules.get(name)
        if module is None:
            missing.append(name)
            return None
        return module, chain(module.needs, *(providers(files, wanted) for wanted in module.wants))

    for name in wanted:
        first = begin(name.replace("-", "_"))
        waiting = [first] if first else []  # an explicit stack: chains of modules may exceed Python's recursion limit
        while waiting:
            module, needs = waiting[-1]
            need = next(needs, None)
            if need is None:
                order.append(module)
                waiting.pop()
            elif further := begin(need):
                waiting.append(further)
    return order, missing


def _modules_in(files: KernelFiles, modules: Iterable[Module], store: Store) -> Tree:
    tree = Tree()
    with store.verified(files.pack).open("rb") as file:
        for module in modules:
            file.seek(module.offset)
            data = zstandard.ZstdDecompressor().decompress(file.read(module.size))
            tree.put(module.path, Node("file", 0o644, data=data))
    return tree


def every_module_tree(kernel: Kernel, files: KernelFiles, store: Store) -> Tree:
    """Build the tree of all modules, with modprobe's dependencies (depmod(8)).

    Raises BuildError if chains of dependencies are longer than any kernel's.
    """
    modules = [files.modules[name] for name in sorted(files.modules)]
    tree = _modules_in(files, modules, store)
    folder = f"usr/lib/modules/{kernel.release}"
    lines, size = list[str](), 0
    for name in sorted(files.modules):
        *needs, module = (module.path.removeprefix(f"{folder}/") for module in load_order(files, (name,))[0])
        lines.append(f"{module}: {' '.join(reversed(needs))}".rstrip() + "\n")
        size += len(lines[-1])
        if size > NAMES_LIMIT_BYTES:
            raise BuildError(f"the modules of the kernel {kernel.name} need more other modules than any kernel's")
    tree.put(f"{folder}/modules.dep", text_file("".join(lines)))
    return tree


def module_tree(kernel: Kernel, files: KernelFiles, modules: list[Module], store: Store) -> Tree:
    """Build the tree of modules, their load order, and the configuration."""
    tree = _modules_in(files, modules, store)
    tree.put("etc/bootmatrix/modules", text_file("".join(f"/{module.path}\n" for module in modules)))
    if files.config:
        config = store.verified(files.config).read_bytes()
        tree.put(f"boot/config-{kernel.release}", Node("file", 0o644, data=config))
    return tree


def check_form(kernel: Kernel, files: KernelFiles, machine: Machine) -> None:
    """Check a kernel's form. Raises BuildError if a machine does not boot it."""
    if files.form and not boots(machine.kernel_form, files.form):
        raise BuildError(f"the kernel {kernel.name} is a {files.form}, and this machine boots a {machine.kernel_form}")


def check_modules(kernel: Kernel, files: KernelFiles, names: Iterable[str]) -> None:
    """Check that a kernel has the modules of a spec, by its built-in list.

    Raises BuildError if it lacks one.
    """
    lacking = load_order(files, tuple(names))[1] if files.builtin else []
    if lacking:
        raise BuildError(
            f"the kernel {kernel.name} ({kernel.release}) has no module {', '.join(lacking)}, which the spec needs",
            "Build it in or as a module; a custom kernel needs its modules too: docs/kernels.md.",
        )


def kernel_artefact(kernel: Kernel, files: KernelFiles, machine: Machine, store: Store) -> Artefact:
    """Return the kernel in the machine's form, cached; BuildError if damaged."""
    digest, size = files.image, files.image_bytes
    if machine.kernel_form in UNPACKED_FORMS:
        key = json.dumps([FORMAT, _CONVERSION, files.image, machine.kernel_form, machine.ram_start])
        digest, size = store.cached_file("kernel-form", key, lambda: _unpack_image(files, machine, store))
    path = str(store.verified(digest))
    return Artefact(kind="kernel", name=kernel.release, path=path, sha256=digest, size_bytes=size)


def _unpack_image(files: KernelFiles, machine: Machine, store: Store) -> tuple[str, int]:
    data = in_form(store.verified(files.image).read_bytes(), machine.kernel_form, machine.ram_start)
    return store.add_bytes(data), len(data)


def dtb_artefact(name: str, kernel: Kernel, files: KernelFiles, store: Store) -> Artefact:
    """Return a kernel's device tree. Raises BuildError if it is missing."""
    if name not in files.dtbs:
        near = ", ".join(get_close_matches(name, files.dtbs, 5)) or "no similar name"
        raise BuildError(f"the packages of {kernel.release} hold no device tree {name}", f"They hold {near}.")
    digest, size = files.dtbs[name]
    return Artefact(kind="dtb", name=name, path=str(store.verified(digest)), sha256=digest, size_bytes=size)
