"""A build tree's kernels, and the project that tests them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bootmatrix.assembly.kernel.custom import recognise
from bootmatrix.assembly.kernel.decompress import boots
from bootmatrix.assembly.kernel.probe import form_of, page_kib_of
from bootmatrix.assembly.kernel.wrappers import start_of
from bootmatrix.errors import BootmatrixError, InputError
from bootmatrix.load.data_paths import arch_folders, named_files
from bootmatrix.load.facts import Target
from bootmatrix.load.kernels import check_new
from bootmatrix.load.profile import find_machine
from bootmatrix.model import KernelPart, Profile
from bootmatrix.qemu.host import available_cores
from bootmatrix.scaffold.kernel_test import NAME, KernelTestRequest, write_kernel_test
from bootmatrix.source.kernel_formats import kernel_formats, tree
from bootmatrix.workspace.trial import keep_project

RACING_CPUS = 2
"""CPUs of a guest unless the user says: a race needs two."""
FALLBACK = "tree"
"""Name of a kernel whose file's name cannot be one."""
ELF_START_BYTES = 1 << 20
"""Of an uncompressed kernel, which may have gigabytes of debugging information; its header tells what it is."""


def prepare_kernel_test(  # noqa: PLR0913  (as for a trial, and the targets)
    source: Path,
    request: KernelTestRequest,
    profiles: Mapping[str, Profile],
    *,
    arch: Sequence[str] = (),
    cache: Path | None = None,
    save: Path | None = None,
) -> tuple[Path, list[str]]:
    """Write the project of a kernel test; return its matrix, and notes.

    Args:
        source: a build tree, or another source of `bootmatrix kernels add`.
        request: what to test.
        profiles: the architectures by name.
        arch: targets; without any, all architectures of which the source has a kernel.
        cache: the cache, in which the project is kept; None for the user's.
        save: a new folder for the project instead.

    Raises InputError if the source is not a kernel, or not one of these targets; or the request is invalid.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder", "Name a kernel's build tree, after make.")
    kind = next((name for name, form in kernel_formats().items() if form.recognises(source)), None)
    if kind is None:
        raise InputError(f"{source}: not a kernel", "Name a kernel's build tree, after make, or a file of one.")
    found = list(_architectures(source, kind, profiles))
    targets = arch or [profile.name for profile in found]
    machines = [find_machine(profiles, target) for target in targets]
    _check_machines(source, machines, found)
    chosen = {profile.name: profile for profile, _ in machines}
    name = _kernel_name(source, chosen.values())
    part = {"kind": kind, "path": str(source.resolve())}
    page_kib = page_kib_of((source / tree.CONFIG).read_bytes()) if kind == "tree" else 4
    entry: dict[str, Any] = {"parts": [part], **({"page_kib": page_kib} if page_kib != 4 else {})}
    size = request.keys.get("resources", {})
    if not size.get("cpus") and _can_race(machines):
        request = replace(request, keys={**request.keys, "resources": {**size, "cpus": RACING_CPUS}})
    matrix, notes = keep_project(
        NAME, lambda draft: write_kernel_test(draft, request, name, dict.fromkeys(chosen, entry), targets), cache, save
    )
    if kind == "tree" and tree.is_outdated(source):
        notes.append(f"{source / tree.CONFIG} is newer than the kernel: run make, or this is not what it configures")
    return matrix, notes


def _can_race(machines: Iterable[Target]) -> bool:
    """Return whether this host has cores for two CPUs, and all machines take as many."""
    boards = [profile.machine(board) for profile, board in machines]
    return available_cores() >= RACING_CPUS and all((board.max_cpus or board.cpus) >= RACING_CPUS for board in boards)


def _check_machines(source: Path, machines: Iterable[Target], found: Sequence[Profile]) -> None:
    if not found:
        raise InputError(
            f"{source}: no kernel of a known architecture", "Has make finished? 'bootmatrix arch' lists them."
        )
    known = {profile.names.debian for profile in found}
    for profile, board in machines:
        if known.isdisjoint(profile.kernel_architectures(board)):
            has = ", ".join(profile.name for profile in found)
            raise InputError(f"{source}: not a kernel for {profile.name}: it is one for {has}")


def _architectures(source: Path, kind: str, profiles: Mapping[str, Profile]) -> Iterator[Profile]:
    """Yield architectures of a source's kernel, by its first bytes.

    Raises BootmatrixError if it is damaged, or may be for several.
    """
    shipped = named_files(arch_folders()[:1])
    candidates = sorted(profiles.values(), key=lambda profile: profile.name not in shipped)
    if kind != "tree":
        yield recognise((KernelPart(kind=kind, path=str(source)),), (source,), candidates)
        return
    known: set[str] = set()
    for image in tree.find_images(source):
        for profile in candidates:
            if profile.names.debian not in known and not profile.borrows_kernels() and _is_for(image, profile):
                known.add(profile.names.debian)
                yield profile


def _is_for(image: Path, profile: Profile) -> bool:
    """Return whether a machine of an architecture boots an image."""
    with image.open("rb") as file:
        data = file.read(ELF_START_BYTES if image.name == "vmlinux" else -1)
    try:
        form = form_of(start_of(data), profile.kernel_magic)
    except BootmatrixError:
        return False
    return form is not None and any(boots(machine.kernel_form, form) for machine in profile.machines.values())


def _kernel_name(source: Path, profiles: Iterable[Profile]) -> str:
    """Return a kernel's name: its folder's or file's, unless taken."""
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", source.resolve().name).strip("-.+_")[:40] or FALLBACK
    try:
        for profile in profiles:
            check_new(name, profile)
    except InputError:
        return FALLBACK
    return name
