"""Custom kernels: imported from any supported form, and identified by digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bootmatrix.assembly.image.builder import Builder, foreign_image, image_tree
from bootmatrix.assembly.kernel.decompress import boots
from bootmatrix.assembly.kernel.kernel_parts import NAMED, PLACE, KernelParts
from bootmatrix.assembly.kernel.options import MissingOption, missing_options
from bootmatrix.assembly.kernel.package import (
    CODEC,
    KernelFiles,
    Module,
    kernel_key,
    known_files,
)
from bootmatrix.assembly.kernel.probe import embedded_config, form_of, page_kib_of, release_of
from bootmatrix.assembly.kernel.wrappers import PEEK_BYTES, describe, start_of, unwrapped
from bootmatrix.assembly.user_files import copy_digested
from bootmatrix.errors import BootmatrixError, BuildError, InputError
from bootmatrix.model import (
    AnyKernel,
    CustomKernel,
    Kernel,
    KernelForm,
    KernelPart,
    KernelSource,
    Profile,
    RepositoryKernel,
    Spec,
    StoredImage,
)
from bootmatrix.model.image import RECIPE_KIND
from bootmatrix.source import image_sources
from bootmatrix.source.download import NotFound
from bootmatrix.source.images.kernels import ImageFile, kernel_members
from bootmatrix.source.kernel_formats import Member, find_kernel_format
from bootmatrix.source.kernel_formats.tree import MODULES_ORDER
from bootmatrix.source.lock_recorder import kernel_key as locked_name
from bootmatrix.store import Store, sha256_of

LOCK_FLAVOUR = "own"
CPIO = b"070701"
Fetched = Path | StoredImage
"""Source of a kernel's part: a file or folder, or a container image."""


def find_kernel(name: str, source: AnyKernel, profile: Profile, builder: Builder) -> Kernel:
    """Find the kernel for a name of a profile, of a custom kernel or of a catalogue.

    Raises:
        BootmatrixError: the kernel is unavailable; the class tells the cause.
    """
    if isinstance(source, KernelSource):
        return builder.archive.kernel(name, source, profile.kernel_architecture(source))
    if isinstance(source, RepositoryKernel):
        return _find_catalogued(name, source, profile, builder)
    return find_own(name, source, profile, builder)


def _find_catalogued(name: str, source: RepositoryKernel, profile: Profile, builder: Builder) -> Kernel:
    """Find a kernel of another distribution: of the lock, or the newest of its repositories."""
    debian = profile.names.debian
    key = locked_name(debian, source.distribution, name)
    repositories = builder.archive.repositories
    parts = builder.archive.locked_parts(key)
    if not parts:
        parts = source.pinned or repositories.parts(source, debian)
    try:
        return find_own(name, CustomKernel(parts=parts, page_kib=source.page_kib), profile, builder, key)
    except NotFound as error:
        raise repositories.gone(source, debian, error) from error


def find_spec_kernel(spec: Spec, profile: Profile, builder: Builder) -> Kernel:
    """Find the kernel in the image of a spec's `kernel` section.

    Raises:
        BuildError: the spec names no image, or the image has no kernel for the architecture.
        InfraError: the image cannot be fetched.
    """
    section = spec.kernel
    if not section.image:
        raise BuildError(f"{spec.path}: the kernel 'spec' requires a kernel image in the spec")
    part = KernelPart(
        kind="oci", image=section.image, binary=section.binary, tar=section.tar or "", ucode=section.ucode or ""
    )
    own = CustomKernel(parts=(part,), folder=str(Path(spec.path).parent))
    return find_own(f"spec-{spec.name}"[:64], own, profile, builder)


def find_own(name: str, own: CustomKernel, profile: Profile, builder: Builder, key: str = "") -> Kernel:
    """Find a custom kernel, with its files in the store. `key` is its name in a lock.

    Raises:
        InputError: a source is missing, or has changed since the kernel was added.
        BuildError: it has no kernel for the architecture, or a different one from the lock's.
        InfraError: it cannot be downloaded.
    """
    parts, files = own.parts, None
    key = key or locked_name(profile.names.debian, LOCK_FLAVOUR, name)
    if all(part.sha256 for part in parts) and _known(name, parts, profile, builder.store):
        if not builder.archive.has_locked(key):
            _check_unchanged(parts, own.folder)
    else:
        files = [_fetch(part, own.folder, profile, builder) for part in parts]
        parts = tuple(_pinned(part, file) for part, file in zip(parts, files, strict=True))
    kernel = _known(name, parts, profile, builder.store)
    if kernel is None:
        kernel = import_kernel(name, parts, files or (), profile, builder.store)
    return builder.archive.own_kernel(key, kernel)


def _check_unchanged(parts: Iterable[KernelPart], folder: str) -> None:
    """Check that the source files of a cached kernel are unchanged, if they still exist.

    Raises:
        InputError: they have changed: the old kernel would be tested.
    """
    for part in parts:
        path = Path(folder, part.path).absolute()
        if part.path and path.exists():
            _pin(part, _digest_once(part.kind, path))


