"""`bootmatrix lock`: write down the exact kernels, packages and images of registries of a matrix."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    words = "write the exact kernels, packages and registry images of a matrix to a file for --locked"
    parser = commands.add_parser("lock", help=words)
    options.add_selection(parser)
    options.add_allow_empty(parser)
    options.add_sources(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: MATRIX with .lock for .yml")
    parser.set_defaults(run=run, refresh=True)


def run(args: argparse.Namespace) -> int:
    """Resolve every cell and write the lock, whole or not at all."""
    from bootmatrix.cli.fetch import prepare_all
    from bootmatrix.load.lock import save_lock
    from bootmatrix.plan import check_tests

    plan, profiles, _ = options.load_plan(args)
    check_tests(plan, options.load_specs(plan.cells), allow_empty=args.allow_empty)
    with options.open_bench(args, plan, profiles) as bench:
        failures = prepare_all(plan.cells, bench)
    if failures:
        for cell, message in failures:
            options.complain(f"{cell.id}: {message}")
        say("nothing was written", file=sys.stderr)
        return OUR_FAULT
    output = args.output or options.lock_file(args)
    save_lock(bench.builder.archive.resolved(), output)
    say(output)
    return EXPECTED
