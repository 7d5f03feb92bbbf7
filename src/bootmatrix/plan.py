"""Specs × machines × kernels to cells, and to skips with their reasons."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from bootmatrix.errors import HostError, InputError, QemuMissing, QemuTooOld
from bootmatrix.load.expand import (
    NO_BOARDS,
    SPEC_KERNEL,
    Boards,
    check_kernels,
    find_targets,
    has_kernel,
    matches,
    product,
)
from bootmatrix.load.facts import ALL, DEFAULT_KERNEL, Limit, find_limits
from bootmatrix.load.merge import load_spec
from bootmatrix.load.qemu_args import parse_qemu_args
from bootmatrix.model import Cell, GuestSize, ImageOverride, Machine, Matrix, Plan, Profile, Skip, Spec
from bootmatrix.model.guest_size import parse_size
from bootmatrix.model.spec import RESOURCES

QemuFault = Callable[[Machine], HostError | None]
"""Returns why a machine's QEMU cannot be used on this host; empty if it can."""


def plan(
    matrix: Matrix,
    base: Path,
    profiles: Mapping[str, Profile],
    qemu_fault: QemuFault = lambda _machine: None,
    boards: Boards = NO_BOARDS,
) -> Plan:
    """Plan a matrix's cells in its order; spec paths are from `base`.

    A machine that needs a newer QEMU than the host's is skipped. One whose QEMU is not installed is skipped only if it
    is selected by `all` alone; an explicit selection is an error. `boards` are architectures of boards by their names.

    Raises InputError if the spec, architecture or kernel is unknown, or no cell is left.
    """
    cells = product(matrix, base, profiles, boards)
    check_kernels(cells, profiles)
    named = _named(matrix, profiles)
    specs = {path: load_spec(Path(path)) for path in dict.fromkeys(cell.spec for cell in cells)}
    cells = tuple(_sized(cell, specs[cell.spec], matrix, base, profiles) for cell in cells)
    limits = {path: find_limits(spec, profiles) for path, spec in specs.items()}
    asked = {cell.spec for cell in cells if cell.kernel == SPEC_KERNEL}
    with_kernel = {path for path in asked if specs[path].kernel.image}
    if asked and not with_kernel:
        raise InputError(
            f"no spec here names a kernel image, which the kernel {SPEC_KERNEL!r} would be: {', '.join(sorted(asked))}",
            "Name it in the spec, as kernel: {image: …}, or another kernel.",
        )
    skips = {
        cell.id: reason
        for cell in cells
        if (
            reason := _excluded(cell, matrix, profiles, base)
            or _limited(cell, limits[cell.spec])
            or _without_kernel(cell, profiles, with_kernel)
            or profiles[cell.arch].machine(cell.machine).size_fault(cell.size)
        )
    }
    for cell in cells:
        is_booted = cell.id not in skips and cell.tier == "system"
        fault = qemu_fault(profiles[cell.arch].machine(cell.machine)) if is_booted else None
        is_named = (cell.arch, cell.machine) in named
        if isinstance(fault, QemuTooOld) or (isinstance(fault, QemuMissing) and not is_named):
            skips[cell.id] = f"{fault.message}. {fault.hint}" if fault.hint else fault.message
    return Plan(
        cells=tuple(_detailed(cell, matrix, base, profiles) for cell in cells if cell.id not in skips),
        skips=tuple(Skip(cell=cell, reason=skips[cell.id]) for cell in cells if cell.id in skips),
        images=tuple(
            ImageOverride(pattern=name, source=source, folder=str(base)) for name, source in matrix.images.items()
        ),
        notes=matrix.notes,
    )


MAX_REASONS = 5
"""Reasons for skips that an error names."""


def check_tests(plan: Plan, specs: Mapping[str, Spec], *, allow_empty: bool = False) -> None:
    """Refuse a plan that tests nothing.

    Raises InputError if no cell is left to run, unless `allow_empty` or in a shard; or a spec has no container that
    could fail.
    """
    is_shard = plan.part is not None and bool(plan.part.whole)
    if not (plan.cells or allow_empty or is_shard):
        reasons = tuple(dict.fromkeys(f"\n  {skip.cell.id}: {skip.reason}" for skip in plan.skips))
        more = f"\n  and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
        raise InputError(
            f"nothing would be tested: no cell is left to run, {len(plan.skips)} are skipped"
            f"{':' if reasons else ''}{''.join(reasons[:MAX_REASONS])}{more}",
            "Change what is excluded or asked for; or give --allow-empty, if that is meant.",
        )
    for cell in plan.cells:
        if not cell.proof:
            check_spec(cell.spec, specs[cell.spec])


def check_spec(path: str, spec: Spec) -> None:
    """Refuse a spec that tests nothing. Raises InputError if it has no container."""
    if not (spec.own or spec.containers):
        raise InputError(
            f"{path}: nothing would be tested: it has no container under onboot, services or onshutdown",
            "Add one. 'onboot' decides by its exit status, a service with 'bootmatrix.check' too.",
        )


