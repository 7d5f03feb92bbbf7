"""Options of the commands for other places: push, cloud, cost, hosts."""

import argparse
from argparse import ArgumentParser
from pathlib import Path

from bootmatrix.cli.arguments import (
    POSITIVE,
    SOURCES,
    add_command,
    add_shared,
    add_single,
    amount,
    command,
    option,
    period,
)

CLOUDS = ("aws", "gcp")
PLACES = ("docker", *CLOUDS)
SWEEP_OLDER = "6h"


def add_on(parser: ArgumentParser) -> None:
    """Add --on PLACE to `run`, with the choices of a cloud."""
    where = parser.add_argument_group("other places (docs/where-to-run.md)")
    option(where, "--on PLACE", "run it in this place instead of QEMU: docker, aws, gcp", choices=PLACES)
    add_choice(where)
    option(where, "--poll SECONDS", "interval between queries of a cloud (default: 10)", type=amount, default=10)
    option(
        where,
        "--console-lag SECONDS",
        "wait for the console of an ended instance (default: 600)",
        type=amount,
        default=600,
    )


def add_choice(parser: argparse._ActionsContainer) -> None:
    """Add the choices of a cloud."""
    option(parser, "--region R", "AWS: the region (default: that of the profile); GCP: the zone")
    option(parser, "--project P", "GCP: the project")
    option(parser, "--bucket B", "GCP: the bucket for the upload")
    option(parser, "--instance-type T", "the kind of machine (default: in arch/clouds)")
    option(parser, "--spot", "a spot machine, which the cloud may reclaim")


@command(
    "push",
    "upload a spec as an image of a cloud: aws, gcp",
    description="Upload a spec as an image of a cloud: aws, gcp. No sweep removes it.",
)
def _push(parser: ArgumentParser) -> None:
    option(parser, "on CLOUD", choices=CLOUDS)
    option(parser, "files SPEC", nargs=1)
    add_single(parser)
    add_choice(parser)
    add_shared(parser, *SOURCES)


@command("cloud", "remove what killed runs left in a container engine or a cloud")
def _cloud(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    sweep = add_command(
        actions, "sweep", "remove everything with bootmatrix's tag, except what 'push' made", run="push:run_sweep"
    )
    option(sweep, "on PLACE", choices=PLACES)
    option(
        sweep,
        "--older-than TIME",
        f"in a cloud, only what is older, as other runs may be active (default: {SWEEP_OLDER})",
        type=period,
        default=period(SWEEP_OLDER),
    )
    add_choice(sweep)


@command(
    "cost",
    "estimate a run's cost on machines by the hour, and the break-even",
    description="Computes what a run costs on machines that are paid by the hour, beside one that is always on, "
    "and from how many runs a month on the latter is cheaper.",
)
def _cost(parser: ArgumentParser) -> None:
    option(parser, "files MATRIX|SPEC", "what will be run", nargs="*")
    option(parser, "--of RUN", "a run that has ended, instead: what it would have cost")
    option(parser, "--hour PRICE", "price of a machine's hour", type=amount, required=True)
    option(parser, "--month PRICE", "price of a machine that is always on, a month", type=amount)
    option(parser, "--runs N", "runs a month (default: 30)", type=amount, default=30)
    option(parser, "--cell SECONDS", "time of a cell (default: as before, else 30)", type=amount)
    option(parser, "--start SECONDS", "time until a new machine is ready (default: 60)", type=amount, default=60)
    option(parser, "--machines N", "machines of a run (default: 1)", type=POSITIVE, default=1)
    option(parser, "--cores N", "cells at a time on each (default: 2)", type=POSITIVE, default=2)
    option(parser, "--least SECONDS", "minimum time billed (default: 60)", type=amount, default=60)


@command(
    "hosts",
    "check the hosts of a cluster for 'matrix --executor dask'",
    description="Connect to each host of the file, start a worker there, and boot a guest of the host's own "
    "architecture. Exit status 3 if a host cannot be used.",
)
def _hosts(parser: ArgumentParser) -> None:
    option(parser, "action", "check: reach, software, clock, and a booted guest", choices=("check",))
    option(parser, "file FILE", "hosts.yml (docs/many-machines.md)", type=Path)
    add_shared(parser, *SOURCES)
