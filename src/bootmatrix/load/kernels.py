"""Custom kernels: `kernels.yml`, written by `bootmatrix kernels add`."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import yaml

from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import within_project
from bootmatrix.load.document import Document, Location, check_name, read_document
from bootmatrix.load.expand import RESERVED
from bootmatrix.load.lock import write_text
from bootmatrix.load.validate import suggest, validate
from bootmatrix.model import CustomKernel, Profile
from bootmatrix.model.base import NAME, Model, Name
from bootmatrix.source.kernel_formats import files_of, kernel_formats

HEADER = "# Custom kernels, written by `bootmatrix kernels add`. Paths are relative to this file.\n"


class OwnKernels(Model):
    """The file: kernels by name and architecture."""

    kernels: dict[Name, dict[Name, CustomKernel]]


def kernels_file() -> Path:
    """Return the path of kernels.yml: BOOTMATRIX_KERNELS, or in the current folder."""
    own = os.environ.get("BOOTMATRIX_KERNELS")
    return Path(own) if own else within_project(Path("kernels.yml"))


def load_custom_kernels(path: Path, profiles: Mapping[str, Profile]) -> dict[str, dict[str, CustomKernel]]:
    """Load custom kernels by name and architecture; empty without the file.

    Raises InputError if the file is invalid, or a name is taken by a kernel of the archive.
    """
    if not path.exists():
        return {}
    document = read_document(path)
    for name, by_arch in _entries(document.data):
        for arch in by_arch:
            if arch not in profiles:
                document.complain(("kernels", name, arch), f"unknown architecture {arch!r}.{suggest(arch, profiles)}")
            elif name in archive_names(profiles[arch]):
                document.complain(("kernels", name), f"{name!r} is the name of an archive kernel. Choose another")
    kernels = validate(document, OwnKernels).kernels
    for name, own in kernels.items():
        for arch, kernel in own.items():
            _check_parts(document, ("kernels", name, arch, "parts"), kernel)
    document.raise_faults()
    return kernels


def files_of_kernel(path: Path, name: str) -> Iterator[Path]:
    """Yield the files of a custom kernel, for any architecture.

    An invalid file names nothing.
    """
    with suppress(InputError):
        kernels = validate(read_document(path), OwnKernels).kernels
        parts = (part for kernel in kernels.get(name, {}).values() for part in kernel.parts if part.path)
        for part in parts:
            yield from files_of(part.kind, path.parent / part.path)


def _check_parts(document: Document, place: Location, kernel: CustomKernel) -> None:
    for index, part in enumerate(kernel.parts):
        if part.kind not in kernel_formats():
            document.complain(
                (*place, index, "kind"), f"unknown kind {part.kind!r}.{suggest(part.kind, kernel_formats())}"
            )
        if sum(map(bool, (part.path, part.url, part.image))) != 1:
            document.complain((*place, index), "set exactly one of 'path', 'url' and 'image'")


def _entries(data: Mapping[str, object]) -> list[tuple[str, dict[str, object]]]:
    kernels = data.get("kernels")
    entries = kernels.items() if isinstance(kernels, dict) else ()
    return [(name, by_arch) for name, by_arch in entries if isinstance(by_arch, dict)]


def archive_names(profile: Profile) -> set[str]:
    """Return the names of the archive's kernels on any machine of an architecture."""
    return {*profile.kernels, *(name for machine in profile.machines.values() for name in machine.kernels or {})}


def with_custom_kernels(profiles: Mapping[str, Profile], path: Path) -> dict[str, Profile]:
    """Add custom kernels to profiles. Raises InputError as their loader does."""
    own: dict[str, dict[str, CustomKernel]] = {}
    for name, by_arch in load_custom_kernels(path, profiles).items():
        for arch, kernel in by_arch.items():
            placed = kernel.model_copy(update={"folder": str(path.parent)})
            own.setdefault(arch, {})[name] = placed
    return {
        name: profile.model_copy(update={"own": own[name]}) if name in own else profile
        for name, profile in profiles.items()
    }


def save_custom_kernels(kernels: Mapping[str, Mapping[str, CustomKernel]], path: Path) -> None:
    """Write the file atomically.

    Raises InputError if it cannot be written, or a name in it is not valid UTF-8.
    """
    for part in (part for by_arch in kernels.values() for kernel in by_arch.values() for part in kernel.parts):
        check_name(part.path)
    data = {
        name: {
            arch: kernel.model_dump(mode="json", exclude={"folder"}, exclude_defaults=True)
            for arch, kernel in sorted(by_arch.items())
        }
        for name, by_arch in sorted(kernels.items())
        if by_arch
    }
    text = HEADER + yaml.safe_dump({"kernels": data}, sort_keys=False, allow_unicode=True)
    write_text(path, text)


def check_new(name: str, profile: Profile) -> None:
    """Check a custom kernel's name. Raises InputError if invalid or taken."""
    if not re.fullmatch(NAME, name):
        raise InputError(f"{name!r} is not a valid kernel name", "Use letters, digits and _ . + -, such as mine-6.18.")
    if name in RESERVED:
        raise InputError(f"{name!r} is a reserved kernel name", "Choose another name.")
    if name in archive_names(profile):
        raise InputError(f"{name!r} is the name of an archive kernel on {profile.name}", "Choose another name.")
