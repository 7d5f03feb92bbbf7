"""Specs × machines × kernels to cells, and to skips with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.product import ALL, find_targets, has_kernel, matches, product, unknown_kernels
from bootmatrix.model import Cell, Matrix, Plan, Profile, Skip

DEFAULT_KERNEL = "6.1"


def plan(matrix: Matrix, base: Path, profiles: Mapping[str, Profile]) -> Plan:
    """The cells of a matrix, in its order; paths of specs are relative to `base`.

    Raises:
        InputError: a spec, architecture or kernel that is not known, or no cell at all.
    """
    cells = product(matrix, base, profiles)
    unknown = [message for _, message in unknown_kernels(cells, profiles)]
    if unknown:
        raise InputError("\n".join(unknown))
    skips = {cell.id: reason for cell in cells if (reason := _why_not(cell, matrix, profiles))}
    return Plan(
        cells=tuple(_expecting(cell, matrix, profiles) for cell in cells if cell.id not in skips),
        skips=tuple(Skip(cell=cell, reason=skips[cell.id]) for cell in cells if cell.id in skips),
    )


def _why_not(cell: Cell, matrix: Matrix, profiles: Mapping[str, Profile]) -> str:
    for pattern in matrix.exclude:
        if matches(pattern, cell, profiles):
            return pattern.reason
    if not has_kernel(cell, profiles):
        known = ", ".join(profiles[cell.arch].kernels_of(cell.machine))
        return f"the profile {cell.target} has no kernel {cell.kernel!r}; it has {known}"
    return ""


def _expecting(cell: Cell, matrix: Matrix, profiles: Mapping[str, Profile]) -> Cell:
    reasons = [pattern.reason for pattern in matrix.expect if matches(pattern, cell, profiles)]
    return cell.model_copy(update={"expect": "; ".join(reasons)}) if reasons else cell


def matrix_from_arguments(
    specs: Sequence[str], arch: Sequence[str], kernel: Sequence[str], profiles: Mapping[str, Profile]
) -> Matrix:
    """The matrix that a command line without a file for it means: all architectures, one kernel.

    Raises:
        InputError: an architecture that is not known.
    """
    find_targets(arch, profiles)
    return Matrix(specs=tuple(specs), arch=tuple(arch) or (ALL,), kernel=tuple(kernel) or (DEFAULT_KERNEL,))


def narrowed(matrix: Matrix, arch: Iterable[str], kernel: Iterable[str], profiles: Mapping[str, Profile]) -> Matrix:
    """A matrix with other architectures or kernels in the place of its own; what is not given stays.

    What `include` adds stays where it fits what was asked for.

    Raises:
        InputError: an architecture that is not known.
    """
    archs, kernels = tuple(arch), tuple(kernel)
    wanted = {(profile.name, machine) for profile, machine in find_targets(archs, profiles)}
    kept = tuple(
        more
        for more in matrix.include
        if (not kernels or more.kernel in kernels or ALL in kernels)
        and all(
            (profile.name, machine) in wanted or not wanted for profile, machine in find_targets([more.arch], profiles)
        )
    )
    return matrix.model_copy(update={"include": kept, "arch": archs or matrix.arch, "kernel": kernels or matrix.kernel})
