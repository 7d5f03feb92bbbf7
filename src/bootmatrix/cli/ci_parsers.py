"""Options of the commands for CI systems."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.cli import arguments

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Any]

MERGE_DESCRIPTION = """\
Join runs into one with one report: the shards of a matrix, runs of several hosts, or a run and the repetition of its
failed cells. Of several results of a cell a verdict on the guest outranks an error, then the newest counts; the same
inputs that passed and failed are 'flaky'. Duplicates and gaps are printed; a cell without a result gives exit status 3.
"""


def add_merge(commands: Commands) -> None:
    """Add the options of `merge`."""
    parser = commands.add_parser("merge", help="join runs into one, such as shards", description=MERGE_DESCRIPTION)
    parser.add_argument(
        "run_names", nargs="+", metavar="RUN", help=f"{arguments.RUN_HELP}, or a folder that contains runs"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="the new run's folder (default: one under reports/)"
    )
    arguments.add_single_file(parser)
    arguments.add_baseline(parser)
    arguments.add_reports(parser)
    parser.set_defaults(command="merge")
