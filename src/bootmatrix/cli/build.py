"""`bootmatrix build`: write one cell as files, in LinuxKit's formats."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.output import say

if TYPE_CHECKING:
    from bootmatrix.again import Watch
    from bootmatrix.model import Bootable, Cell, Machine, Plan, Profile, Spec

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
    from bootmatrix.again import Watch
    from bootmatrix.store import Store, default_cache

    if "list" in args.format:
        return _list()
    words = {name: value for name, value in vars(args).items() if name != "run"}
    watch = Watch(Store(args.cache or default_cache()), words)
    lines = watch.answer()
    if lines is None:
        lines = _build(args, watch)
    for line in lines:
        say(line)
    return 0


def _list() -> int:
    from bootmatrix.assembly.formats import FORMATS

    for name, one in FORMATS.items():
        print(f"{name:18} {one.description}: {' '.join(f'NAME{suffix}' for suffix in one.files)}")
    return 0


def _build(args: argparse.Namespace, watch: Watch) -> list[str]:
    """Build and write, and keep what came of it for the next time that it is asked for."""
    with watch:
        from bootmatrix.assembly.export import Wanted, write
        from bootmatrix.store import healed

        plan, profiles = _single(args, boots=False)
        cell = plan.cells[0]
        prefix = Path(args.output or cell.id.replace("/", "-"))
        with options.open_materials(args, plan, profiles) as materials:
            wanted = Wanted(args.format, prefix, is_named="/" in args.arch, sbom=args.sbom)
            paths = healed(lambda: write(wanted, cell, materials))
            watch.until_s = materials.builder.archive.good_until_s
            watch.see(*_looked_for(args, materials.specs[cell.spec], watch.paths))
    lines = list(map(str, paths))
    watch.keep(lines, paths)
    return lines


def _looked_for(args: argparse.Namespace, spec: Spec, opened: Iterable[str]) -> Iterator[Path]:
    """What is looked for and, being absent, not opened; once it is there it means another guest."""
    from bootmatrix.assembly.initrd.files import source_path
    from bootmatrix.load.kernels import kernels_file
    from bootmatrix.load.recipe import DOCKERFILE, RECIPE
    from bootmatrix.load.registries import registries_file

    yield from (Path("arch"), kernels_file(), registries_file(), *map(Path, args.files))
    yield from (source_path(spec, file.source) for file in spec.files if file.source)
    yield from (path.with_name(DOCKERFILE) for path in map(Path, opened) if path.name == RECIPE)
    yield from (Path(one.partition("=")[2].partition(":")[2]) for one in args.image)


def _single(args: argparse.Namespace, *, boots: bool) -> tuple[Plan, dict[str, Profile]]:
    """A plan of the one cell that the options name, and the profiles.

    Raises:
        InputError: the architecture has no such kernel, or names more than one cell.
    """
    from bootmatrix.errors import InputError

    single = argparse.Namespace(**{**vars(args), "arch": (args.arch,), "kernel": (args.kernel,)})
    plan, profiles, _ = options.load_plan(single, boots=boots)
    if plan.skips:
        raise InputError(plan.skips[0].reason)
    if len(plan.cells) != 1:
        raise InputError(f"one cell is meant, and these are {len(plan.cells)}", "Name one spec, --arch and --kernel.")
    return plan, profiles


def prepare_single(args: argparse.Namespace, *, tests: bool) -> tuple[Cell, Machine, Bootable]:
    """The one cell that the options name, its machine, and what it boots; `tests`: its verdict is to mean something.

    Raises:
        InputError: the architecture has no such kernel, or names more than one cell; or nothing would be tested.
        HostError: the machine's QEMU is missing, or not fit for it.
    """
    from bootmatrix.cell.run import prepare
    from bootmatrix.plan import check_tests
    from bootmatrix.qemu.suitability import check_machine
    from bootmatrix.qemu.version import qemu_version

    plan, profiles = _single(args, boots=True)
    if tests:
        check_tests(plan, options.load_specs(plan.cells))
    with options.open_bench(args, plan, profiles) as bench:
        cell = plan.cells[0]
        machine = bench.machine(cell)
        qemu_version(machine)  # before anything is downloaded for it
        check_machine(machine, bench.builder.store)
        return cell, machine, prepare(cell, bench).bootable
