"""Options of the commands that look after runs and the cache."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands

ACCEPT_DAYS = 30


def add_accept(commands: Commands) -> None:
    """Add the options of `accept`."""
    parser = commands.add_parser(
        "accept",
        help="accept a cell's failure for some time, with a reason; list and remove acceptances",
        description="Accept a failure, so that it is not a regression any more: it is a 'known failure' until the cell "
        "passes or the day comes. Without CELL, list the acceptances. They are in accepted.json, beside the runs.",
    )
    parser.add_argument("cell", nargs="?", metavar="CELL", help="as in the reports; 'influxdb/*/6.1' matches several")
    parser.add_argument("--reason", default="", metavar="WHY", help="the reason")
    parser.add_argument("--by", default="", metavar="WHO", help="the person (default: the name of the user)")
    parser.add_argument(
        "--until", default="", metavar="DATE", help=f"the last day, 2026-12-31 (default: in {ACCEPT_DAYS} days)"
    )
    parser.add_argument("--title", default="", help="only in runs of this matrix or these specs")
    parser.add_argument("--remove", action="store_true", help="remove the acceptances of CELL")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments.add_reports(parser)
    parser.set_defaults(command="accept")


def add_cache(commands: Commands) -> None:
    """Add the options of `cache`."""
    parser = commands.add_parser(
        "cache",
        help="print what the cache holds; remove the least recently used files",
        description="Print what takes how much of the cache. Runs keep it within BOOTMATRIX_CACHE_MAX (default: 20G; "
        "0: no limit) by themselves. A removed file is fetched or built again when it is needed.",
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="folder for downloads and builds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command="cache")
    actions = parser.add_subparsers(metavar="ACTION")
    prune = actions.add_parser("prune", help="remove the least recently used files")
    prune.add_argument("--keep", required=True, metavar="SIZE", help="what may stay, such as 10G; 0 removes all")
    prune.add_argument("--cache", type=Path, default=argparse.SUPPRESS, metavar="FOLDER", help="the same")
    prune.set_defaults(command="cache:run_prune")
