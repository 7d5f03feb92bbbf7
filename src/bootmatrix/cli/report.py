"""`bootmatrix report`: write the report of a saved run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli.exits import EXPECTED


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("report", help="write the report of a saved run again, even of an interrupted one")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a folder under reports/, such as reports/latest")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it from the records, and print its path."""
    from bootmatrix.report import write_reports
    from bootmatrix.runs import load_run

    write_reports(load_run(args.run_folder), args.run_folder)
    print(args.run_folder / "report.html")
    return EXPECTED
