"""`bootmatrix kernels --distro`, `kernels check`: other distributions."""

import argparse
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from bootmatrix.assembly.build_context import open_builder
from bootmatrix.assembly.kernel.custom import find_kernel
from bootmatrix.assembly.kernel.facts import HEADINGS, kernel_facts
from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.tables import print_rows, print_table
from bootmatrix.errors import BootmatrixError, InputError
from bootmatrix.load.catalogue import find_catalogue, kernels_for, load_catalogues
from bootmatrix.load.profile import find_machine
from bootmatrix.model import AnyKernel, Catalogue, Profile, RepositoryKernel

Entry = tuple[Profile, str, RepositoryKernel]
CHECKS = 16
"""Repositories that are tried at once; most of the time is waiting."""
EVERY = "all"


def run_distro(args: argparse.Namespace) -> int:
    """Print a distribution's kernels, newest first.

    Returns status 3 if one does not resolve.
    """
    names = load_catalogues() if args.distro == EVERY else [args.distro]
    return _print_checked(args, names)


def run_check(args: argparse.Namespace) -> int:
    """Try catalogues against real servers; status 3 if one is not available."""
    if bool(args.names) == args.all:
        raise InputError("name distributions, or give --all", f"Known: {', '.join(load_catalogues())}.")
    names = load_catalogues() if args.all else args.names
    return _print_checked(args, names, is_impatient=True)


def _entries(args: argparse.Namespace, catalogue: Catalogue) -> Iterator[Entry]:
    profiles = options.profiles()
    selected = [find_machine(profiles, name)[0] for name in args.arch] or list(profiles.values())
    for profile in selected:
        for name, kernel in kernels_for(catalogue, profile.name):
            yield profile, name, kernel


def _print_checked(args: argparse.Namespace, names: Iterable[str], *, is_impatient: bool = False) -> int:
    entries = [entry for name in names for entry in _entries(args, find_catalogue(name))]
    sources = options.workspace(args).sources()
    with (
        download_progress() as downloads,
        open_builder(sources, downloads) as builder,
        ThreadPoolExecutor(CHECKS) as pool,
    ):
        repositories = builder.archive.repositories
        if is_impatient:
            repositories = repositories.impatient()
        results = list(pool.map(lambda entry: repositories.check(entry[2], entry[0].names.debian), entries))
    rows = [
        (
            kernel.distribution,
            name,
            profile.name,
            f"{version} ({fault})" if version and fault else version or f"({fault})",
        )
        for (profile, name, kernel), (version, fault) in zip(entries, results, strict=True)
    ]
    print_rows(("distribution", "kernel", "arch", "newest version"), rows)
    good = sum(not fault for _, fault in results)
    print_table(f"{good} of {len(results)} are available")
    return EXPECTED if good == len(results) else OUR_FAULT


def run_facts(args: argparse.Namespace) -> int:
    """Print facts of kernels' configurations; status 3 if one is not available."""
    profiles = options.profiles()
    selected = [find_machine(profiles, name) for name in args.arch]
    selected = selected or [(profile, profile.default_machine()) for profile in profiles.values()]
    kernels: list[tuple[Profile, str, str, AnyKernel]] = [
        (profile, board, name, source)
        for profile, board in selected
        for name, source in _sources(profile, board, args.distro)
    ]
    rows = []
    are_good = True
    with download_progress() as downloads, open_builder(options.workspace(args).sources(), downloads) as builder:
        for profile, board, name, source in kernels:
            try:
                kernel = find_kernel(name, source, profile, builder)
                facts = kernel_facts(kernel, profile.machine(board), builder)
                row = (kernel.release, *facts)
            except BootmatrixError as error:
                row, are_good = (f"({error.message})",), False
            rows.append((profile.name, name, *row))
    print_rows(("arch", "kernel", "release", *HEADINGS), rows)
    return EXPECTED if are_good else OUR_FAULT


def _sources(profile: Profile, board: str, distro: str) -> Iterator[tuple[str, AnyKernel]]:
    if not distro:
        yield from profile.kernels_of(board).items()
        return
    for name in load_catalogues() if distro == EVERY else [distro]:
        yield from kernels_for(find_catalogue(name), profile.name)
