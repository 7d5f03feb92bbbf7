"""Custom kernels: imported from any supported form, and identified by digests."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bootmatrix.assembly.image.builder import Builder, foreign_image
from bootmatrix.assembly.kernel.import_kernel import (
    Fetched,
    custom_kernel,
    digest_of,
    digest_of_part,
    import_kernel,
    named,
)
from bootmatrix.assembly.kernel.kernel_parts import NAMED, PLACE
from bootmatrix.assembly.kernel.options import ANY_SPEC, MissingOption, missing_options
from bootmatrix.assembly.kernel.package import KernelFiles, kernel_key, known_files
from bootmatrix.assembly.kernel.probe import form_of, page_kib_of
from bootmatrix.assembly.kernel.wrappers import PEEK_BYTES, describe, start_of, unwrapped
from bootmatrix.errors import BuildError, InputError
from bootmatrix.model import (
    AnyKernel,
    CustomKernel,
    Kernel,
    KernelPart,
    KernelSource,
    Profile,
    RepositoryKernel,
    Spec,
    StoredImage,
)
from bootmatrix.model.image import RECIPE_KIND
from bootmatrix.source import image_sources
from bootmatrix.source.kernel_formats import find_kernel_format
from bootmatrix.source.lock_recorder import kernel_key as locked_name
from bootmatrix.source.replies import NotFound
from bootmatrix.store import Store

LOCK_FLAVOUR = "own"


def find_kernel(name: str, source: AnyKernel, profile: Profile, builder: Builder) -> Kernel:
    """Find the kernel for a name of a profile, of a custom kernel or of a catalogue.

    Raises BootmatrixError if the kernel is unavailable; the class tells the cause.
    """
    if isinstance(source, KernelSource):
        return builder.archive.kernel(name, source, profile.kernel_architecture(source))
    if isinstance(source, RepositoryKernel):
        return _find_catalogued(name, source, profile, builder)
    return find_own(name, source, profile, builder)


def _find_catalogued(name: str, source: RepositoryKernel, profile: Profile, builder: Builder) -> Kernel:
    """Find another distribution's kernel: the lock's, or the newest one."""
    key, parts = _catalogued_parts(name, source, profile, builder)
    try:
        return find_own(name, CustomKernel(parts=parts, page_kib=source.page_kib), profile, builder, key)
    except NotFound as error:
        raise builder.archive.repositories.gone(source, profile.names.debian, error) from error


def _catalogued_parts(
    name: str, source: RepositoryKernel, profile: Profile, builder: Builder
) -> tuple[str, tuple[KernelPart, ...]]:
    """Return a kernel's name in a lock, and its parts."""
    debian = profile.names.debian
    key = locked_name(debian, source.distribution, name)
    locked = builder.archive.locked_parts(key)
    return key, locked or source.pinned or builder.archive.repositories.parts(source, debian)


def find_spec_kernel(spec: Spec, profile: Profile, builder: Builder) -> Kernel:
    """Find the kernel in the image of a spec's `kernel` section.

    Raises BuildError if the spec names no image, or the image has no kernel for the architecture; InfraError if the
    image cannot be fetched.
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

    Raises InputError if a source is missing, or has changed since the kernel was added; BuildError if it has no kernel
    for the architecture, or a different one from the lock's; InfraError if it cannot be downloaded.
    """
    parts, files = own.parts, None
    key = key or locked_name(profile.names.debian, LOCK_FLAVOUR, name)
    if all(part.sha256 for part in parts) and _known(name, parts, profile, builder.store):
        if not builder.archive.locked_parts(key):
            _check_unchanged(parts, own.folder)
    else:
        files = [_fetch(part, own.folder, profile, builder) for part in parts]
        parts = tuple(_pinned(part, file) for part, file in zip(parts, files, strict=True))
    kernel = _known(name, parts, profile, builder.store)
    if kernel is None:
        kernel = import_kernel(name, parts, files or (), profile, builder.store)
    return builder.archive.own_kernel(key, kernel)


