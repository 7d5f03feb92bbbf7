"""Bisect the archive's kernels for the first one with another verdict of a spec."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
from debian.debian_support import Version

from bootmatrix.cell.run import RunContext, run_cell
from bootmatrix.errors import InputError
from bootmatrix.load.catalogue import find_catalogue, kernels_for, with_catalogues
from bootmatrix.load.expand import product
from bootmatrix.load.profile import find_machine
from bootmatrix.model import AnyKernel, Bisection, Cell, Kernel, KernelSource, Matrix, Profile, RepositoryKernel, Step
from bootmatrix.model.bisection import next_steps
from bootmatrix.runs.run_store import RunWriter
from bootmatrix.source.archive import Archive
from bootmatrix.source.kernels import matches


@dataclass(frozen=True)
class Question:
    """A bisection request: `good` and `bad` are version prefixes.

    `kernel` names a kernel of the flavour, or is empty.
    `distro` names a catalogue, whose releases are joined, or is empty.
    """

    spec: Path
    target: str
    good: str
    bad: str
    kernel: str = ""
    distro: str = ""


@dataclass
class Search:
    """A search in progress."""

    profiles: dict[str, Profile]
    cells: tuple[Cell, ...]
    state: Bisection


def prepare_search(question: Question, all_profiles: Mapping[str, Profile], archive: Archive) -> Search:
    """Prepare a search, without booting.

    Raises InputError for an unknown architecture, kernel or version; InfraError if the archive cannot be reached.
    """
    profile, machine = find_machine(all_profiles, question.target)
    entries = catalogued(question, profile)
    sources: Mapping[str, AnyKernel]
    if entries:
        kernels, sources = kernels_of_repositories(entries, question, profile, archive)
        narrowed = profile.model_copy(update={"catalogue": sources})
    else:
        source = source_of(profile, machine, question.kernel, question.good)
        every = archive.kernels(source, profile.kernel_architecture(source))
        kernels = between(every, question.good, question.bad)
        narrowed = with_kernels(profile, machine, source, kernels)
    profiles = {**all_profiles, profile.name: narrowed}
    names = tuple(kernel.release for kernel in kernels)
    cells = product(Matrix(specs=(str(question.spec),), arch=(question.target,), kernel=names), Path(), profiles)
    return Search(profiles, cells, _begin(cells, kernels, question))


def catalogued(question: Question, profile: Profile) -> list[RepositoryKernel]:
    """Return a question's catalogue entries; none for the archive's kernels.

    `kernel` names one, or the flavour of a distribution's; without it, its first flavour is taken.

    Raises InputError if the distribution is unknown, or has no such kernels for the architecture.
    """
    if not question.distro:
        every = with_catalogues({profile.name: profile}, [question.kernel] if question.kernel else [])
        entry = every[profile.name].catalogue.get(question.kernel)
        return [entry] if entry else []
    entries = dict(kernels_for(find_catalogue(question.distro), profile.name))
    flavours = [entry.flavour for name, entry in entries.items() if question.kernel in {"", name} and entry.flavour]
    if not flavours:
        raise InputError(
            f"{question.distro} has no kernels {question.kernel} of a flavour for {profile.name}",
            f"It has {', '.join(entries) or 'none'}. Give --kernel one of these, for its repositories alone.",
        )
    return [entry for entry in entries.values() if entry.flavour == flavours[0]]


def kernels_of_repositories(
    entries: Sequence[RepositoryKernel], question: Question, profile: Profile, archive: Archive
) -> tuple[list[Kernel], dict[str, RepositoryKernel]]:
    """Return the kernels from good to bad, and their sources by release.

    Raises InputError if one is not found, or both are the same; InfraError if no repository is available.
    """
    if entries[0].snapshots:
        found = archive.repositories.old_kernels(entries, question.good, question.bad)
    else:
        found = archive.repositories.all_kernels(entries, profile.names.debian)
    kernels = [
        Kernel(name=kernel.name, release=kernel.name, version=kernel.plain_version, architecture=source.architecture)
        for kernel, source in found
    ]
    chosen = between_ordered(kernels, question.good, question.bad)
    names = {kernel.release for kernel in chosen}
    return chosen, {kernel.name: source for kernel, source in found if kernel.name in names}


def source_of(profile: Profile, machine: str, kernel_name: str, good: str) -> KernelSource:
    """Return the source of the kernels: a flavour in all suites that have it.

    Without a name, the flavour is that of the kernel with the good version.

    Raises InputError if it is not found, or not from the archive.
    """
    sources = {name: source for name, source in profile.kernels_of(machine).items() if isinstance(source, KernelSource)}
    fitting = [name for name, source in sources.items() if matches(good, name if source.version is None else "-")]
    name = kernel_name or next(iter(fitting), "")
    if name not in sources:
        raise InputError(
            f"{kernel_name or good!r} does not match any of the archive's kernels of {profile.name}",
            f"Give --kernel, for the flavour: one of {', '.join(sources)}.",
        )
    flavour = sources[name].flavour
    suites = [suite for source in sources.values() if source.flavour == flavour for suite in source.suites]
    return sources[name].model_copy(update={"version": "", "suites": tuple(dict.fromkeys(suites))})


def between(kernels: Sequence[Kernel], good: str, bad: str) -> list[Kernel]:
    """Return the archive's kernels from good to bad, newest of each release.

    Raises InputError as `between_ordered` does.
    """
    return between_ordered(sorted(kernels, key=lambda kernel: Version(kernel.version)), good, bad)


def between_ordered(kernels: Sequence[Kernel], good: str, bad: str) -> list[Kernel]:
    """Return the kernels from good to bad, last of each release.

    Raises InputError if one is not found, or both are the same.
    """
    newest = {kernel.release: kernel for kernel in kernels}
    order = [kernel for kernel in kernels if newest[kernel.release] is kernel]
    first, last = _position(order, good), _position(order, bad)
    if first == last:
        raise InputError(f"{good} and {bad} are the same kernel, {order[first].release} ({order[first].version})")
    return order[first : last + 1] if first < last else order[last : first + 1][::-1]


def _position(order: Sequence[Kernel], version: str) -> int:
    positions = [
        number for number, kernel in enumerate(order) if version == kernel.release or matches(kernel.version, version)
    ]
    if not version or not positions:
        versions = ", ".join(each.version for each in order)
        raise InputError(f"the archive has no kernel {version!r} of this flavour", f"It has {versions or 'none'}.")
    return positions[-1]


def with_kernels(profile: Profile, machine: str, source: KernelSource, kernels: Sequence[Kernel]) -> Profile:
    """Return a profile whose machine has just these kernels, named by release."""
    exact = {
        kernel.release: source.model_copy(update={"version": kernel.version, "suites": (kernel.packages[0].suite,)})
        for kernel in kernels
    }
    board = machine.partition("@")[0]
    plain = profile.machines[board].model_copy(update={"kernels": None})
    return profile.model_copy(update={"kernels": exact, "own": {}, "machines": {**profile.machines, board: plain}})


def _begin(cells: Sequence[Cell], kernels: Sequence[Kernel], question: Question) -> Bisection:
    steps = tuple(
        Step(release=kernel.release, version=kernel.version, suite=_suite(kernel), cell=cell.id)
        for cell, kernel in zip(cells, kernels, strict=True)
    )
    first = cells[0]
    return Bisection(spec=first.spec_name, target=first.target, good=question.good, bad=question.bad, steps=steps)


def _suite(kernel: Kernel) -> str:
    """Return the suite of an archive's kernel; empty for those of repositories."""
    return kernel.packages[0].suite if kernel.packages else ""


async def run_search(search: Search, context: RunContext, writer: RunWriter, at_once: int) -> None:
    """Boot kernels until the first one with another verdict is known.

    A cell without a guest verdict is skipped.
    """

    async def step(number: int) -> None:
        cell = search.cells[number]
        record = await run_cell(cell, context, writer.folder(cell))
        writer.add(record)
        context.observer.cell_done(record)
        steps = list(search.state.steps)
        result = {"verdict": record.verdict, "reason": record.judgement.reason}
        steps[number] = steps[number].model_copy(update=result)
        search.state = search.state.model_copy(update={"steps": tuple(steps)})

    while numbers := next_steps(search.state, at_once):
        async with anyio.create_task_group() as tasks:
            for number in numbers:
                tasks.start_soon(step, number)
        await anyio.to_thread.run_sync(writer.make_durable)
