"""Options shared by several commands, and their values."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from bootmatrix.model import Plan, Profile
    from bootmatrix.workspace.selection import Selection
    from bootmatrix.workspace.workspace import Workspace


WIDE = 160
OF_THE_RUN = (
    *("files", "arch", "kernel", "image", "qemu_args", "flaky", "boot", "verify_fork", "locked"),
    *("allow_empty", "page_size", "bits", "endian", "cpu", "machine", "memory", "cpus", "append", "timeout", "roots"),
    *("tier", "fail_on_warning", "get_limit", "network"),
    *("only", "shard", "budget", "rerun_failed"),
)
"""Arguments that a resumed run takes from its start."""


def lock_file(args: argparse.Namespace) -> Path:
    """Return the lock file of the input files: `influxdb.matrix.lock` for `influxdb.matrix.yml`."""
    return Path(args.files[0]).with_suffix(".lock")


def workspace(args: argparse.Namespace) -> Workspace:
    """Make the workspace from the options; missing options have their default."""
    from bootmatrix.workspace.workspace import Workspace

    values = vars(args)
    locked = values.get("locked")
    return Workspace(
        cache=values.get("cache"),
        archive=values.get("archive"),
        offline=values.get("offline", False),
        reports=values.get("reports"),
        lock=lock_file(args) if locked is True else Path(locked) if locked else None,
        images=tuple(values.get("image", ())),
        refresh=values.get("refresh", False),
        allow_older_release=values.get("allow_older_release", False),
    )


def selection(args: argparse.Namespace) -> Selection:
    """Make the selection of cells from the options."""
    from bootmatrix.workspace.selection import Selection

    values = {field.name: vars(args)[field.name] for field in fields(Selection) if field.name in vars(args)}
    for name in ("qemu_args", "append", "only"):
        values[name] = tuple(values.get(name, ()))
    return Selection(**values)


def guest_selection(args: argparse.Namespace) -> Selection:
    """Make the selection of a single guest: all but its architecture and kernel."""
    from bootmatrix.workspace.selection import Selection

    return Selection(
        qemu_args=tuple(args.qemu_args),
        memory=args.memory,
        cpus=args.cpus,
        append=tuple(args.append),
        timeout=args.timeout,
        roots=args.roots,
        fail_on_warning=args.fail_on_warning,
    )


def board(args: argparse.Namespace) -> str:
    """Return the machine of a single guest, `arch/machine`."""
    from bootmatrix.workspace.selection import Selection, board_targets

    (target,) = board_targets(Selection(arch=(args.arch,), machine=args.machine))
    return target


def check_resumed(args: argparse.Namespace) -> None:
    """Reject options that a resumed run takes from its start.

    Raises:
        InputError: one of them is set.
    """
    from bootmatrix.errors import InputError

    if any(vars(args)[name] for name in OF_THE_RUN):
        raise InputError(
            "--resume cannot be combined with MATRIX or SPEC arguments, nor with options that choose cells or change "
            "their guests: --arch, --kernel, --image, --qemu-args, --flaky, --boot, --verify-fork, --locked, "
            "--allow-empty, --page-size, --bits, --endian, --cpu, --machine, --memory, --cpus, --append, "
            "--timeout, --roots, --tier, --get-limit, --network, --only, --shard, --budget and --rerun-failed"
        )


def profiles() -> dict[str, Profile]:
    """Load all profiles by name, with the custom kernels."""
    from bootmatrix.load.data_paths import arch_folders
    from bootmatrix.load.kernels import kernels_file, with_custom_kernels
    from bootmatrix.load.profile import load_profiles

    return with_custom_kernels(load_profiles(arch_folders()), kernels_file())


def print_table(*parts: RenderableType) -> None:
    """Print tables. Wrapped text may start a line with a guest's words, so commands in it are disarmed."""
    from bootmatrix.report.sanitize import disarmed

    console = table_console()
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    print(disarmed(capture.get()), end="")


def table_console() -> Console:
    """Open a console for tables, as wide as the terminal; in a file or pipe wide enough for whole words."""
    import sys

    from rich.console import Console

    from bootmatrix.cli.streams import styled

    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(file=styled(sys.stdout), highlight=False, width=None if is_known else WIDE)


def reports_of(args: argparse.Namespace) -> Path:
    """Return the folder of runs: `--reports`, else `BOOTMATRIX_REPORTS`, else `reports`."""
    from bootmatrix.history.reference import reports_folder

    return reports_folder(args.reports)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    import json

    print(json.dumps(value, indent=1))


def complain(text: object) -> None:
    """Print a sanitized message on stderr."""
    from bootmatrix.cli.output import say

    say(text, file=sys.stderr)


def print_notes(plan: Plan) -> None:
    """Print the notes of a plan on stderr."""
    for note in plan.notes:
        complain(f"note: {note}")
