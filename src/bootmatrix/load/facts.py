"""Choice of machines and kernels by facts, and by containers' limits."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bootmatrix.errors import InputError
from bootmatrix.load.profile import find_machine
from bootmatrix.load.validate import suggest
from bootmatrix.model import AnyKernel, CustomKernel, Matrix, Profile, RepositoryKernel, Spec
from bootmatrix.model.spec import ARCH

ALL = "all"
DEFAULT_KERNEL = "6.1"
ANY_KERNEL = "default"
"""The kernel name that means DEFAULT_KERNEL, or the first kernel of machines that lack it."""
Target = tuple[Profile, str]
"""A profile and the name of one of its machines."""


def with_facts(targets: Iterable[Target], matrix: Matrix) -> list[Target]:
    """Keep the machines of a matrix's facts. Raises InputError if none is."""
    every = list(targets)
    kept = [target for target in every if _fits(target[0], matrix)]
    if not kept and every:
        words = [f"{bits} bits" for bits in matrix.bits], [f"{bits}-bit kernels" for bits in matrix.kernel_bits]
        facts = ", ".join([*words[0], *words[1], *(f"{order} endian" for order in matrix.endian)])
        names = ", ".join(dict.fromkeys(profile.name for profile, _ in every))
        raise InputError(f"no architecture is left: none of {names} has {facts}", "Choose others with --arch.")
    return list(_with_cpus(kept, matrix.cpu)) if matrix.cpu else kept


def _fits(profile: Profile, matrix: Matrix) -> bool:
    facts: Iterable[tuple[object, Collection[object]]] = (
        (profile.bits, matrix.bits),
        (profile.kernel_bits or profile.bits, matrix.kernel_bits),
        (profile.endian, matrix.endian),
    )
    return all(not wanted or value in wanted for value, wanted in facts)


def _with_cpus(targets: Sequence[Target], names: Sequence[str]) -> Iterator[Target]:
    """Replace machines by their CPU models; `all` is every one of them."""
    known = {cpu for profile, board in targets for cpu in profile.machines[board.partition("@")[0]].cpu_models}
    for name in names:
        if name not in known | {ALL}:
            raise InputError(f"none of the selected machines has a CPU model {name!r}.{suggest(name, known)}")
    for profile, board in targets:
        if ALL in names or "@" in board:
            yield profile, board
        if "@" not in board:
            models = profile.machines[board].cpu_models
            yield from ((profile, f"{board}@{model}") for model in models if ALL in names or model in names)


def choose_kernels(names: Sequence[str], sizes: Sequence[str], target: Target) -> list[str]:
    """Choose a machine's kernels: named ones, of these page sizes if any.

    A kernel of another page size is replaced by one of its version. `default` is any version. Names that the machine
    lacks stay, for their own message.
    """
    profile, machine = target
    kernels = profile.kernels_of(machine)
    if not sizes:
        return list(dict.fromkeys(name for word in names for name in _meant(word, kernels)))
    wanted = sorted({source.page_kib for source in kernels.values()})
    wanted = wanted if ALL in sizes else [size for size in wanted if f"{size}k" in sizes]
    chosen = [kernel for word in names for size in wanted for kernel in _of_size(word, size, kernels)]
    return list(dict.fromkeys(chosen))


def _meant(word: str, kernels: Mapping[str, AnyKernel]) -> list[str]:
    every = [name for name, source in kernels.items() if not isinstance(source, RepositoryKernel)]
    if word == ALL:
        return every
    if word == ANY_KERNEL:
        return [DEFAULT_KERNEL if DEFAULT_KERNEL in kernels else every[0]]
    return [word]


def _of_size(word: str, size: int, kernels: Mapping[str, AnyKernel]) -> Iterator[str]:
    """Yield the kernels that a name means, of a page size."""
    for name in _meant(word, kernels):
        if name not in kernels or kernels[name].page_kib == size:
            yield name
        elif word != ALL:
            others = [other for other in kernels if kernels[other].page_kib == size and _version(other, kernels)]
            version = _version(name, kernels)
            siblings = [other for other in others if _version(other, kernels) == version]
            yield from siblings[:1] or (others[-1:] if word == ANY_KERNEL else ())


