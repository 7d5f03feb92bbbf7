"""Options of the commands for other places: push, cloud, cost, hosts."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands, amount

CLOUDS = ("aws", "gcp")
PLACES = ("docker", *CLOUDS)
SWEEP_OLDER = "6h"


def add_on(parser: argparse.ArgumentParser) -> None:
    """Add --on PLACE to `run`, with the choices of a cloud."""
    where = parser.add_argument_group("other places (docs/where-to-run.md)")
    where.add_argument(
        "--on", choices=PLACES, metavar="PLACE", help="run it in this place instead of QEMU: docker, aws, gcp"
    )
    add_choice(where)
    where.add_argument(
        "--poll", type=float, default=10, metavar="SECONDS", help="interval between queries of a cloud (default: 10)"
    )
    where.add_argument(
        "--console-lag",
        type=float,
        default=600,
        metavar="SECONDS",
        help="wait for the console of an ended instance (default: 600)",
    )


def add_choice(parser: argparse._ActionsContainer) -> None:
    """Add the choices of a cloud."""
    parser.add_argument("--region", metavar="R", help="AWS: the region (default: that of the profile); GCP: the zone")
    parser.add_argument("--project", metavar="P", help="GCP: the project")
    parser.add_argument("--bucket", metavar="B", help="GCP: the bucket for the upload")
    parser.add_argument("--instance-type", metavar="T", help="the kind of machine (default: in arch/clouds)")
    parser.add_argument("--spot", action="store_true", help="a spot machine, which the cloud may reclaim")


def add_push(commands: Commands) -> None:
    """Add the options of `push`."""
    words = "upload a spec as an image of a cloud: aws, gcp"
    parser = arguments.add_command(commands, "push", words, description=f"{words.capitalize()}. No sweep removes it.")
    parser.add_argument("on", choices=CLOUDS, metavar="CLOUD")
    parser.add_argument("files", nargs=1, metavar="SPEC")
    arguments.add_single(parser)
    add_choice(parser)
    arguments.add(parser, *arguments.SOURCES)


def add_cloud(commands: Commands) -> None:
    """Add the options of `cloud`."""
    parser = commands.add_parser("cloud", help="remove what killed runs left in a container engine or a cloud")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    sweep = arguments.add_command(
        actions, "sweep", "remove everything with bootmatrix's tag, except what 'push' made", run="push:run_sweep"
    )
    sweep.add_argument("on", choices=PLACES, metavar="PLACE")
    sweep.add_argument(
        "--older-than",
        type=arguments.period,
        default=arguments.period(SWEEP_OLDER),
        metavar="TIME",
        help=f"in a cloud, only what is older, as other runs may be active (default: {SWEEP_OLDER})",
    )
    add_choice(sweep)


def add_cost(commands: Commands) -> None:
    """Add the options of `cost`."""
    parser = arguments.add_command(
        commands,
        "cost",
        "estimate a run's cost on machines by the hour, and the break-even",
        description="Computes what a run costs on machines that are paid by the hour, beside one that is always on, "
        "and from how many runs a month on the latter is cheaper.",
    )
    parser.add_argument("files", metavar="MATRIX|SPEC", nargs="*", help="what will be run")
    parser.add_argument("--of", metavar="RUN", help="a run that has ended, instead: what it would have cost")
    parser.add_argument("--hour", type=amount, required=True, metavar="PRICE", help="price of a machine's hour")
    parser.add_argument("--month", type=amount, metavar="PRICE", help="price of a machine that is always on, a month")
    parser.add_argument("--runs", type=amount, default=30, metavar="N", help="runs a month (default: 30)")
    parser.add_argument("--cell", type=amount, metavar="SECONDS", help="time of a cell (default: as before, else 30)")
    parser.add_argument(
        "--start",
        type=amount,
        default=60,
        metavar="SECONDS",
        help="time until a new machine is ready (default: 60)",
    )
    parser.add_argument("--machines", type=int, default=1, metavar="N", help="machines of a run (default: 1)")
    parser.add_argument("--cores", type=int, default=2, metavar="N", help="cells at a time on each (default: 2)")
    parser.add_argument("--least", type=amount, default=60, metavar="SECONDS", help="minimum time billed (default: 60)")


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
