"""The cells that a matrix names, before anything is taken out of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import find_machine
from bootmatrix.load.spec import GUEST_SUFFIXES, MERGED, find_spec, spec_files, spec_name
from bootmatrix.load.validate import suggest
from bootmatrix.model import Cell, CustomKernel, Matrix, Pattern, Profile, Traits

ALL = "all"
OWN_KERNEL = "own"
"""The kernel's name in cells of guests that bring their own."""
SPEC_KERNEL = "spec"
"""The name of the kernel whose image a spec itself names."""
RESERVED = {ALL, OWN_KERNEL, SPEC_KERNEL}
Target = tuple[Profile, str]
"""A profile and the name of one of its machines."""


def product(matrix: Matrix, base: Path, profiles: Mapping[str, Profile]) -> tuple[Cell, ...]:
    """Specs × arch × kernel, then what `include` adds, each once. A cell's kernel need not be one of its machine's.

    Raises:
        InputError: a spec or an architecture is not known, or two specs have the same name.
    """
    specs = [find_spec(name, base) for name in matrix.specs]
    targets = find_targets(matrix.arch, profiles)
    maker = _CellExpander(matrix)
    cells = [cell for spec in specs for cell in maker.cells(spec, targets, matrix.kernel)]
    for more in matrix.include:
        more_targets = find_targets([more.arch], profiles)
        cells += maker.cells(find_spec(more.spec, base), more_targets, [more.kernel])
    _check_names(cells)
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.id, cell)
    return tuple(first.values())


def kernels_of(spec: Path, names: Iterable[str], target: Target) -> list[str]:
    """Kernel names for a spec: those of the matrix, unless it is a guest that brings its own."""
    if spec.name.endswith(GUEST_SUFFIXES):
        own = load_spec(spec).own
        if own and not own.takes_kernels:
            return [OWN_KERNEL]
    return find_kernels(names, target)


def find_targets(names: Iterable[str], profiles: Mapping[str, Profile]) -> list[Target]:
    """The machines that names mean, each once.

    `all` is the default machine of each architecture, `ARCH/all` every machine of one, and `all/all` every machine.

    Raises:
        InputError: an architecture or a machine is not known.
    """
    found: dict[tuple[str, str], Target] = {}
    for name in names:
        arch, _, machine = name.partition("/")
        every = profiles if arch == ALL else (arch,)
        for profile, board in (find_machine(profiles, one if machine == ALL else _join(one, machine)) for one in every):
            for target in profile.machines if machine == ALL else (board,):
                found.setdefault((profile.name, target), (profile, target))
    return list(found.values())


def _join(arch: str, machine: str) -> str:
    return f"{arch}/{machine}" if machine else arch


def find_kernels(names: Iterable[str], target: Target) -> list[str]:
    """Kernel names, where `all` is every one that the machine has."""
    profile, machine = target
    return list(
        dict.fromkeys(one for name in names for one in (profile.kernels_of(machine) if name == ALL else [name]))
    )


def has_kernel(cell: Cell, profiles: Mapping[str, Profile]) -> bool:
    """Whether the cell's machine has its kernel."""
    return cell.kernel in {OWN_KERNEL, SPEC_KERNEL} or cell.kernel in profiles[cell.arch].kernels_of(cell.machine)


def unknown_kernels(cells: Iterable[Cell], profiles: Mapping[str, Profile]) -> Iterator[tuple[str, str]]:
    """Kernel names that none of the cells' machines has, each with the message about it."""
    cells = tuple(cells)
    known = {name for cell in cells for name in profiles[cell.arch].kernels_of(cell.machine)}
    for kernel in dict.fromkeys(cell.kernel for cell in cells):
        if kernel not in known | RESERVED:
            yield kernel, f"none of the architectures chosen has a kernel {kernel!r}.{suggest(kernel, known)}"


def matches(pattern: Pattern, cell: Cell, profiles: Mapping[str, Profile], base: Path) -> bool:
    """Return whether a pattern means a cell; its paths are relative to `base`.

    An architecture without a machine means all of its machines.

    Raises:
        InputError: the pattern names a spec by a path at which there is none.
    """
    if pattern.kernel not in {None, ALL, cell.kernel}:
        return False
    if pattern.spec is not None and not _same_spec(pattern.spec, cell, base):
        return False
    if pattern.arch is None or pattern.arch == ALL:
        return True
    profile, machine = find_machine(profiles, pattern.arch)
    wanted = cell.machine if "@" in pattern.arch else cell.machine.partition("@")[0]
    return cell.arch == profile.name and (not {"/", "@"} & set(pattern.arch) or wanted == machine)


def _same_spec(name: str, cell: Cell, base: Path) -> bool:
    """Return whether a name means a cell's spec: always the whole of it, and never one of the files merged in it.

    It is the name in the cell's id, or the names of the files (`a.yml`, `a.yml+b.yml`) without folders; or, with a
    slash in it, what the matrix itself would have under `specs`: then the folders have to be the same too.
    """
    if name == cell.spec_name:
        return True
    files = spec_files(Path(cell.spec))
    if MERGED.join(file.name for file in files) != MERGED.join(Path(one).name for one in name.split(MERGED)):
        return False
    return "/" not in name or _resolved(spec_files(find_spec(name, base))) == _resolved(files)


def _resolved(files: Iterable[Path]) -> list[Path]:
    return [file.resolve() for file in files]


class _CellExpander:
    """Makes the cells of a matrix; traits that many of them have are one value."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._traits: dict[tuple[str, str, str], Traits | None] = {}

    def cells(self, spec: Path, targets: Iterable[Target], kernels: Sequence[str]) -> Iterator[Cell]:
        """A spec's cells."""
        file, name = str(spec), spec_name(spec)
        for target in targets:
            for kernel in kernels_of(spec, kernels, target):
                yield self._cell(file, name, target, kernel)

    def _cell(self, file: str, name: str, target: Target, kernel: str) -> Cell:
        profile, machine = target
        place = (profile.name, machine, kernel)
        if place not in self._traits:
            self._traits[place] = _traits(profile, machine, kernel)
        try:
            return Cell(
                spec=file,
                spec_name=name,
                arch=profile.name,
                machine=machine,
                machine_is_default=machine.partition("@")[0] == profile.default_machine(),
                kernel=kernel,
                timeouts=self._matrix.timeouts,
                retries=self._matrix.retries,
                boot=self._matrix.boot,
                traits=self._traits[place],
                flaky=self._matrix.flaky,
            )
        except ValueError as error:
            raise InputError(f"{kernel!r} cannot be the name of a kernel") from error


def _traits(profile: Profile, machine: str, kernel: str) -> Traits | None:
    source = profile.kernels_of(machine).get(kernel)
    if source is None:
        return None
    version = source.release if isinstance(source, CustomKernel) else source.version
    return Traits(
        bits=profile.bits,
        endian=profile.endian,
        page_kib=source.page_kib,
        kernel_version=version or kernel,
    )


def _check_names(cells: Iterable[Cell]) -> None:
    files: dict[str, str] = {}
    for cell in cells:
        first = files.setdefault(cell.spec_name, cell.spec)
        if first != cell.spec and Path(first).resolve() != Path(cell.spec).resolve():
            raise InputError(
                f"the specs {first} and {cell.spec} would both be called {cell.spec_name!r}",
                "Rename one of the files: a cell is known by its spec's name.",
            )
