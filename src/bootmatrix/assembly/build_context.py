"""The inputs of a cell, before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.kernel.custom import find_kernel, find_spec_kernel
from bootmatrix.assembly.kernel.package import unpack_kernel
from bootmatrix.load.expand import OWN_KERNEL, SPEC_KERNEL
from bootmatrix.model import Cell, Kernel, Machine, Profile, Spec


@dataclass(frozen=True)
class BuildContext:
    """Specs by path, profiles by name, and a builder."""

    specs: Mapping[str, Spec]
    profiles: Mapping[str, Profile]
    builder: Builder

    def machine(self, cell: Cell) -> Machine:
        """Return the cell's machine."""
        return self.profiles[cell.arch].machine(cell.machine).sized(cell.size)


def fetch_kernel(cell: Cell, materials: BuildContext) -> Kernel | None:
    """Return the cell's kernel, unpacked in the store; None for a guest with its own."""
    if cell.kernel == OWN_KERNEL:
        return None
    profile, builder = materials.profiles[cell.arch], materials.builder
    if cell.kernel == SPEC_KERNEL:
        kernel = find_spec_kernel(materials.specs[cell.spec], profile, builder)
    else:
        kernel = find_kernel(cell.kernel, profile.kernels_of(cell.machine)[cell.kernel], profile, builder)
    unpack_kernel(kernel, builder.archive, builder.store)
    return kernel
