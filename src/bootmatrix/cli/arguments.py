"""Arguments shared by several commands."""

from __future__ import annotations

import argparse
from pathlib import Path

RUN_HELP = "a folder under reports/, 'latest', or 'tag:NAME'"


def add_selection(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add MATRIX or SPEC…, --arch and --kernel."""
    count = "+" if required else "*"
    parser.add_argument("files", nargs=count, metavar="MATRIX|SPEC", help="a *.matrix.yml, or specs (path or name)")
    parser.add_argument(
        "--arch",
        type=names,
        default=(),
        metavar="A[/MACHINE][@CPU],…",
        help="architectures, or 'all'; A/all: all machines of A, @CPU: one of its CPU models",
    )
    parser.add_argument("--kernel", type=names, default=(), metavar="K,…", help="kernel names, such as 6.1,newest")


def add_allow_empty(parser: argparse.ArgumentParser) -> None:
    """Add --allow-empty."""
    parser.add_argument(
        "--allow-empty",
        action="store_true",
        help="exit with status 0 even if no cell is left to run (default: bad input)",
    )


def add_single(parser: argparse.ArgumentParser) -> None:
    """Add --arch A and --kernel K."""
    parser.add_argument("--arch", required=True, metavar="A[/MACHINE]", help="one architecture")
    parser.add_argument("--kernel", default="6.1", metavar="K", help="one kernel name (default: 6.1)")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add --offline, --locked, --cache, --archive, --allow-older-release and --image."""
    parser.add_argument("--offline", action="store_true", help="download nothing: use only the cache")
    parser.add_argument(
        "--locked",
        nargs="?",
        const=True,
        default=None,
        metavar="FILE",
        help="use only the packages of a lock file (default: the file that 'bootmatrix lock' writes beside the matrix)",
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="folder for downloads and builds")
    parser.add_argument("--archive", metavar="URL", help="address of the Debian archive")
    parser.add_argument(
        "--allow-older-release",
        action="store_true",
        help="accept a suite's release that is older than one seen before, such as a snapshot's",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="replace images whose name matches NAME (a glob) by SOURCE: docker://, docker-daemon:, oci:, "
        "oci-archive:, docker-archive:, tar:, @pkg: (docs/images.md)",
    )


def add_qemu_args(parser: argparse.ArgumentParser) -> None:
    """Add --qemu-args TEXT."""
    parser.add_argument(
        "--qemu-args",
        action="append",
        default=[],
        metavar="TEXT",
        help="additional QEMU arguments, split as in a shell: '-device edu -rtc base=2030-01-01'",
    )


def add_reports(parser: argparse.ArgumentParser, subcommand: bool = False) -> None:
    """Add --reports FOLDER. `subcommand` keeps the parent parser's value."""
    parser.add_argument(
        "--reports",
        type=Path,
        default=argparse.SUPPRESS if subcommand else None,
        metavar="FOLDER",
        help="folder of runs (default: BOOTMATRIX_REPORTS, else reports)",
    )


def add_baseline(parser: argparse.ArgumentParser) -> None:
    """Add --baseline RUN and --fail-on regression."""
    parser.add_argument("--baseline", metavar="RUN", help=f"compare with this run: {RUN_HELP}")
    parser.add_argument(
        "--fail-on",
        choices=("regression",),
        help="exit with status 1 only for regressions from the baseline (default baseline: latest), not for every "
        "unexpected verdict",
    )


def add_single_file(parser: argparse.ArgumentParser) -> None:
    """Add --single-file."""
    parser.add_argument(
        "--single-file",
        action="store_true",
        help="fold the consoles into report.html, to send it as one file (default: a page for each cell)",
    )


def times(text: str) -> int:
    """Parse a number of retries."""
    from bootmatrix.model.matrix import MAX_AGAIN

    if not text.isdecimal() or int(text) > MAX_AGAIN:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to {MAX_AGAIN}")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas. An empty list is an error: it would mean all."""
    words = tuple(name.strip() for name in text.split(",") if name.strip())
    if not words:
        raise argparse.ArgumentTypeError(f"{text!r} contains no name")
    return words
