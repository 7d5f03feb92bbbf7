"""Arguments shared by several commands."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""Type of the commands of a parser."""
RUN_HELP = "a folder under reports/, 'latest', 'last-good', 'tag:NAME' or 'branch:NAME'"


def add_selection(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add MATRIX or SPEC…, --arch and --kernel."""
    count = "+" if required else "*"
    parser.add_argument("files", nargs=count, metavar="MATRIX|SPEC", help="a *.matrix.yml, or specs (path or name)")
    add_targets(parser)


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Add --arch and --kernel."""
    parser.add_argument(
        "--arch",
        type=names,
        default=(),
        metavar="A[/MACHINE][@CPU],…",
        help="architectures, or 'all'; A/all: all machines of A, @CPU: one of its CPU models",
    )
    parser.add_argument("--kernel", type=names, default=(), metavar="K,…", help="kernel names, such as 6.1,newest")


def add_facts(parser: argparse.ArgumentParser) -> None:
    """Add --page-size, --bits, --endian and --cpu: kernels and machines by facts."""
    parser.add_argument(
        "--page-size",
        type=page_sizes,
        default=(),
        metavar="4k,…",
        help="kernels of these page sizes (4k, 16k, 64k), or 'all'; without --kernel, of any version",
    )
    parser.add_argument("--bits", type=bits, default=(), metavar="32|64", help="only architectures of this word size")
    parser.add_argument(
        "--endian", type=endians, default=(), metavar="little|big", help="only architectures of this byte order"
    )
    parser.add_argument("--cpu", type=names, default=(), metavar="CPU,…", help="these CPU models, or 'all'")


def add_size(parser: argparse.ArgumentParser) -> None:
    """Add --machine, --memory, --cpus, --append and --timeout."""
    parser.add_argument("--machine", metavar="M", help="board of the architecture, as in --arch A/M")
    parser.add_argument("--memory", metavar="SIZE", help="memory of a guest: 512M, 2G, or 'auto': as its initrd needs")
    parser.add_argument("--cpus", type=int, metavar="N", help="CPUs of a guest")
    parser.add_argument(
        "--append", action="append", default=[], metavar="WORDS", help="append words to the kernel command line"
    )
    parser.add_argument(
        "--timeout", metavar="TIME", help="time limit of containers and checks, such as 90s, for the fastest machine"
    )


def page_sizes(text: str) -> tuple[str, ...]:
    """Parse page sizes separated by commas: `4k`, `64K`, `all`."""
    sizes = tuple(name.lower() for name in names(text))
    known = ("all", "4k", "8k", "16k", "32k", "64k", "256k")
    for size in sizes:
        if size not in known:
            raise argparse.ArgumentTypeError(f"{size!r} must be one of {', '.join(known)}")
    return sizes


def bits(text: str) -> tuple[int, ...]:
    """Parse word sizes separated by commas."""
    if not set(names(text)) <= {"32", "64"}:
        raise argparse.ArgumentTypeError(f"{text!r} must be 32 or 64")
    return tuple(map(int, names(text)))


def endians(text: str) -> tuple[str, ...]:
    """Parse byte orders separated by commas."""
    if not set(names(text)) <= {"little", "big"}:
        raise argparse.ArgumentTypeError(f"{text!r} must be little or big")
    return names(text)


def add_subset(parser: argparse.ArgumentParser) -> None:
    """Add --only, --shard, --budget and --rerun-failed."""
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="only cells whose id matches: 'influxdb/*/6.1'"
    )
    parser.add_argument(
        "--rerun-failed",
        default="",
        metavar="RUN",
        help=f"only cells of this run that are not as expected: {RUN_HELP}",
    )
    parser.add_argument(
        "--shard",
        default="",
        metavar="I/N",
        help="only part I of N, of about equal time; 'bootmatrix merge' joins them",
    )
    parser.add_argument(
        "--budget",
        default="",
        metavar="TIME",
        help="run what is worth most within a time, such as 15m: new, failed lately, flaky, changed, longest not run",
    )


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