def _check_unchanged(parts: Iterable[KernelPart], folder: str) -> None:
    """Check that a cached kernel's source files, if any, are unchanged.

    Raises InputError if they have changed: the old kernel would be tested.
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
    kernel = custom_kernel(name, "", parts, profile)
    files = _known_files(kernel, profile, store)
    return custom_kernel(name, files.release, parts, profile) if files else None


def _known_files(kernel: Kernel, profile: Profile, store: Store) -> KernelFiles | None:
    """Return files in the store, if they are a kernel by the profile.

    Another profile, which may be anybody's, may have chosen another of its files.
    """
    files = known_files(kernel_key(kernel), store)
    if files is None:
        return None
    with store.blob(files.image).open("rb") as file:
        form = form_of(file.read(PEEK_BYTES), profile.kernel_magic)
    return files if form == files.form else None


def find_known(name: str, source: AnyKernel, profile: Profile, builder: Builder) -> tuple[str, KernelFiles] | None:
    """Return release and files of a kernel in the store, None without them.

    Raises BootmatrixError if its name cannot be resolved.
    """
    if isinstance(source, KernelSource):
        kernel = find_kernel(name, source, profile, builder)
        files = known_files(kernel_key(kernel), builder.store)
    else:
        if isinstance(source, CustomKernel):
            parts = source.parts
        else:
            parts = _catalogued_parts(name, source, profile, builder)[1]
        if not all(part.sha256 for part in parts):
            return None
        kernel = custom_kernel(name, "", parts, profile)
        files = _known_files(kernel, profile, builder.store)
    return (files.release or kernel.release, files) if files else None


class AddedKernel(NamedTuple):
    """A new kernel, its architecture, and what its configuration lacks."""

    profile: Profile
    kernel: CustomKernel
    lacking: tuple[MissingOption, ...]


def add_custom_kernel(
    name: str, parts: tuple[KernelPart, ...], folder: Path, profiles: Sequence[Profile], builder: Builder
) -> AddedKernel:
    """Import a new custom kernel into the store, and determine its architecture.

    Raises InputError if a source is missing; BuildError if it is damaged, or not for exactly one of the architectures;
    InfraError if it cannot be downloaded.
    """
    if len(profiles) > 1 and any(part.image for part in parts):
        raise BuildError(
            f"{', '.join(map(str, parts))} may be an image for several architectures", "Name it with --arch."
        )
    files = [_fetch(part, str(folder), profiles[0], builder) for part in parts]
    profile = profiles[0] if len(profiles) == 1 else recognise(parts, files, profiles)
    pinned = tuple(_pinned(part, file) for part, file in zip(parts, files, strict=True))
    kernel = import_kernel(name, pinned, files, profile, builder.store)
    kept_files = known_files(kernel_key(kernel), builder.store)
    config = builder.store.verified(kept_files.config).read_bytes() if kept_files and kept_files.config else b""
    added = CustomKernel(parts=pinned, release=kernel.release, page_kib=page_kib_of(config), folder=str(folder))
    machine = profile.machine(profile.default_machine())
    lacking = missing_options(config, machine, *ANY_SPEC, release=kernel.release) if config else ()
    return AddedKernel(profile, added, lacking)


def recognise(parts: Iterable[KernelPart], files: Iterable[Fetched], profiles: Sequence[Profile]) -> Profile:
    """Return the first architecture whose kernels begin with these bytes."""
    hint, strange, has_kernel = "Name it with --arch.", ("", ""), False
    for part, file in zip(parts, files, strict=True):
        if part.kind == "oci" or isinstance(file, StoredImage):
            raise BuildError(f"{file} may be an image for several architectures", hint)
        for member in find_kernel_format(part.kind).members(file, ""):
            if not PLACE.search(member.path):
                continue
            data, has_kernel = member.read(), True
            words = describe(data)
            strange = strange if strange[0] else words
            if words[0].startswith("a program"):
                continue
            with named(parts):
                data = _start(data, is_named=bool(NAMED.search(member.path)))
            fitting = [
                profile for profile in profiles if form_of(data, profile.kernel_magic) and not profile.borrows_kernels()
            ]
            if len({profile.names.debian for profile in fitting}) == 1:
                return fitting[0]
            if fitting:
                raise BuildError(f"{file} may be for {', '.join(profile.name for profile in fitting)}", hint)
    what = f"this is {strange[0] or 'not a kernel of a known architecture'}" if has_kernel else "it contains no kernel"
    raise BuildError(f"{', '.join(map(str, parts))}: {what}", strange[1])


def _start(data: bytes, *, is_named: bool) -> bytes:
    """Return the first bytes of a file's content.

    Raises BuildError if it has a kernel's name, and is damaged, or wrapped in an unsupported form.
    """
    return unwrapped(data, PEEK_BYTES) if is_named else start_of(data)


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
    return _pin(part, digest_of_part(part, fetched))


def _pin(part: KernelPart, digest: str) -> KernelPart:
    if part.sha256 not in {None, digest}:
        raise InputError(
            f"{part} has changed: its SHA-256 is {digest}, expected {part.sha256}",
            "Add it again with `bootmatrix kernels add`; with --follow, each run takes the current content.",
        )
    return part.model_copy(update={"sha256": digest})