@cache
def _digest_once(kind: str, path: Path) -> str:
    """Return a digest, cached for all cells."""
    return digest_of(kind, path)


def _known(name: str, parts: tuple[KernelPart, ...], profile: Profile, store: Store) -> Kernel | None:
    """Return a kernel of the store."""
    kernel = _kernel(name, "", parts, profile)
    files = known_files(kernel_key(kernel), store)
    return _kernel(name, files.release, parts, profile) if files else None


class AddedKernel(NamedTuple):
    """A new kernel, its architecture, and what its configuration lacks for the architecture's first machine."""

    profile: Profile
    kernel: CustomKernel
    lacking: tuple[MissingOption, ...]


def add_custom_kernel(
    name: str, parts: tuple[KernelPart, ...], folder: Path, profiles: Sequence[Profile], builder: Builder
) -> AddedKernel:
    """Import a new custom kernel into the store, and determine its architecture.

    Raises:
        InputError: a source is missing.
        BuildError: it is damaged, or not for exactly one of the architectures.
        InfraError: it cannot be downloaded.
    """
    if len(profiles) > 1 and any(part.image for part in parts):
        raise BuildError(
            f"{', '.join(map(str, parts))} may be an image for several architectures", "Name it with --arch."
        )
    files = [_fetch(part, str(folder), profiles[0], builder) for part in parts]
    profile = profiles[0] if len(profiles) == 1 else recognise(parts, files, profiles)
    pinned = tuple(_pinned(part, file) for part, file in zip(parts, files, strict=True))
    kernel = import_kernel(name, pinned, files, profile, builder.store)
    found = known_files(kernel_key(kernel), builder.store)
    config = builder.store.verified(found.config).read_bytes() if found and found.config else b""
    added = CustomKernel(parts=pinned, release=kernel.release, page_kib=page_kib_of(config), folder=str(folder))
    machine = profile.machine(profile.default_machine())
    return AddedKernel(profile, added, missing_options(config, machine, "containers") if config else ())


def recognise(parts: Iterable[KernelPart], files: Iterable[Fetched], profiles: Sequence[Profile]) -> Profile:
    """Return the architecture whose kernels begin with these bytes: the first of several profiles of one."""
    hint, strange = "Name it with --arch.", ("", "")
    for part, file in zip(parts, files, strict=True):
        if part.kind == "oci" or isinstance(file, StoredImage):
            raise BuildError(f"{file} may be an image for several architectures", hint)
        for member in find_kernel_format(part.kind).members(file, ""):
            if not PLACE.search(member.path):
                continue
            data = member.read()
            strange = strange if strange[0] else describe(data)
            data = _start(data, is_named=bool(NAMED.search(member.path)))
            found = [one for one in profiles if form_of(data, one.kernel_magic) and not one.borrows_kernels()]
            if len({one.names.debian for one in found}) == 1:
                return found[0]
            if found:
                raise BuildError(f"{file} may be for {', '.join(one.name for one in found)}", hint)
    what = strange[0] or "not a kernel of a known architecture"
    raise BuildError(f"{', '.join(map(str, parts))}: this is {what}", strange[1])


def _start(data: bytes, *, is_named: bool) -> bytes:
    """Return the first bytes of a file's content.

    Raises:
        BuildError: it has a kernel's name, and is damaged, or wrapped in an unsupported form.
    """
    return unwrapped(data, PEEK_BYTES) if is_named else start_of(data)


def _kernel(name: str, release: str, parts: tuple[KernelPart, ...], profile: Profile) -> Kernel:
    kept = tuple(part.redacted() for part in parts)
    return Kernel(name=name, release=release, version=release, architecture=profile.names.debian, parts=kept)


def _fetch(part: KernelPart, folder: str, profile: Profile, builder: Builder) -> Fetched:
    if part.image:
        return _image(part, folder, profile, builder)
    if part.url:
        if not part.sha256:
            raise InputError(f"{part}: a kernel from a URL needs its SHA-256", "Give it with --sha256.")
        return builder.archive.download(part.url, part.sha256, part.size_bytes)
    path = Path(folder) / part.path
    if not path.exists():
        raise InputError(f"{path}: file or folder of a kernel not found")
    return path


def _image(part: KernelPart, folder: str, profile: Profile, builder: Builder) -> StoredImage:
    source = builder.source(part.image, Path(folder) / "kernels.yml")
    if source.kind == RECIPE_KIND:
        raise InputError(f"{part.image}: an image made from packages has no kernel")
    if part.sha256 and not source.is_made_here:
        source = image_sources.pin(source, part.sha256)
    return foreign_image(source, profile, builder)


def _pinned(part: KernelPart, fetched: Fetched) -> KernelPart:
    return _pin(part, _digest(part, fetched))


def _pin(part: KernelPart, found: str) -> KernelPart:
    if part.sha256 not in {None, found}:
        raise InputError(
            f"{part} has changed: its SHA-256 is {found}, expected {part.sha256}",
            "Add it again with `bootmatrix kernels add`; with --follow, each run takes the current content.",
        )
    return part.model_copy(update={"sha256": found})


