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

    from bootmatrix.model import Profile
    from bootmatrix.workspace.workspace import Selection, Workspace


WIDE = 160
OF_THE_RUN = (
    *("files", "arch", "kernel", "image", "qemu_args", "flaky", "boot", "verify_fork", "locked", "reports"),
    "allow_empty",
)
"""Arguments that a run keeps from its beginning."""
RUN_HELP = "a folder under reports/, 'latest', or 'tag:NAME'"


def add_selection(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """MATRIX or SPEC…, --arch, --kernel."""
    count = "+" if required else "*"
    parser.add_argument("files", nargs=count, metavar="MATRIX|SPEC", help="a *.matrix.yml, or specs (path or name)")
    parser.add_argument(
        "--arch",
        type=names,
        default=(),
        metavar="A[/MACHINE][@CPU],…",
        help="architectures, or 'all'; A/all is all of its machines, @CPU one of its CPU models",
    )
    parser.add_argument("--kernel", type=names, default=(), metavar="K,…", help="kernel names, such as 6.1,newest")


def add_allow_empty(parser: argparse.ArgumentParser) -> None:
    """--allow-empty."""
    parser.add_argument(
        "--allow-empty",
        action="store_true",
        help="exit status 0 also where no cell is left to run; without this, nothing tested is bad input",
    )


def add_single(parser: argparse.ArgumentParser) -> None:
    """--arch A --kernel K."""
    parser.add_argument("--arch", required=True, metavar="A[/MACHINE]", help="one architecture")
    parser.add_argument("--kernel", default="6.1", metavar="K", help="one kernel name (default: 6.1)")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """--offline, --locked, --cache, --archive."""
    parser.add_argument("--offline", action="store_true", help="download nothing: what is not in the cache is missing")
    parser.add_argument(
        "--locked",
        nargs="?",
        const=True,
        default=None,
        metavar="FILE",
        help="use just the packages of a lock file (default: the one that 'bootmatrix lock' writes beside the matrix)",
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where downloads and builds are kept")
    parser.add_argument("--archive", metavar="URL", help="address of the Debian archive")
    parser.add_argument(
        "--allow-older-release",
        action="store_true",
        help="take a suite's release although a newer one was seen before, as a snapshot's is",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="take images that are called so (a name or a glob) from there: docker://, docker-daemon:, oci:, "
        "oci-archive:, docker-archive:, tar:, @pkg: (docs/images.md)",
    )


def add_qemu_args(parser: argparse.ArgumentParser) -> None:
    """--qemu-args TEXT."""
    parser.add_argument(
        "--qemu-args",
        action="append",
        default=[],
        metavar="TEXT",
        help="further arguments of QEMU, as a shell would split them: '-device edu -rtc base=2030-01-01'",
    )


def add_reports(parser: argparse.ArgumentParser, below: bool = False) -> None:
    """--reports FOLDER; `below` a command that has it too, what that one was given stays."""
    parser.add_argument(
        "--reports",
        type=Path,
        default=argparse.SUPPRESS if below else None,
        metavar="FOLDER",
        help="where runs are kept (default: BOOTMATRIX_REPORTS, else reports)",
    )


def add_baseline(parser: argparse.ArgumentParser) -> None:
    """--baseline RUN, --fail-on regression."""
    parser.add_argument("--baseline", metavar="RUN", help=f"compare with this run: {RUN_HELP}")
    parser.add_argument(
        "--fail-on",
        choices=("regression",),
        help="exit status 1 only for what is worse than in the baseline (default baseline: latest); without this, for "
        "every verdict that is not as expected",
    )


def add_single_file(parser: argparse.ArgumentParser) -> None:
    """--single-file."""
    parser.add_argument(
        "--single-file",
        action="store_true",
        help="fold the consoles into report.html, for sending it alone; without this each cell has a page beside it",
    )


def times(text: str) -> int:
    """How often something is tried again."""
    from bootmatrix.model.matrix import MAX_AGAIN

    if not text.isdecimal() or int(text) > MAX_AGAIN:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MAX_AGAIN}")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them: at least one, as none would stand for all."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} has no name in it")
    return found


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
    from bootmatrix.load.kernels import kernels_file, with_own
    from bootmatrix.load.profile import load_profiles

    return with_own(load_profiles(arch_folders()), kernels_file())


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