def add_downloads(parser: argparse.ArgumentParser) -> None:
    """Add --offline, --cache, --archive and --allow-older-release."""
    parser.add_argument("--offline", action="store_true", help="download nothing: use only the cache")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="folder for downloads and builds")
    parser.add_argument("--archive", metavar="URL", help="address of the Debian archive")
    parser.add_argument(
        "--allow-older-release",
        action="store_true",
        help="accept a suite's release that is older than one seen before, such as a snapshot's",
    )


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add --offline, --locked, --cache, --archive, --allow-older-release and --image."""
    add_downloads(parser)
    parser.add_argument(
        "--locked",
        nargs="?",
        const=True,
        default=None,
        metavar="FILE",
        help="use only the packages of a lock file (default: the file that 'bootmatrix lock' writes beside the matrix)",
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


def add_roots(parser: argparse.ArgumentParser) -> None:
    """Add --roots PLACE."""
    parser.add_argument(
        "--roots",
        choices=("auto", "ram", "disk"),
        help="where the roots of containers are in a cold boot (default auto: those of large images on read-only "
        "disks, others in RAM)",
    )


def add_tier(parser: argparse.ArgumentParser) -> None:
    """Add --tier NAMES."""
    parser.add_argument(
        "--tier",
        type=tiers,
        default=(),
        metavar="T,…",
        help="system: guests with their own kernels (default); user: programs on this host's kernel, by user-mode "
        "emulation, with verdicts of their own",
    )


def tiers(text: str) -> tuple[str, ...]:
    """Parse names of tiers."""
    chosen = names(text)
    for name in chosen:
        if name not in {"user", "system"}:
            raise argparse.ArgumentTypeError(f"{name!r} must be user or system")
    return chosen


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
        help="exit with status 1 only for regressions from the baseline (default baseline: last-good), not for every "
        "unexpected verdict",
    )


def add_notify(parser: argparse.ArgumentParser) -> None:
    """Add --notify URL."""
    parser.add_argument(
        "--notify",
        action="append",
        default=[],
        metavar="URL",
        help="tell the result to this service, as apprise names it: slack://…, mailto://…, json://…; may be repeated "
        "(default: BOOTMATRIX_NOTIFY, which keeps tokens out of the list of processes)",
    )


def add_single_file(parser: argparse.ArgumentParser) -> None:
    """Add --single-file."""
    parser.add_argument(
        "--single-file",
        action="store_true",
        help="fold the consoles into report.html, to send it as one file (default: a page for each cell)",
    )


def period(text: str) -> float:
    """Parse a time such as `6h`, `90m` or `45s` as seconds; `90min` is the older spelling."""
    match = re.fullmatch(r"(\d{1,6})(s|m|min|h|d)", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} must be a time, such as 6h, 90m or 45s")
    return float(int(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[match[2]])


def add_flaky(parser: argparse.ArgumentParser) -> None:
    """Add --flaky N."""
    parser.add_argument(
        "--flaky",
        type=times,
        metavar="N",
        help="retry failed cells up to N times; a cell that then passes is 'flaky', never a pass",
    )


def add_fail_on_warning(parser: argparse.ArgumentParser) -> None:
    """Add --fail-on-warning."""
    parser.add_argument(
        "--fail-on-warning",
        action="store_true",
        help="a warning of the kernel (WARN, UBSAN) fails the cell; 'fail_on' in a matrix chooses more messages",
    )


def add_get_limit(parser: argparse.ArgumentParser) -> None:
    """Add --get-limit SIZE."""
    parser.add_argument(
        "--get-limit",
        metavar="SIZE",
        help="limit of a cell's result files, such as 4G (default: 64M for a file that a spec names, 1G in all)",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add --network."""
    parser.add_argument(
        "--network",
        choices=("none", "guest", "outbound"),
        help="network of the guests: none; a card on a network of its own; or one that leads to the internet, but not "
        "to this host or a private network (default: as the spec says)",
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options for executing a plan."""
    parser.add_argument("--jobs", type=int, metavar="N", help="host cores to use (default: all)")
    parser.add_argument(
        "--boot",
        choices=("cold", "fork"),
        help="fork: boot one guest per machine, kernel and init, and run cells in copies of it (default: cold)",
    )
    add_roots(parser)
    add_tier(parser)
    add_get_limit(parser)
    add_network(parser)
    parser.add_argument(
        "--verify-fork",
        type=int,
        metavar="N",
        help="with --boot fork: boot N of the cells cold as well, and compare the results",
    )
    parser.add_argument(
        "--executor", default="local", metavar="NAME", help="executor of the cells (default: this host)"
    )
    parser.add_argument(
        "--cluster",
        metavar="FILE|ADDRESS",
        help="with --executor dask: hosts.yml, slurm.yml, or a scheduler's file (default: a worker on this host)",
    )
    add_single_file(parser)
    add_baseline(parser)
    add_notify(parser)
    parser.add_argument(
        "--deadline",
        type=period,
        metavar="TIME",
        help="stop all guests after this time, such as 6h or 90m; the rest counts as interrupted",
    )
    parser.add_argument(
        "--branch",
        metavar="NAME",
        help="the branch under test, for --baseline branch:NAME (default: BOOTMATRIX_BRANCH, or that of the CI system)",
    )
    add_reports(parser)
    add_hold(parser)
    parser.add_argument(
        "--dump",
        action="store_true",
        help="save the memory of guests that hang, panic or time out, for gdb",
    )
    parser.add_argument(
        "--explain-hang",
        action="store_true",
        help="boot a kernel that hangs a second time, with initcall_debug, and tell where: initcall, function",
    )


def add_hold(parser: argparse.ArgumentParser) -> None:
    """Add --hold-on-fail and --keep-alive."""
    parser.add_argument(
        "--hold-on-fail",
        action="store_true",
        help="keep the first guest that fails, for 'bootmatrix shell --guest ID'; the run goes on beside it",
    )
    parser.add_argument(
        "--keep-alive", metavar="TIME", help="with --hold-on-fail: until it was unused for so long (default: 10m)"
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


def add_git_bisect(parser: argparse.ArgumentParser) -> None:
    """Add the options for `git bisect run`."""
    group = parser.add_argument_group("git bisect run")
    group.add_argument(
        "--git-bisect",
        action="store_true",
        help="exit with 0 for a good commit, 1 for a bad one, 125 for one that cannot be tested",
    )
    group.add_argument("--build", metavar="CMD", help="run this shell command first; if it fails: cannot be tested")
    group.add_argument(
        "--match",
        metavar="TEXT",
        help="only a verdict TEXT, or a reason with TEXT in it, is bad: others cannot be tested",
    )
