"""Options of the commands that look after runs and the cache."""

import argparse
from argparse import ArgumentParser
from pathlib import Path

from bootmatrix.cli.arguments import add_command, add_shared, command, option

ACCEPT_DAYS = 30


@command(
    "accept",
    "accept a cell's failure for some time, with a reason; list and remove acceptances",
    description="Accept a failure, so that it is not a regression any more: it is an 'accepted failure' until the "
    "cell passes or the last day is over. Without CELL, list the acceptances, which are in reports/accepted.json.",
)
def _accept(parser: ArgumentParser) -> None:
    option(parser, "cell CELL", "as in the reports; 'influxdb/*/6.1' matches several", nargs="?")
    option(parser, "--reason WHY", "the reason", default="")
    option(parser, "--by WHO", "the person (default: the name of the user)", default="")
    option(parser, "--until DATE", f"the last day, 2026-12-31 (default: in {ACCEPT_DAYS} days)", default="")
    option(parser, "--title TITLE", "only in runs of this matrix or these specs", default="")
    option(parser, "--remove", "remove the acceptances of CELL")
    add_shared(parser, "--json", "--reports")


@command(
    "cache",
    "print what the cache holds; remove the least recently used files",
    description="Print what takes how much of the cache. Runs keep it within BOOTMATRIX_CACHE_MAX (default: 20G; "
    "0: no limit) by themselves. A removed file is fetched or built again when it is needed.",
)
def _cache(parser: ArgumentParser) -> None:
    add_shared(parser, "--cache", "--json")
    actions = parser.add_subparsers(metavar="ACTION")
    prune = add_command(actions, "prune", "remove the least recently used files", run="cache:run_prune")
    option(prune, "--keep SIZE", "size to keep, such as 10G; 0 removes everything", required=True)
    option(prune, "--cache FOLDER", "the same", type=Path, default=argparse.SUPPRESS)
