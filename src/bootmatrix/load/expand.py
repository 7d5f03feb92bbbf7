"""Expansion of a matrix into cells, before exclusions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from bootmatrix.errors import InputError
from bootmatrix.load.facts import ALL, ANY_KERNEL, Target, choose_pairs, no_kernel_left, with_facts
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import find_machine
from bootmatrix.load.spec import GUEST_SUFFIXES, MERGED, find_spec, spec_files, spec_name
from bootmatrix.load.validate import suggest
from bootmatrix.model import Cell, CustomKernel, Matrix, Pattern, Profile, Traits
from bootmatrix.model.guest_size import limit_bytes

OWN_KERNEL = "own"
"""The kernel name in cells of prebuilt guests with their own kernel."""
SPEC_KERNEL = "spec"
"""The name of the kernel whose image the spec names."""
USER_KERNEL, DOCKER_KERNEL = "user", "docker"
"""The kernel names in cells of the tiers of these names: the host's own, and the engine's."""
MAX_CELLS = 100_000
"""Limit of a matrix, whose file may be anybody's; repeated names count."""
RESERVED = {ALL, ANY_KERNEL, OWN_KERNEL, SPEC_KERNEL, USER_KERNEL, DOCKER_KERNEL}
Boards = Mapping[str, str]
"""Architectures of boards by their names, which are the kernel names in cells of the hardware tier."""
NO_BOARDS: Boards = MappingProxyType({})


def product(
    matrix: Matrix, base: Path, profiles: Mapping[str, Profile], boards: Boards = NO_BOARDS
) -> tuple[Cell, ...]:
    """Expand specs × arch × kernel plus `include`, without duplicates.

    A cell's machine may lack its kernel.

    Raises InputError if a spec or an architecture is unknown, or two specs have the same name.
    """
    specs = [find_spec(name, base) for name in matrix.specs]
    targets = with_facts(find_targets(matrix.arch, profiles), matrix)
    maker = _CellExpander(matrix, boards)
    _check_boards(matrix, targets, boards)
    cells = _bounded(cell for spec in specs for cell in maker.cells_without_guests(spec, targets))
    if "system" in matrix.tier:
        cells += _bounded(
            cell
            for spec in specs
            for cell in maker.cells(spec, targets, matrix.kernel, matrix.page_size, matrix.va_bits)
        )
    if (matrix.page_size or matrix.va_bits) and not cells:
        raise no_kernel_left(targets, matrix)
    for entry in matrix.include if "system" in matrix.tier else ():
        more_targets = find_targets([entry.arch], profiles)
        cells += maker.cells(find_spec(entry.spec, base), more_targets, [entry.kernel])
    _check_names(cells)
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.id, cell)
    return tuple(first.values())


def _bounded(cells: Iterable[Cell]) -> list[Cell]:
    """List cells. Raises InputError if there are more than any run can have."""
    listed = list(islice(cells, MAX_CELLS + 1))
    if len(listed) > MAX_CELLS:
        raise InputError(f"the matrix has more than {MAX_CELLS} cells", "Split it into several.")
    return listed


def _has_own_kernel(spec: Path) -> bool:
    if not spec.name.endswith(GUEST_SUFFIXES):
        return False
    own = load_spec(spec).own
    return own is not None and not own.takes_kernels


def find_targets(names: Iterable[str], profiles: Mapping[str, Profile]) -> list[Target]:
    """Find the machines that names mean, without duplicates.

    `all` is the default machine of each architecture, `ARCH/all` every machine of one, and `all/all` every machine.

    Raises InputError if an architecture or a machine is unknown.
    """
    targets: dict[tuple[str, str], Target] = {}
    for name in names:
        arch, _, machine = name.partition("/")
        every = profiles if arch == ALL else (arch,)
        for profile, board in (
            find_machine(profiles, profile if machine == ALL else _join(profile, machine)) for profile in every
        ):
            for target in profile.machines if machine == ALL else (board,):
                targets.setdefault((profile.name, target), (profile, target))
    return list(targets.values())


def _join(arch: str, machine: str) -> str:
    return f"{arch}/{machine}" if machine else arch


def has_kernel(cell: Cell, profiles: Mapping[str, Profile]) -> bool:
    """Return whether the cell's machine has its kernel."""
    return (
        cell.kernel in {OWN_KERNEL, SPEC_KERNEL}
        or cell.tier != "system"
        or cell.kernel in profiles[cell.arch].kernels_of(cell.machine)
    )


def _check_boards(matrix: Matrix, targets: Iterable[Target], boards: Boards) -> None:
    """Check the hardware tier's boards; none has the name of a kernel.

    Raises InputError if it is not so.
    """
    profiles = {profile.name: profile for profile, _ in targets}
    if "hardware" in matrix.tier and not any(arch in profiles for arch in boards.values()):
        known = ", ".join(f"{name} ({arch})" for name, arch in boards.items()) or "none"
        raise InputError(
            f"the hardware tier has no board of {', '.join(profiles)}; boards: {known}",
            "Name their file: --cluster hosts.yml, in which a board has 'via: ssh' and 'arch'.",
        )
    for name, arch in boards.items():
        kernels = {
            kernel
            for profile in profiles.values()
            for board in profile.machines
            for kernel in profile.kernels_of(board)
        }
        if name in RESERVED | kernels:
            raise InputError(f"the board {name!r} of {arch} has the name of a kernel", "Give it another name.")


