"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

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
