"""The run of a matrix that `try` or `kernel-test` wrote."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bootmatrix.cli import options
from bootmatrix.cli.first_look import check_host
from bootmatrix.cli.matrix import run_planned
from bootmatrix.cli.output import complain
from bootmatrix.model import Machine, Run
from bootmatrix.model.cell import Network
from bootmatrix.model.guest_size import AUTO
from bootmatrix.workspace.planned_run import PlannedRun
from bootmatrix.workspace.selection import Selection, requested_size
from bootmatrix.workspace.workspace import Workspace

SIZES = ("memory", "cpus", "disk")


def size_keys(args: argparse.Namespace) -> dict[str, Any]:
    """Return `resources` of a matrix. Raises InputError if a size is invalid."""
    size = {name: value for name in SIZES if (value := getattr(args, name)) is not None}
    requested_size(Selection(**size))
    return {"memory": AUTO, **size}


def plan_written(
    args: argparse.Namespace, workspace: Workspace, matrix: Path, notes: Iterable[str], network: Network | None
) -> PlannedRun:
    """Plan the matrix with options that are not in it; print its notes.

    Raises InputError if options do not go together.
    """
    for note in notes:
        complain(f"note: {note}")
    selection = Selection(
        qemu_args=tuple(args.qemu_args),
        boot=args.boot,
        roots=args.roots,
        get_limit=args.get_limit,
        network=network,
        tier=args.tier,
        flaky=args.flaky,
        verify_fork=args.verify_fork,
        fail_on_warning=args.fail_on_warning,
    )
    planned = workspace.plan(str(matrix), selection=selection)
    options.print_notes(planned.plan)
    return planned


def run_written(
    args: argparse.Namespace, workspace: Workspace, planned: PlannedRun, show: Callable[[Run, Path], None] | None = None
) -> int:
    """Check this host, run the plan, and return the exit status.

    `show` prints more of the run and its folder.

    Raises HostError if this host lacks something.
    """
    machines = [planned.config.machine(cell) for cell in planned.cells if cell.tier == "system"]
    check_written(args, workspace, machines)
    return run_planned(args, planned, show)


def check_written(args: argparse.Namespace, workspace: Workspace, machines: Iterable[Machine]) -> None:
    """Raise HostError if this host lacks something that these machines need."""
    check_host(machines, workspace.cache, offline=workspace.offline, outbound=args.network == "outbound")
