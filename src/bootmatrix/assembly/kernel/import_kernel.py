"""Import of custom kernels into the store, from any supported form."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.kernel.decompress import boots
from bootmatrix.assembly.kernel.kernel_parts import KernelParts
from bootmatrix.assembly.kernel.module_pack import Module, ModulePack
from bootmatrix.assembly.kernel.package import CODEC, KernelFiles, kernel_key
from bootmatrix.assembly.kernel.probe import embedded_config, release_of
from bootmatrix.assembly.user_files import copy_digested, in_a_line
from bootmatrix.errors import BootmatrixError, BuildError, InputError, readable
from bootmatrix.model import Kernel, KernelForm, KernelPart, Profile, StoredImage
from bootmatrix.source.images.kernels import ImageFile, kernel_members
from bootmatrix.source.kernel_formats import Member, files_of, find_kernel_format
from bootmatrix.source.kernel_formats.tree import MODULES_ORDER
from bootmatrix.store import Store, sha256_of

CPIO = b"070701"

Fetched = Path | StoredImage
"""Source of a kernel's part: a file or folder, or a container image."""


def custom_kernel(name: str, release: str, parts: tuple[KernelPart, ...], profile: Profile) -> Kernel:
    kept = tuple(part.redacted() for part in parts)
    return Kernel(name=name, release=release, version=release, architecture=profile.names.debian, parts=kept)


def import_kernel(
    name: str, parts: tuple[KernelPart, ...], files: Iterable[Fetched], profile: Profile, store: Store
) -> Kernel:
    """Import a kernel into the store.

    Raises BuildError if the source has no kernel for the architecture, or is damaged.
    """
    files = tuple(files)
    collected = KernelParts(profile.kernel_magic, _bootable_forms(profile))
    with _copied(parts, files, store) as copies, store.writer() as file:
        pack = ModulePack(file)
        for member in _members(parts, copies, profile, store):
            with named(parts):
                collected.take(member, pack)
        packed = file.commit()
    with named(parts):
        form, path, image = collected.image()
        release = _release(collected, path, image)
    kernel = custom_kernel(name, release, parts, profile)
    config = collected.config or embedded_config(image)
    kept = KernelFiles(
        image=store.add_bytes(image),
        image_bytes=len(image),
        form=form,
        release=release,
        config=store.add_bytes(config) if config else None,
        dtbs={tree: (store.add_bytes(data), len(data)) for tree, data in collected.dtbs.items()},
        pack=packed,
        modules={module: _placed(name, release) for module, name in pack.modules.items()},
        builtin=collected.builtin,
        ucode=_microcode(parts, files, store),
    )
    store.set_memo("kernel", kernel_key(kernel), CODEC.dump(kept))
    return kernel


@contextmanager
def named(parts: Iterable[KernelPart]) -> Iterator[None]:
    """Name the user's files in an error on what is in them."""
    try:
        yield
    except BuildError as error:
        raise BuildError(f"{', '.join(map(str, parts))}: {error.message}", error.hint) from error


def digest_of(kind: str, path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's lines `digest  path`.

    Raises InputError if it cannot be read.
    """
    with readable():
        if path.is_file():
            return sha256_of(path)
        files = files_of(kind, path)
        lines = [f"{sha256_of(file)}  {in_a_line(file.relative_to(path).as_posix())}\n" for file in files]
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def digest_of_part(part: KernelPart, fetched: Fetched) -> str:
    return fetched.digest if isinstance(fetched, StoredImage) else digest_of(part.kind, fetched)


@contextmanager
def _copied(parts: Sequence[KernelPart], files: Sequence[Fetched], store: Store) -> Iterator[tuple[Fetched, ...]]:
    """Copy the user's files to a private place; messages use their names.

    Raises InputError if their digests have changed.
    """
    with store.workspace() as folder:
        copies = tuple(_copy(part, file, folder) for part, file in zip(parts, files, strict=True))
        if any(digest_of_part(part, copy) != part.sha256 for part, copy in zip(parts, copies, strict=True)):
            raise InputError(f"{', '.join(map(str, parts))}: has changed while it was read", "Try again.")
        try:
            yield copies
        except BootmatrixError as error:
            raise type(error)(error.message.replace(str(folder), ""), error.hint) from error


def _copy(part: KernelPart, file: Fetched, folder: Path) -> Fetched:
    """Copy below a folder under the whole path, which module folders need."""
    if isinstance(file, StoredImage):
        return file
    root = file.resolve()
    with readable():
        lists = (root / MODULES_ORDER,) if (root / MODULES_ORDER).is_file() else ()
        for path in [root] if root.is_file() else (*files_of(part.kind, root), *lists):
            target = folder / path.relative_to(root.anchor)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                copy_digested(path, target)
    return folder / root.relative_to(root.anchor)


def _bootable_forms(profile: Profile) -> tuple[KernelForm, ...]:
    """Return the kernel forms that machines of a profile boot, most frequent first."""
    loaded = [machine.kernel_form for machine in profile.machines.values()]
    counts = {form: sum(boots(module, form) for module in loaded) for form in profile.kernel_magic}
    return tuple(sorted((form for form in counts if counts[form]), key=lambda form: -counts[form]))


def _members(
    parts: tuple[KernelPart, ...], files: Iterable[Fetched], profile: Profile, store: Store
) -> Iterator[Member]:
    for part, file in zip(parts, files, strict=True):
        if isinstance(file, StoredImage):
            yield from kernel_members(_files(file, store), part.binary, part.tar, str(part))
            continue
        with readable():
            yield from find_kernel_format(part.kind).members(file, profile.names.oci)


def _files(image: StoredImage, store: Store) -> dict[str, ImageFile]:
    return {path: node for path, node in image_tree(image, store).items() if node.kind == "file"}


def _microcode(parts: tuple[KernelPart, ...], files: Iterable[Fetched], store: Store) -> tuple[str, int] | None:
    """Return the part `ucode`. Raises BuildError if it is not a cpio archive."""
    for part, image in zip(parts, files, strict=True):
        if part.ucode and isinstance(image, StoredImage):
            file = _files(image, store).get(part.ucode.strip("/"))
            data = Member(part.ucode, file.size, file.read).read() if file else b""
            if not data.startswith(CPIO):
                raise BuildError(f"the kernel image {part} has no file {part.ucode}, or it is not a cpio archive")
            return store.add_bytes(data + bytes(-len(data) % 4)), len(data) + -len(data) % 4
    return None


def _placed(module: Module, release: str) -> Module:
    return module.model_copy(update={"path": module.path.replace("{release}", release, 1)})


def _release(parts: KernelParts, path: str, image: bytes) -> str:
    """Return `uname -r` by the kernel, its tree or its modules' folder.

    Raises BuildError if it is unknown, or they differ.
    """
    own = release_of(image) or parts.tree_release
    others = [release for release in parts.releases if release != own]
    if own and others:
        raise BuildError(f"{path} is of the release {own}, and the modules beside it are of {', '.join(others)}")
    if not own and len(parts.releases) != 1:
        raise BuildError(
            f"the release of {path} cannot be determined: no version string, no lib/modules/RELEASE",
            "Add it as part of its build tree or its package.",
        )
    return own or parts.releases[0]
