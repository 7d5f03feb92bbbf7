"""`bootmatrix judge`: judge the cells of a saved run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli.exits import EXPECTED, NOT_EXPECTED


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("judge", help="judge the cells of a saved run again, from what was recorded")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a folder under reports/")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print each verdict; status 1 where one differs from the record."""
    from bootmatrix.attempts import rejudge
    from bootmatrix.runs import load_run

    changed = 0
    for record, again in rejudge(load_run(args.run_folder), args.run_folder):
        same = again.verdict is record.verdict
        changed += not same
        print(
            f"{record.cell.id}  {again.verdict}"
            + ("" if same else f"  (recorded: {record.verdict})")
            + f"  {again.reason}"
        )
    return NOT_EXPECTED if changed else EXPECTED
