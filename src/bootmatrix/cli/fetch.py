"""`bootmatrix fetch`: fill the cache beforehand, so that a later run needs no network."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT

if TYPE_CHECKING:
    from bootmatrix.cell.run import Bench
    from bootmatrix.model import Cell

WORKERS = 4


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("fetch", help="download and build what a matrix needs, without booting")
    options.add_selection(parser)
    options.add_allow_empty(parser)
    options.add_sources(parser)
    parser.set_defaults(run=run, refresh=True)


def run(args: argparse.Namespace) -> int:
    """Prepare every cell; status 3 if one cannot be."""
    from bootmatrix.plan import check_tests

    plan, profiles, _ = options.load_plan(args)
    check_tests(plan, options.load_specs(plan.cells), allow_empty=args.allow_empty)
    with options.open_bench(args, plan, profiles) as bench:
        failures = prepare_all(plan.cells, bench)
    for cell, message in failures:
        options.complain(f"{cell.id}: {message}")
    print(f"{len(plan.cells) - len(failures)} of {len(plan.cells)} cells are ready to boot offline")
    return OUR_FAULT if failures else EXPECTED


def prepare_all(cells: tuple[Cell, ...], bench: Bench) -> list[tuple[Cell, str]]:
    """Fetch and build all cells; those that cannot be, with the message."""
    from bootmatrix.cell.run import prepare
    from bootmatrix.errors import BootmatrixError

    def one(cell: Cell) -> tuple[Cell, str]:
        try:
            prepare(cell, bench)
        except BootmatrixError as error:
            return cell, str(error)
        return cell, ""

    with ThreadPoolExecutor(WORKERS) as pool:
        return [(cell, message) for cell, message in pool.map(one, cells) if message]
