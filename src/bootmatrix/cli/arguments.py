"""Arguments shared by several commands."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""Type of the commands of a parser."""
RUN_HELP = "a folder under reports/, 'latest', 'last-good', 'tag:NAME' or 'branch:NAME'"
TIERS = ("user", "docker", "hardware", "system")
PAGE_SIZES = ("all", "4k", "8k", "16k", "32k", "64k", "256k")


def names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas. An empty list is an error: it would mean all."""
    words = tuple(name.strip() for name in text.split(",") if name.strip())
    if not words:
        raise argparse.ArgumentTypeError(f"{text!r} contains no name")
    return words


def page_sizes(text: str) -> tuple[str, ...]:
    """Parse page sizes separated by commas: `4k`, `64K`, `all`."""
    sizes = tuple(name.lower() for name in names(text))
    for size in sizes:
        if size not in PAGE_SIZES:
            raise argparse.ArgumentTypeError(f"{size!r} must be one of {', '.join(PAGE_SIZES)}")
    return sizes


def bits(text: str) -> tuple[int, ...]:
    """Parse word sizes separated by commas."""
    if not set(names(text)) <= {"32", "64"}:
        raise argparse.ArgumentTypeError(f"{text!r} must be 32 or 64")
    return tuple(map(int, names(text)))


def widths(text: str) -> tuple[str | int, ...]:
    """Parse widths of addresses separated by commas: `39`, `48`, `all`."""
    for word in names(text):
        if word != "all" and not re.fullmatch(r"3[1-9]|[45]\d|6[0-4]", word):
            raise argparse.ArgumentTypeError(f"{word!r} must be a number of bits, such as 48, or all")
    return tuple(int(word) if word.isdigit() else word for word in names(text))


def endians(text: str) -> tuple[str, ...]:
    """Parse byte orders separated by commas."""
    if not set(names(text)) <= {"little", "big"}:
        raise argparse.ArgumentTypeError(f"{text!r} must be little or big")
    return names(text)


def tiers(text: str) -> tuple[str, ...]:
    """Parse names of tiers."""
    chosen = names(text)
    for name in chosen:
        if name not in TIERS:
            raise argparse.ArgumentTypeError(f"{name!r} must be one of {', '.join(TIERS)}")
    return chosen


def amount(text: str) -> float:
    """Parse a finite number that is not negative, such as a price."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of at least 0")
    return value


