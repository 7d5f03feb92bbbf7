"""`bootmatrix build`: write one cell as files, in LinuxKit's formats."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options

if TYPE_CHECKING:
    from bootmatrix.cell import Bench
    from bootmatrix.model import Bootable, Cell, Machine

DEFAULT_FORMAT = "kernel+initrd"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "build",
        help="write one cell as kernel and initrd, disk, ISO, cloud image…",
        description="Write one spec for one architecture and kernel, in any of LinuxKit's formats: docs/formats.md. "
        "'bootmatrix run' boots what it wrote.",
    )
    parser.add_argument("files", nargs=1, metavar="SPEC", help="a spec (path or name)")
    options.add_single(parser)
    options.add_sources(parser)
    parser.add_argument("-o", "--output", metavar="PREFIX", help="default: SPEC-ARCH-KERNEL in the current folder")
    parser.add_argument(
        "-f",
        "--format",
        type=options.names,
        default=(DEFAULT_FORMAT,),
        metavar="F,…",
        help=f"formats, or 'list' (default: {DEFAULT_FORMAT})",
    )
    parser.add_argument("--sbom", action="store_true", help="write what is in it too, as SPDX: PREFIX.spdx.json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build, and write the files of all formats that were asked for, and `PREFIX-bootable.json`."""
    from bootmatrix.build.formats import FORMATS
    from bootmatrix.outputs import Wanted, write

    if "list" in args.format:
        for name, one in FORMATS.items():
            print(f"{name:18} {one.description}: {' '.join(f'NAME{suffix}' for suffix in one.files)}")
        return 0
    with single_bench(args) as (cell, bench):
        prefix = Path(args.output or cell.id.replace("/", "-"))
        for path in write(Wanted(args.format, prefix, is_named="/" in args.arch, sbom=args.sbom), cell, bench):
            print(path)
    return 0


@contextmanager
def single_bench(args: argparse.Namespace) -> Iterator[tuple[Cell, Bench]]:
    """The one cell that the options name, and what it takes to prepare it.

    Raises:
        InputError: the architecture has no such kernel, or names more than one cell.
    """
    from bootmatrix.errors import InputError

    single = argparse.Namespace(**{**vars(args), "arch": (args.arch,), "kernel": (args.kernel,)})
    plan, profiles, _ = options.load_plan(single)
    if plan.skips:
        raise InputError(plan.skips[0].reason)
    if len(plan.cells) != 1:
        raise InputError(f"one cell is meant, and these are {len(plan.cells)}", "Name one spec, --arch and --kernel.")
    with options.open_bench(args, plan, profiles) as bench:
        yield plan.cells[0], bench


def prepare_single(args: argparse.Namespace) -> tuple[Cell, Machine, Bootable]:
    """The one cell that the options name, its machine, and what it boots.

    Raises:
        InputError: as single_bench.
    """
    from bootmatrix.cell import prepare

    with single_bench(args) as (cell, bench):
        return cell, bench.machine(cell), prepare(cell, bench).bootable
