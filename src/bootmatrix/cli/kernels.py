"""`bootmatrix kernels`: which kernel names resolve to what on each architecture."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT

if TYPE_CHECKING:
    from bootmatrix.build.image import Builder
    from bootmatrix.model import KernelSource, Profile

Row = tuple[str, str, str, str]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("kernels", help="list which kernel names resolve to what on each architecture")
    parser.add_argument("--arch", type=options.names, default=(), metavar="A,…", help="only these architectures")
    options.add_sources(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a table; status 3 if a name does not resolve."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from bootmatrix.cli.progress import open_downloads
    from bootmatrix.load.profile import find_machine

    known = options.profiles()
    chosen = [find_machine(known, name)[0] for name in args.arch] or list(known.values())
    wanted = [one for profile in chosen for one in _sources(profile)]
    with open_downloads() as downloads, ThreadPoolExecutor() as pool:
        builder = options.open_builder(args, downloads, options.read_lock(args))
        rows = list(pool.map(lambda one: _row(builder, *one), wanted))
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("arch", "kernel", "release", "package"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*map(escape, row))
    options.table_console().print(table)
    return EXPECTED if all(row[3] for row in rows) else OUR_FAULT


def _sources(profile: Profile) -> Iterator[tuple[str, str, str, KernelSource]]:
    """For each kernel `arch` or `arch/machine`, its architecture, its name and its source."""
    own = {f"{profile.name}/{name}": machine.kernels or {} for name, machine in profile.machines.items()}
    for target, kernels in {profile.name: profile.kernels, **own}.items():
        for kernel, source in kernels.items():
            yield target, profile.kernel_architecture(source), kernel, source


def _row(builder: Builder, arch: str, debian_arch: str, name: str, source: KernelSource) -> Row:
    from bootmatrix.errors import BootmatrixError

    try:
        kernel = builder.archive.kernel(name, source, debian_arch)
    except BootmatrixError as error:
        return arch, name, f"({error.message})", ""
    return arch, name, kernel.release, str(kernel.packages[0])