def unknown_kernels(cells: Iterable[Cell], profiles: Mapping[str, Profile]) -> Iterator[tuple[str, str]]:
    """List kernel names that no machine of the cells has, with messages."""
    cells = tuple(cell for cell in cells if cell.tier == "system")
    available = {name for cell in cells for name in profiles[cell.arch].kernels_of(cell.machine)}
    for kernel in dict.fromkeys(cell.kernel for cell in cells):
        if kernel not in available | RESERVED:
            yield kernel, f"none of the selected architectures has a kernel {kernel!r}.{suggest(kernel, available)}"


def check_kernels(cells: Iterable[Cell], profiles: Mapping[str, Profile]) -> None:
    """Raise InputError if no machine of the cells has a kernel of this name."""
    if unknown := [message for _, message in unknown_kernels(cells, profiles)]:
        raise InputError("\n".join(unknown))


def matches(pattern: Pattern, cell: Cell, profiles: Mapping[str, Profile], base: Path) -> bool:
    """Return whether a pattern matches a cell; its paths are relative to `base`.

    An architecture without a machine matches all of its machines.

    Raises InputError if the pattern names a spec by a path that does not exist.
    """
    if pattern.kernel not in {None, ALL, cell.kernel}:
        return False
    if pattern.spec is not None and not _same_spec(pattern.spec, cell, base):
        return False
    if pattern.arch is None or pattern.arch == ALL:
        return True
    profile, machine = find_machine(profiles, pattern.arch)
    target = cell.machine if "@" in pattern.arch else cell.machine.partition("@")[0]
    return cell.arch == profile.name and (not {"/", "@"} & set(pattern.arch) or target == machine)


def _same_spec(name: str, cell: Cell, base: Path) -> bool:
    """Return whether a name means a cell's whole spec, not a merged file.

    The name is that of the cell's id, or the file names (`a.yml`, `a.yml+b.yml`) without folders. With a slash, it
    is a path as under the matrix's `specs`: then the folders must match too.
    """
    if name == cell.spec_name:
        return True
    files = spec_files(Path(cell.spec))
    if MERGED.join(file.name for file in files) != MERGED.join(Path(part).name for part in name.split(MERGED)):
        return False
    return "/" not in name or _resolved(spec_files(find_spec(name, base))) == _resolved(files)


def _resolved(files: Iterable[Path]) -> list[Path]:
    return [file.resolve() for file in files]


class _CellExpander:
    """Makes the cells of a matrix, with traits shared between them."""

    def __init__(self, matrix: Matrix, boards: Boards) -> None:
        self._matrix, self._boards = matrix, boards
        self._traits: dict[tuple[str, str, str], Traits | None] = {}

    def cells(
        self,
        spec: Path,
        targets: Iterable[Target],
        kernels: Sequence[str],
        page_sizes: Sequence[str] = (),
        widths: Sequence[str | int] = (),
    ) -> Iterator[Cell]:
        """Make a spec's cells, with the matrix's kernels or the guest's own."""
        file, name, is_whole = str(spec), spec_name(spec), _has_own_kernel(spec)
        for target in targets:
            own = [(target[1], OWN_KERNEL)]
            for board, kernel in own if is_whole else choose_pairs(kernels, page_sizes, widths, target):
                yield self._cell(file, name, (target[0], board), kernel)

    def cells_without_guests(self, spec: Path, targets: Iterable[Target]) -> Iterator[Cell]:
        """Make a spec's cells of tiers other than `system`, without machines.

        There is one of a tier, and in the hardware tier one for each board.
        """
        file, name = str(spec), spec_name(spec)
        for profile in {profile.name: profile for profile, _ in targets}.values():
            boards = (board for board, arch in self._boards.items() if arch == profile.name)
            kernels = {"user": (USER_KERNEL,), "docker": (DOCKER_KERNEL,), "hardware": boards}
            for tier in (tier for tier in kernels if tier in self._matrix.tier):
                for kernel in kernels[tier]:
                    cell = self._cell(file, name, (profile, profile.default_machine()), kernel)
                    yield cell.model_copy(update={"tier": tier, "boot": "cold"})

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
                roots=self._matrix.roots,
                get_limit=limit_bytes(self._matrix.get_limit) if self._matrix.get_limit else None,
                network=self._matrix.network,
                traits=self._traits[place],
                flaky=self._matrix.flaky,
                append=self._matrix.append,
                limit_s=self._matrix.limit,
                fail_on=self._matrix.fail_on,
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
        va_bits=profile.va_bits(machine, kernel),
        kernel_bits=profile.kernel_bits,
    )


def _check_names(cells: Iterable[Cell]) -> None:
    files: dict[str, str] = {}
    for cell in cells:
        first = files.setdefault(cell.spec_name, cell.spec)
        if first != cell.spec and Path(first).resolve() != Path(cell.spec).resolve():
            raise InputError(
                f"the specs {first} and {cell.spec} have the same name {cell.spec_name!r}",
                "Rename one of the files: a cell is identified by its spec's name.",
            )
