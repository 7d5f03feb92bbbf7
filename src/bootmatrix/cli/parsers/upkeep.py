"""Options of the commands that look after runs and the cache."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands

ACCEPT_DAYS = 30


def add_accept(commands: Commands) -> None:
    """Add the options of `accept`."""
    parser = arguments.add_command(
        commands,
        "accept",
        "accept a cell's failure for some time, with a reason; list and remove acceptances",
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
    arguments.add(parser, "--json", "--reports")


def add_cache(commands: Commands) -> None:
    """Add the options of `cache`."""
    parser = arguments.add_command(
        commands,
        "cache",
        "print what the cache holds; remove the least recently used files",
        description="Print what takes how much of the cache. Runs keep it within BOOTMATRIX_CACHE_MAX (default: 20G; "
        "0: no limit) by themselves. A removed file is fetched or built again when it is needed.",
    )
    arguments.add(parser, "--cache", "--json")
    actions = parser.add_subparsers(metavar="ACTION")
    prune = arguments.add_command(actions, "prune", "remove the least recently used files", run="cache:run_prune")
    prune.add_argument("--keep", required=True, metavar="SIZE", help="size to keep, such as 10G; 0 removes everything")
    prune.add_argument("--cache", type=Path, default=argparse.SUPPRESS, metavar="FOLDER", help="the same")
