"""`bootmatrix build`: write kernel, initrd and command line of one cell."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options

if TYPE_CHECKING:
    from bootmatrix.model import Bootable, Cell, Machine


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("build", help="write kernel, initrd and kernel command line of one cell")
    parser.add_argument("files", nargs=1, metavar="SPEC", help="a spec (path or name)")
    options.add_single(parser)
    options.add_sources(parser)
    parser.add_argument("-o", "--output", metavar="PREFIX", help="default: SPEC-ARCH-KERNEL in the current folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build and write `PREFIX-kernel`, `PREFIX-initrd.img`, `PREFIX-cmdline` and `PREFIX-bootable.json`."""
    from bootmatrix.boot.command import by_hand

    cell, machine, bootable = prepare_single(args)
    prefix = args.output or cell.id.replace("/", "-")
    line = by_hand(machine, bootable)
    for suffix, artefact in bootable.parts().items():
        shutil.copyfile(artefact.file, f"{prefix}-{suffix}")
        print(f"{prefix}-{suffix}")
    Path(f"{prefix}-cmdline").write_text(line.cmdline + "\n", encoding="utf-8")
    Path(f"{prefix}-bootable.json").write_text(bootable.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(f"{prefix}-cmdline\n{prefix}-bootable.json")
    return 0


def prepare_single(args: argparse.Namespace) -> tuple[Cell, Machine, Bootable]:
    """The one cell that the options name, its machine, and what it boots.

    Raises:
        InputError: the architecture has no such kernel, or names more than one cell.
    """
    from bootmatrix.cell import prepare
    from bootmatrix.errors import InputError

    single = argparse.Namespace(**{**vars(args), "arch": (args.arch,), "kernel": (args.kernel,)})
    plan, profiles, _ = options.load_plan(single)
    if plan.skips:
        raise InputError(plan.skips[0].reason)
    if len(plan.cells) != 1:
        raise InputError(f"one cell is meant, and these are {len(plan.cells)}", "Name one spec, --arch and --kernel.")
    cell = plan.cells[0]
    with options.open_bench(args, plan, profiles) as bench:
        return cell, bench.machine(cell), prepare(cell, bench).bootable