def period(text: str) -> float:
    """Parse a time such as `6h` or `45s` as seconds; `90min` is older."""
    match = re.fullmatch(r"(\d{1,6})(s|m|min|h|d)", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} must be a time, such as 6h, 90m or 45s")
    return float(int(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[match[2]])


def times(text: str) -> int:
    """Parse a number of retries."""
    from bootmatrix.model.matrix import MAX_AGAIN

    if not text.isdecimal() or int(text) > MAX_AGAIN:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to {MAX_AGAIN}")
    return int(text)


FLAG: dict[str, Any] = {"action": "store_true"}
NAMES: dict[str, Any] = {"type": names, "default": ()}
REPEATED: dict[str, Any] = {"action": "append", "default": []}

OPTIONS: dict[str, dict[str, Any]] = {
    "run_name": {"metavar": "RUN", "help": RUN_HELP},
    "--allow-empty": {**FLAG, "help": "exit with status 0 even if no cell is left to run (default: bad input)"},
    "--allow-older-release": {
        **FLAG,
        "help": "accept a suite's release that is older than one seen before, such as a snapshot's",
    },
    "--append": {**REPEATED, "metavar": "WORDS", "help": "append words to the kernel command line"},
    "--arch": {
        **NAMES,
        "metavar": "A[/MACHINE][@CPU],…",
        "help": "architectures, or 'all'; A/all: all machines of A, @CPU: one of its CPU models",
    },
    "--archive": {"metavar": "URL", "help": "address of the Debian archive"},
    "--baseline": {"metavar": "RUN", "help": f"compare with this run: {RUN_HELP}"},
    "--bits": {"type": bits, "default": (), "metavar": "32|64", "help": "only architectures of this word size"},
    "--boot": {
        "choices": ("cold", "fork"),
        "help": "fork: boot one guest per machine, kernel and init, and run cells in copies of it (default: cold)",
    },
    "--branch": {
        "metavar": "NAME",
        "help": "the branch under test, for --baseline branch:NAME (default: BOOTMATRIX_BRANCH, or that of the CI "
        "system)",
    },
    "--budget": {
        "default": "",
        "metavar": "TIME",
        "help": "run the most valuable cells within this time, such as 15m: new, recently failed, flaky, changed, "
        "least recently run",
    },
    "--cache": {"type": Path, "metavar": "FOLDER", "help": "folder for downloads and builds"},
    "--cluster": {
        "metavar": "FILE|ADDRESS",
        "help": "with --executor dask: hosts.yml, slurm.yml, or a scheduler's file (default: a worker on this host); "
        "with --tier hardware: boards",
    },
    "--cpu": {**NAMES, "metavar": "CPU,…", "help": "these CPU models, or 'all'"},
    "--cpus": {"type": int, "metavar": "N", "help": "CPUs of a guest"},
    "--deadline": {
        "type": period,
        "metavar": "TIME",
        "help": "stop all guests after this time, such as 6h or 90m; the remaining cells count as interrupted",
    },
    "--dump": {**FLAG, "help": "save the memory of guests that hang, panic or time out, for gdb"},
    "--endian": {
        "type": endians,
        "default": (),
        "metavar": "little|big",
        "help": "only architectures of this byte order",
    },
    "--env": {**REPEATED, "metavar": "NAME=VALUE", "help": "set an environment variable; may be repeated"},
    "--executor": {
        "default": "local",
        "metavar": "NAME",
        "help": "executor of the cells: local (default), dask, or a plug-in",
    },
    "--explain-hang": {
        **FLAG,
        "help": "boot a hanging kernel again, with initcall_debug, and report where it hangs: initcall and function",
    },
    "--fail-on": {
        "choices": ("regression",),
        "help": "exit with status 1 only for regressions from the baseline (default baseline: last-good), not for "
        "every unexpected verdict",
    },
    "--fail-on-warning": {
        **FLAG,
        "help": "fail cells with a kernel warning (WARN, UBSAN); 'fail_on' in a matrix selects more messages",
    },
    "--flaky": {
        "type": times,
        "metavar": "N",
        "help": "retry failed cells up to N times; a cell that then passes is 'flaky', never a pass",
    },
    "--get": {
        **REPEATED,
        "metavar": "PATH",
        "help": "copy a file or folder of the guest into the report; may be repeated",
    },
    "--get-limit": {
        "metavar": "SIZE",
        "help": "limit of a cell's result files, such as 4G (default: 64M for a file that a spec names, 1G in all)",
    },
    "--hold-on-fail": {
        **FLAG,
        "help": "keep the first guest that fails, for 'bootmatrix shell --guest ID'; the run goes on beside it",
    },
    "--image": {
        **REPEATED,
        "metavar": "NAME=SOURCE",
        "help": "replace images whose name matches NAME (a glob) by SOURCE: docker://, docker-daemon:, oci:, "
        "oci-archive:, docker-archive:, tar:, @pkg: (docs/images.md)",
    },
    "--jobs": {"type": int, "metavar": "N", "help": "host cores to use (default: all)"},
    "--json": {**FLAG, "help": "print JSON"},
    "--keep-alive": {
        "metavar": "TIME",
        "help": "with --hold-on-fail: stop the guest after it has been unused for this long (default: 10m)",
    },
    "--kernel-bits": {
        "type": bits,
        "default": (),
        "metavar": "32|64",
        "help": "only architectures whose kernels have this word size: with --bits 32, programs on 64-bit kernels",
    },
    "--kernel": {**NAMES, "metavar": "K,…", "help": "kernel names, such as 6.1,newest"},
    "--locked": {
        "nargs": "?",
        "const": True,
        "metavar": "FILE",
        "help": "use only the packages of a lock file (default: the file that 'bootmatrix lock' writes beside the "
        "matrix)",
    },
    "--machine": {"metavar": "M", "help": "board of the architecture, as in --arch A/M"},
    "--memory": {"metavar": "SIZE", "help": "memory of a guest: 512M, 2G, or 'auto': as its initrd needs"},
    "--network": {
        "choices": ("none", "guest", "outbound"),
        "help": "network of the guests: none; a card on a network of its own; or one that leads to the internet, but "
        "not to this host or a private network (default: as the spec says)",
    },
    "--notify": {
        **REPEATED,
        "metavar": "URL",
        "help": "send the result to this service, by its address for apprise: slack://…, mailto://…, json://…; may be "
        "repeated (default: BOOTMATRIX_NOTIFY, which keeps tokens out of the list of processes)",
    },
    "--offline": {**FLAG, "help": "download nothing: use only the cache"},
    "--only": {**REPEATED, "metavar": "GLOB", "help": "only cells whose id matches: 'influxdb/*/6.1'"},
    "--page-size": {
        "type": page_sizes,
        "default": (),
        "metavar": "4k,…",
        "help": "kernels of these page sizes (4k, 16k, 64k), or 'all'; without --kernel, of any version",
    },
    "--qemu-args": {
        **REPEATED,
        "metavar": "TEXT",
        "help": "additional QEMU arguments, split as in a shell: '-device edu -rtc base=2030-01-01'",
    },
    "--reports": {
        "type": Path,
        "metavar": "FOLDER",
        "help": "folder of runs (default: BOOTMATRIX_REPORTS, else reports)",
    },
    "--rerun-failed": {
        "default": "",
        "metavar": "RUN",
        "help": f"only the cells of this run without the expected verdict: {RUN_HELP}",
    },
    "--roots": {
        "choices": ("auto", "ram", "disk"),
        "help": "place of containers' root file systems in a cold boot (default: auto, which puts those of large "
        "images on read-only disks, and others in RAM)",
    },
    "--shard": {
        "default": "",
        "metavar": "I/N",
        "help": "only part I of N, of about equal time; 'bootmatrix merge' joins them",
    },
    "--single-file": {
        **FLAG,
        "help": "fold the consoles into report.html, to send it as one file (default: a page for each cell)",
    },
    "--tier": {
        "type": tiers,
        "default": (),
        "metavar": "T,…",
        "help": "system: guests with their own kernels (default). With verdicts of their own, on a kernel that runs "
        "already: user (this host's, by user-mode emulation), docker (a container engine's), hardware (the boards of "
        "--cluster)",
    },
    "--timeout": {
        "metavar": "TIME",
        "help": "time limit of containers and checks, such as 90s, on the fastest machine; slower ones get more",
    },
    "--va-bits": {
        "type": widths,
        "default": (),
        "metavar": "48,…",
        "help": "CPUs and kernels with addresses of these widths in bits, or 'all'; without --kernel, of any version",
    },
    "--verify-fork": {
        "type": int,
        "metavar": "N",
        "help": "with --boot fork: boot N of the cells cold as well, and compare the results",
    },
}
"""Shared arguments by name, as keywords of argparse."""

TARGETS = ("--arch", "--kernel")
FACTS = ("--page-size", "--va-bits", "--bits", "--kernel-bits", "--endian", "--cpu")
"""Kernels and machines by facts."""
SIZE = ("--machine", "--memory", "--cpus", "--append", "--timeout")
SUBSET = ("--only", "--rerun-failed", "--shard", "--budget")
DOWNLOADS = ("--offline", "--cache", "--archive", "--allow-older-release")
SOURCES = (*DOWNLOADS, "--locked", "--image")
BASELINE = ("--baseline", "--fail-on")
HOLD = ("--hold-on-fail", "--keep-alive")
RUNNING = (
    *("--jobs", "--boot", "--roots", "--tier", "--get-limit", "--network", "--verify-fork", "--executor", "--cluster"),
    *("--single-file", *BASELINE, "--notify", "--deadline", "--branch", "--reports", *HOLD, "--dump", "--explain-hang"),
)
"""The options for executing a plan."""


def add(parser: argparse._ActionsContainer, *shared: str, **changes: Any) -> None:
    """Add shared arguments by their names, with `changes` to each."""
    for name in shared:
        parser.add_argument(name, **OPTIONS[name] | changes)


def add_command(commands: Commands, name: str, words: str, *, run: str = "", **details: Any) -> argparse.ArgumentParser:
    """Add a command with help; `run` is its `module:function` in `cli`."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=words, **details)
    parser.set_defaults(command=run or name)
    return parser


def add_selection(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add MATRIX or SPEC…, --arch and --kernel."""
    count = "+" if required else "*"
    parser.add_argument("files", nargs=count, metavar="MATRIX|SPEC", help="a *.matrix.yml, or specs (path or name)")
    add(parser, *TARGETS)


def add_single(parser: argparse.ArgumentParser) -> None:
    """Add --arch A and --kernel K."""
    parser.add_argument("--arch", required=True, metavar="A[/MACHINE]", help="one architecture")
    parser.add_argument("--kernel", default="6.1", metavar="K", help="one kernel name (default: 6.1)")


def add_git_bisect(parser: argparse.ArgumentParser) -> None:
    """Add the options for `git bisect run`."""
    group = parser.add_argument_group("git bisect run")
    group.add_argument(
        "--git-bisect",
        action="store_true",
        help="exit with 0 for a good commit, 1 for a bad one, 125 for one that cannot be tested",
    )
    group.add_argument(
        "--build", metavar="CMD", help="run this shell command first; if it fails, the commit cannot be tested"
    )
    group.add_argument(
        "--match",
        metavar="TEXT",
        help="only a verdict TEXT, or a reason that contains TEXT, is bad; others cannot be tested",
    )
