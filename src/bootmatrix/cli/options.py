"""Options that several commands share, and what they stand for."""

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
    from bootmatrix.workspace.workspace import Selection, Workspace


WIDE = 160
OF_THE_RUN = (
    *("files", "arch", "kernel", "image", "qemu_args", "flaky", "boot", "verify_fork", "locked", "reports"),
    "allow_empty",
)
"""Arguments that a run keeps from its beginning."""


def lock_file(args: argparse.Namespace) -> Path:
    """The lock file that belongs to the files named: `influxdb.matrix.yml` has `influxdb.matrix.lock`."""
    return Path(args.files[0]).with_suffix(".lock")


def workspace(args: argparse.Namespace) -> Workspace:
    """The workspace that the options describe. A command without an option of these has its default."""
    from bootmatrix.workspace.workspace import Workspace

    given = vars(args)
    locked = given.get("locked")
    return Workspace(
        cache=given.get("cache"),
        archive=given.get("archive"),
        offline=given.get("offline", False),
        reports=given.get("reports"),
        lock=lock_file(args) if locked is True else Path(locked) if locked else None,
        images=tuple(given.get("image", ())),
        refresh=given.get("refresh", False),
        allow_older_release=given.get("allow_older_release", False),
    )


def selection(args: argparse.Namespace) -> Selection:
    """The selection of cells that the options make."""
    from bootmatrix.workspace.workspace import Selection

    given = {field.name: vars(args)[field.name] for field in fields(Selection) if field.name in vars(args)}
    given["qemu_args"] = tuple(given.get("qemu_args", ()))
    return Selection(**given)


def check_resumed(args: argparse.Namespace) -> None:
    """Refuse options that a run keeps from its beginning.

    Raises:
        InputError: one of them is given.
    """
    from bootmatrix.errors import InputError

    if any(vars(args)[name] for name in OF_THE_RUN):
        raise InputError(
            "--resume takes a run up as it began: name no files with it, and none of --arch, --kernel, --image, "
            "--qemu-args, --flaky, --boot, --verify-fork, --locked, --reports and --allow-empty"
        )


def profiles() -> dict[str, Profile]:
    """All profiles by name, with the user's own kernels."""
    from bootmatrix.load.data_paths import arch_folders
    from bootmatrix.load.kernels import kernels_file, with_custom_kernels
    from bootmatrix.load.profile import load_profiles

    return with_custom_kernels(load_profiles(arch_folders()), kernels_file())


def print_table(*parts: RenderableType) -> None:
    """Print tables, and what belongs to them. A cell that is wrapped may begin a line with the words of a guest."""
    from bootmatrix.report.sanitize import disarmed

    console = table_console()
    with console.capture() as shown:
        for part in parts:
            console.print(part)
    print(disarmed(shown.get()), end="")


def table_console() -> Console:
    """Where a table is printed: as wide as the terminal, and wide enough for whole words in a file or a pipe."""
    import sys

    from rich.console import Console

    from bootmatrix.cli.streams import styled

    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(file=styled(sys.stdout), highlight=False, width=None if is_known else WIDE)


def reports_of(args: argparse.Namespace) -> Path:
    """Where runs are kept: `--reports`, else `BOOTMATRIX_REPORTS`, else `reports` in the current folder."""
    from bootmatrix.history.reference import reports_folder

    return reports_folder(args.reports)


def print_json(value: object) -> None:
    """Print a value for other programs."""
    import json

    print(json.dumps(value, indent=1))


def complain(text: object) -> None:
    """Print what is wrong on stderr. It may quote a spec, a mirror or a package: that is made harmless."""
    from bootmatrix.cli.output import say

    say(text, file=sys.stderr)


def print_notes(plan: Plan) -> None:
    """Print the notes of a plan on stderr."""
    for note in plan.notes:
        complain(f"note: {note}")
