"""Options shared by several commands, and their values."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli.output import complain
from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import arch_folders, beside
from bootmatrix.load.kernels import kernels_file, with_custom_kernels
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Plan, Profile
from bootmatrix.workspace.selection import FACTS, Selection, board_targets

if TYPE_CHECKING:
    from bootmatrix.workspace.workspace import Workspace

OF_THE_RUN = (
    *("files", "arch", "kernel", "image", "qemu_args", "flaky", "boot", "verify_fork", "locked"),
    *("allow_empty", *FACTS, "machine", "memory", "cpus", "disk", "append", "timeout", "roots"),
    *("fail_on_warning", "get_limit", "network"),
    *("only", "shard", "budget", "rerun_failed"),
)
"""Arguments that a resumed run takes from its start."""


COMMIT_VARIABLES = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
"""Environment variables with the commit under test: GitHub's, GitLab's, Jenkins's."""


def commit_under_test() -> str:
    """Return the commit of this CI job; empty elsewhere."""
    return next((value for name in COMMIT_VARIABLES if (value := os.environ.get(name, ""))), "")


def lock_file(args: argparse.Namespace) -> Path:
    """Return the input's lock file: `a.matrix.lock` for `a.matrix.yml`.

    Raises InputError for a link out of the input's project.
    """
    return beside(Path(args.files[0]), ".lock")


def results_folder(folder: Path) -> Path:
    """Make the folder of `--keep`.

    Raises InputError if it cannot be made, or has links, through which results would be written elsewhere.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        link = next((path for path in sorted(folder.iterdir()) if path.is_symlink()), None)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error
    if link:
        raise InputError(f"--keep {folder}: {link.name} in it is a link", "Name an empty folder.")
    return folder


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
    values = {field.name: vars(args)[field.name] for field in fields(Selection) if field.name in vars(args)}
    for name in ("qemu_args", "append", "only"):
        values[name] = tuple(values.get(name, ()))
    return Selection(**values)


def guest_selection(args: argparse.Namespace) -> Selection:
    """Make the selection of a single guest: all but its architecture and kernel."""
    return replace(selection(args), arch=(), kernel=(), machine=None)


def board(args: argparse.Namespace) -> str:
    """Return the machine of a single guest, `arch/machine`."""
    (target,) = board_targets(Selection(arch=(args.arch,), machine=args.machine))
    return target


def check_resumed(args: argparse.Namespace) -> None:
    """Reject options that a resumed run has. Raises InputError if one is set."""
    if any(vars(args)[name] for name in OF_THE_RUN):
        names = sorted(f"--{name.replace('_', '-')}" for name in OF_THE_RUN if name != "files")
        raise InputError(
            "--resume cannot be combined with MATRIX or SPEC arguments, nor with options that choose cells or change "
            f"their guests: {', '.join(names[:-1])} and {names[-1]}"
        )


def profiles() -> dict[str, Profile]:
    """Load all profiles by name, with the custom kernels."""
    return with_custom_kernels(load_profiles(arch_folders()), kernels_file())


def print_notes(plan: Plan) -> None:
    """Print the notes of a plan on stderr."""
    for note in plan.notes:
        complain(f"note: {note}")