def _version(name: str, kernels: Mapping[str, AnyKernel]) -> str:
    """Return the version of a kernel; empty for the newest of all."""
    source = kernels[name]
    version = source.release if isinstance(source, CustomKernel) else source.version
    if isinstance(source, RepositoryKernel):
        return version or name
    return name if version is None else version


def choose_pairs(
    names: Sequence[str], sizes: Sequence[str], widths: Sequence[str | int], target: Target
) -> list[tuple[str, str]]:
    """Choose boards and kernels, as `choose_kernels` or by address width.

    A width is that of the first of the machine's CPUs that has it. `default` is any version, if its own lacks a width.
    """
    profile, board = target
    kernels = choose_kernels(names, sizes, target)
    if not widths:
        return [(board, kernel) for kernel in kernels]
    boards, sources = _with_models(profile, board), profile.kernels_of(board)
    every = choose_kernels([ALL], sizes, target) if ANY_KERNEL in names else []
    more = [kernel for kernel in reversed(every) if _version(kernel, sources)]
    more.sort(key=lambda kernel: sources[kernel].page_kib != sources[kernels[0]].page_kib)
    having = {(kernel, profile.va_bits(place, kernel)): place for kernel in [*kernels, *more] for place in boards[::-1]}
    wanted = sorted({width for _, width in having if width and (ALL in widths or width in widths)})
    chosen: list[tuple[str, str]] = []
    for width in wanted:
        hits = [(having[kernel, width], kernel) for kernel in kernels if (kernel, width) in having]
        chosen += hits or [(having[kernel, width], kernel) for kernel in more if (kernel, width) in having][:1]
    return chosen


def no_kernel_left(targets: Iterable[Target], matrix: Matrix) -> InputError:
    """Return the error for page sizes and widths that no chosen kernel has."""
    if not matrix.page_size:
        return _no_width(targets, matrix)
    sizes = matrix.page_size
    known = {
        f"{profile.name} {name} ({source.page_kib}k)"
        for profile, machine in targets
        for name, source in profile.kernels_of(machine).items()
        if f"{source.page_kib}k" in sizes
    }
    return InputError(
        f"no kernel is left: none of the selected ones has pages of {' or '.join(sizes)}",
        f"These have: {', '.join(sorted(known))}." if known else "No kernel of these architectures has such pages.",
    )


def _no_width(targets: Iterable[Target], matrix: Matrix) -> InputError:
    known: dict[str, set[int]] = {}
    for profile, board in targets:
        for place in _with_models(profile, board):
            widths = {profile.va_bits(place, kernel) for kernel in profile.kernels_of(board)}
            known.setdefault(profile.name, set()).update(filter(None, widths))
    hint = "; ".join(f"{name} has {', '.join(map(str, sorted(widths)))}" for name, widths in known.items() if widths)
    wanted = " or ".join(map(str, matrix.va_bits))
    message = f"no kernel is left: none of the selected ones has addresses of {wanted} bits"
    return InputError(message, f"{hint}." if hint else "The widths of these architectures are not known.")


def _with_models(profile: Profile, board: str) -> list[str]:
    """Return a machine as it is, and with each of its CPU models unless it has one."""
    models = () if "@" in board else profile.machine(board).cpu_models
    return [board, *(f"{board}@{name}" for name in models)]


@dataclass(frozen=True)
class Limit:
    """The profiles for which a container is meant."""

    container: str
    archs: tuple[str, ...]


def find_limits(spec: Spec, profiles: Mapping[str, Profile]) -> tuple[Limit, ...]:
    """Find a spec's limited containers; a cell must satisfy all limits.

    Raises InputError if an architecture is unknown.
    """
    limits = []
    for container in (*spec.onboot, *spec.onshutdown, *spec.services):
        words = (container.annotations or {}).get(ARCH)
        if words is not None:
            limits.append(
                Limit(container.name, _profile_names(words, f"{spec.path}: {ARCH} of {container.name}", profiles))
            )
    return tuple(limits)


def _profile_names(words: str, place: str, profiles: Mapping[str, Profile]) -> tuple[str, ...]:
    if not words.split():
        raise InputError(f"{place} names no architecture")
    try:
        return tuple(dict.fromkeys(find_machine(profiles, word)[0].name for word in words.split()))
    except InputError as error:
        raise InputError(f"{place}: {error.message}", error.hint) from error
