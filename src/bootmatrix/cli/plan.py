"""`bootmatrix plan`: the cells of a matrix, and what is skipped and why, without booting."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("plan", help="print the cells of a matrix, and what is skipped and why")
    options.add_selection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from bootmatrix.report.harmless import one_line

    plan, _, _ = options.load_plan(args)
    options.load_specs(plan.cells)
    for cell in plan.cells:
        print(cell.id + (f"  (expected not to pass: {cell.expect})" if cell.expect else ""))
    for skip in plan.skips:
        print(f"{skip.cell.id}  skipped: {one_line(skip.reason)}")
    print(f"{len(plan.cells)} cells, {len(plan.skips)} skipped")
    return 0
