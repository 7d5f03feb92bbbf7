"""Options of `hosts`."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands


def add_hosts(commands: Commands) -> None:
    """Add the options of `hosts`."""
    parser = arguments.add_command(
        commands,
        "hosts",
        "check the hosts of a cluster for 'matrix --executor dask'",
        description="Connect to each host of the file, start a worker there, and boot a guest of the host's own "
        "architecture. Exit status 3 if a host cannot be used.",
    )
    parser.add_argument("action", choices=("check",), help="check: reach, software, clock, and a booted guest")
    parser.add_argument("file", type=Path, metavar="FILE", help="hosts.yml (docs/many-machines.md)")
    arguments.add(parser, *arguments.SOURCES)
