"""Notes of a plan: what cached kernels of its cells lack."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from bootmatrix.assembly.build_context import open_builder
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.kernel.custom import find_known
from bootmatrix.assembly.kernel.options import ANY_SPEC, lacking_line, missing_options
from bootmatrix.errors import BootmatrixError
from bootmatrix.load.expand import OWN_KERNEL, SPEC_KERNEL
from bootmatrix.model import Cell, Profile
from bootmatrix.model.run_config import SourceConfig
from bootmatrix.progress import NullObserver


def kernel_notes(cells: Iterable[Cell], profiles: Mapping[str, Profile], sources: SourceConfig) -> Iterator[str]:
    """Yield a line per kernel that lacks what a spec may need; no download."""
    first: dict[tuple[str, str, str], Cell] = {}
    for cell in cells:
        if cell.tier == "system" and cell.kernel not in {OWN_KERNEL, SPEC_KERNEL}:
            first.setdefault((cell.arch, cell.machine, cell.kernel), cell)
    with open_builder(replace(sources, offline=True), NullObserver()) as builder:
        for cell in first.values():
            try:
                line = _line(cell, profiles[cell.arch], builder)
            except BootmatrixError:
                continue  # it is not in the cache; a run will tell
            if line:
                yield line


def _line(cell: Cell, profile: Profile, builder: Builder) -> str:
    kernel = find_known(cell.kernel, profile.kernels_of(cell.machine)[cell.kernel], profile, builder)
    if not kernel or not kernel[1].config:
        return ""
    release, config = kernel[0], builder.store.verified(kernel[1].config).read_bytes()
    lacking = missing_options(config, profile.machine(cell.machine), *ANY_SPEC, release=release)
    return lacking_line(cell, release, lacking) if lacking else ""