def _digest(part: KernelPart, fetched: Fetched) -> str:
    return fetched.digest if isinstance(fetched, StoredImage) else digest_of(part.kind, fetched)


def digest_of(kind: str, path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's lines `digest  path`, one per used file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if path.is_file():
            return sha256_of(path)
        files = find_kernel_format(kind).paths(path)
        lines = [f"{sha256_of(file)}  {file.relative_to(path).as_posix()}\n" for file in files]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def import_kernel(
    name: str, parts: tuple[KernelPart, ...], files: Iterable[Fetched], profile: Profile, store: Store
) -> Kernel:
    """Import a kernel into the store.

    Raises:
        BuildError: the source has no kernel for the architecture, or is damaged.
    """
    files = tuple(files)
    found = KernelParts(profile.kernel_magic, _bootable_forms(profile))
    with _copied(parts, files, store) as copies, store.writer() as pack:
        for member in _members(parts, copies, profile, store):
            found.take(member, pack)
        packed = pack.commit()
    form, path, image = found.image()
    release = _release(found, path, image)
    kernel = _kernel(name, release, parts, profile)
    config = found.config or embedded_config(image)
    kept = KernelFiles(
        image=store.add_bytes(image),
        image_bytes=len(image),
        form=form,
        release=release,
        config=store.add_bytes(config) if config else None,
        dtbs={tree: (store.add_bytes(data), len(data)) for tree, data in found.dtbs.items()},
        pack=packed,
        modules={module: _placed(one, release) for module, one in found.modules.items()},
        builtin=found.builtin,
        ucode=_microcode(parts, files, store),
    )
    store.set_memo("kernel", kernel_key(kernel), CODEC.dump(kept))
    return kernel


@contextmanager
def _copied(parts: Sequence[KernelPart], files: Sequence[Fetched], store: Store) -> Iterator[tuple[Fetched, ...]]:
    """Copy the user's files and folders to a private place; messages use their own names.

    Raises:
        InputError: their digests have changed.
    """
    with store.workspace() as folder:
        copies = tuple(_copy(part, file, folder) for part, file in zip(parts, files, strict=True))
        if any(_digest(part, copy) != part.sha256 for part, copy in zip(parts, copies, strict=True)):
            raise InputError(f"{', '.join(map(str, parts))}: has changed while it was read", "Try again.")
        try:
            yield copies
        except BootmatrixError as error:
            raise type(error)(error.message.replace(str(folder), ""), error.hint) from error


def _copy(part: KernelPart, file: Fetched, folder: Path) -> Fetched:
    """Copy below a folder, under the whole path: module folders are recognised by their parents."""
    if isinstance(file, StoredImage):
        return file
    root = file.resolve()
    try:
        lists = (root / MODULES_ORDER,) if (root / MODULES_ORDER).is_file() else ()
        for one in [root] if root.is_file() else (*find_kernel_format(part.kind).paths(root), *lists):
            target = folder / one.relative_to(root.anchor)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                copy_digested(one, target)
    except OSError as error:
        raise InputError(f"{error.filename or file}: cannot be read: {error.strerror}") from error
    return folder / root.relative_to(root.anchor)


def _bootable_forms(profile: Profile) -> tuple[KernelForm, ...]:
    """Return the kernel forms that machines of a profile boot, most frequent first."""
    loaded = [machine.kernel_form for machine in profile.machines.values()]
    counts = {form: sum(boots(one, form) for one in loaded) for form in profile.kernel_magic}
    return tuple(sorted((form for form in counts if counts[form]), key=lambda form: -counts[form]))


def _members(
    parts: tuple[KernelPart, ...], files: Iterable[Fetched], profile: Profile, store: Store
) -> Iterator[Member]:
    for part, file in zip(parts, files, strict=True):
        if isinstance(file, StoredImage):
            yield from kernel_members(_files(file, store), part.binary, part.tar, str(part))
            continue
        try:
            yield from find_kernel_format(part.kind).members(file, profile.names.oci)
        except OSError as error:
            raise InputError(f"{error.filename or file}: cannot be read: {error.strerror}") from error


def _files(image: StoredImage, store: Store) -> dict[str, ImageFile]:
    return {path: node for path, node in image_tree(image, store).items() if node.kind == "file"}


def _microcode(parts: tuple[KernelPart, ...], files: Iterable[Fetched], store: Store) -> tuple[str, int] | None:
    """Return the part of the kernel named as `ucode`.

    Raises:
        BuildError: it is missing, or not a cpio archive.
    """
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


def _release(found: KernelParts, path: str, image: bytes) -> str:
    """Return the output of uname -r: from the kernel, its tree or its modules' folder.

    Raises:
        BuildError: it is unknown, or they differ.
    """
    own = release_of(image) or found.tree_release
    others = [release for release in found.releases if release != own]
    if own and others:
        raise BuildError(f"{path} is of the release {own}, and the modules beside it are of {', '.join(others)}")
    if not own and len(found.releases) != 1:
        raise BuildError(
            f"the release of {path} cannot be determined: no version string, no lib/modules/RELEASE",
            "Add it as part of its build tree or its package.",
        )
    return own or found.releases[0]