def _excluded(cell: Cell, matrix: Matrix, profiles: Mapping[str, Profile], base: Path) -> str:
    """Return why the matrix excludes a cell; empty if it does not."""
    return next((pattern.reason for pattern in matrix.exclude if matches(pattern, cell, profiles, base)), "")


def _limited(cell: Cell, limits: Iterable[Limit]) -> str:
    """Return why a spec does not support the cell's architecture; empty if it does."""
    for limit in limits:
        if cell.arch not in limit.archs:
            return f"{limit.container} of this spec is for {', '.join(limit.archs)} only"
    return ""


def _without_kernel(cell: Cell, profiles: Mapping[str, Profile], with_kernel: Collection[str]) -> str:
    """Return why a cell has no kernel; empty if it has one.

    `with_kernel` are specs with a kernel image.
    """
    if cell.kernel == SPEC_KERNEL and cell.spec not in with_kernel:
        return "the spec names no kernel image of its own"
    if not has_kernel(cell, profiles):
        names = ", ".join(profiles[cell.arch].kernels_of(cell.machine))
        return f"the profile {cell.target} has no kernel {cell.kernel!r}; it has {names}"
    return ""


def _sized(cell: Cell, spec: Spec, matrix: Matrix, base: Path, profiles: Mapping[str, Profile]) -> Cell:
    """Set a cell's memory and CPUs: the matrix's, else its containers'."""
    size = GuestSize()
    for container in spec.containers:
        if text := (container.annotations or {}).get(RESOURCES):
            size = size.largest(parse_size(text))
    for rule in matrix.resources:
        if matches(rule, cell, profiles, base):
            size = rule.size.over(size)
    return cell.model_copy(update={"size": size}) if size != GuestSize() else cell


def _named(matrix: Matrix, profiles: Mapping[str, Profile]) -> set[tuple[str, str]]:
    """Return machines that the matrix names explicitly."""
    archs = (*matrix.arch, *(more.arch for more in matrix.include))
    targets = find_targets([arch for arch in archs if ALL not in arch.split("/")], profiles)
    return {(profile.name, machine) for profile, machine in targets}


def _detailed(cell: Cell, matrix: Matrix, base: Path, profiles: Mapping[str, Profile]) -> Cell:
    """Apply the matrix's further keys to a cell."""
    texts = [entry.args for entry in matrix.qemu_args if matches(entry, cell, profiles, base)]
    words = tuple(word for text in texts for word in parse_qemu_args(text, base))
    return _expecting(cell.model_copy(update={"qemu_args": words}) if words else cell, matrix, profiles, base)


def _expecting(cell: Cell, matrix: Matrix, profiles: Mapping[str, Profile], base: Path) -> Cell:
    reasons = [entry.reason for entry in matrix.xfail if matches(entry, cell, profiles, base)]
    proof = next((entry.proof for entry in matrix.console if matches(entry, cell, profiles, base)), None)
    return cell.model_copy(update={"expect": "; ".join(reasons), "proof": proof}) if reasons or proof else cell


def matrix_from_arguments(
    specs: Sequence[str], arch: Sequence[str], kernel: Sequence[str], profiles: Mapping[str, Profile]
) -> Matrix:
    """Build a matrix from command line arguments; the default is all architectures.

    Raises InputError if the architecture is unknown.
    """
    find_targets(arch, profiles)
    return Matrix(specs=tuple(specs), arch=tuple(arch) or (ALL,), kernel=tuple(kernel) or (DEFAULT_KERNEL,))


def narrowed(matrix: Matrix, arch: Iterable[str], kernel: Iterable[str], profiles: Mapping[str, Profile]) -> Matrix:
    """Replace a matrix's architectures or kernels, unless empty.

    Cells of `include` stay if they match.

    Raises InputError if the architecture is unknown.
    """
    archs, kernels = tuple(arch), tuple(kernel)
    targets = {(profile.name, machine) for profile, machine in find_targets(archs, profiles)}
    kept = tuple(
        more
        for more in matrix.include
        if (not kernels or more.kernel in kernels or ALL in kernels)
        and all(
            (profile.name, machine) in targets or not targets
            for profile, machine in find_targets([more.arch], profiles)
        )
    )
    return matrix.model_copy(update={"include": kept, "arch": archs or matrix.arch, "kernel": kernels or matrix.kernel})


def verifying(plan: Plan, count: int, may_fork: Callable[[Cell], bool]) -> Plan:
    """Mark `count` forkable cells, spread over the plan, to boot both ways."""
    able = [index for index, cell in enumerate(plan.cells) if may_fork(cell)]
    number = min(count, len(able))
    chosen = {able[place * len(able) // number] for place in range(number)}
    cells = (
        cell.model_copy(update={"verify": True}) if index in chosen else cell for index, cell in enumerate(plan.cells)
    )
    return plan.model_copy(update={"cells": tuple(cells)})
