"""Arguments shared by several commands."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""Type of the commands of a parser."""
RUN_HELP = "a folder under reports/, 'latest', 'latest:TITLE', 'last-good', 'tag:NAME' or 'branch:NAME'"
TIERS = ("user", "docker", "hardware", "system")
MOST = 1_000_000_000
PAGE_SIZES = ("all", "4k", "8k", "16k", "32k", "64k", "256k")


def names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas. An empty list is an error: it would mean all."""
    words = tuple(name.strip() for name in text.split(",") if name.strip())
    if not words:
        raise argparse.ArgumentTypeError(f"{text!r} contains no name")
    return words


def some_of(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of names separated by commas, of which each is `allowed`."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = names(text.lower())
        for name in chosen:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} must be one of {', '.join(allowed)}")
        return chosen

    return parse


def bits(text: str) -> tuple[int, ...]:
    """Parse word sizes separated by commas."""
    return tuple(map(int, some_of("32", "64")(text)))


def widths(text: str) -> tuple[str | int, ...]:
    """Parse widths of addresses separated by commas: `39`, `48`, `all`."""
    for word in names(text):
        if word != "all" and not re.fullmatch(r"3[1-9]|[45]\d|6[0-4]", word):
            raise argparse.ArgumentTypeError(f"{word!r} must be a number of bits, such as 48, or all")
    return tuple(int(word) if word.isdigit() else word for word in names(text))


def amount(text: str) -> float:
    """Parse a number in digits, such as a price."""
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} must be a number of at least 0")
    return float(text)


def whole(least: int = 0, most: int = MOST) -> Callable[[str], int]:
    """Return a parser of whole numbers in digits."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
            limits = f"from {least} to {most}" if most < MOST else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"{text[:40]!r} must be a number {limits}")
        return int(text)

    return parse


NUMBER, POSITIVE, PORT = whole(), whole(1), whole(1, 65535)


def period(text: str) -> float:
    """Parse a time such as `6h` or `45s` as seconds; `90min` is older."""
    match = re.fullmatch(r"([0-9]{1,6})(s|m|min|h|d)", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} must be a time, such as 6h, 90m or 45s")
    return float(int(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[match[2]])


def times(text: str) -> int:
    """Parse a number of retries."""
    from bootmatrix.model.matrix import MAX_AGAIN

    return whole(0, MAX_AGAIN)(text)


NAMES: dict[str, Any] = {"type": names, "default": ()}
REPEATED: dict[str, Any] = {"action": "append", "default": []}


def details(name: str, words: str | None = None, **more: Any) -> tuple[list[str], dict[str, Any]]:
    """Return argparse's names and keywords of an argument, as its help shows it.

    `--flag`; `-o --output FILE`, with a value; `files SPEC`, an argument by its place.
    """
    parts = name.split(" ")
    count = sum(part.startswith("-") for part in parts[:2]) or 1
    value = " ".join(parts[count:])
    keywords = {"metavar": value} if value else {} if more.keys() & {"choices", "type"} else {"action": "store_true"}
    return parts[:count], {**keywords, "help": words, **more}


def option(parser: argparse._ActionsContainer, name: str, words: str | None = None, **more: Any) -> None:
    """Add an argument: see `details`."""
    names, keywords = details(name, words, **more)
    parser.add_argument(*names, **keywords)


OPTIONS: dict[str, dict[str, Any]] = {
    names[0]: settings
    for names, settings in (
        details("run_name RUN", RUN_HELP),
        details("--allow-empty", "exit with status 0 even if no cell is left to run (default: bad input)"),
        details(
            "--allow-older-release", "accept a suite's release that is older than one seen before, such as a snapshot's"
        ),
        details("--append WORDS", "append words to the kernel command line", **REPEATED),
        details(
            "--arch A[/MACHINE][@CPU],…",
            "architectures, or 'all'; A/all: all machines of A, @CPU: one of its CPU models",
            **NAMES,
        ),
        details("--archive URL", "address of the Debian archive"),
        details("--baseline RUN", f"compare with this run: {RUN_HELP}"),
        details("--bits 32|64", "only architectures of this word size", type=bits, default=()),
        details(
            "--boot",
            "fork: boot one guest per machine, kernel and init, and run cells in copies of it (default: cold)",
            choices=("cold", "fork"),
        ),
        details(
            "--branch NAME",
            "the branch under test, for --baseline branch:NAME (default: BOOTMATRIX_BRANCH, or that of the CI system)",
        ),
        details(
            "--budget TIME",
            "run the most valuable cells within this time, such as 15m: new, recently failed, flapping, changed, "
            "least recently run",
            default="",
        ),
        details("--cache FOLDER", "folder for downloads and builds", type=Path),
        details(
            "--cluster FILE",
            "with --executor dask: hosts.yml, slurm.yml, ec2.yml, or a Dask scheduler, as a file or tls://HOST:PORT "
            "(default: a worker on this host); with --tier hardware: boards",
        ),
        details("--cpu CPU,…", "these CPU models, or 'all'", **NAMES),
        details("--cpus N", "CPUs of a guest", type=NUMBER),
        details(
            "--deadline TIME",
            "stop all guests after this time, such as 6h or 90m; the remaining cells count as interrupted",
            type=period,
        ),
        details("--dump", "save the memory of guests that hang, panic or time out, for gdb"),
        details("--disk SIZE", "a scratch disk of this size takes what containers write: 4G (default: RAM does)"),
        details(
            "--endian little|big", "only architectures of this byte order", type=some_of("little", "big"), default=()
        ),
        details("--env NAME=VALUE", "set an environment variable; may be repeated", **REPEATED),
        details("--executor NAME", "executor of the cells: local (default), dask, or a plug-in", default=""),
        details(
            "--explain-hang",
            "boot a hanging kernel again, with initcall_debug, and report where it hangs: initcall and function",
        ),
        details(
            "--fail-on",
            "exit with status 1 only for regressions from the baseline (default baseline: last-good), not for "
            "every unexpected verdict",
            choices=("regression",),
        ),
        details(
            "--fail-on-warning",
            "fail cells with a kernel warning (WARN, UBSAN); 'fail_on' in a matrix selects more messages",
        ),
        details(
            "--flaky N",
            "retry failed cells up to N times; a cell that then passes is 'flaky', never a pass",
            type=times,
        ),
        details("--get PATH", "copy a file or folder of the guest into the report; may be repeated", **REPEATED),
        details(
            "--get-limit SIZE",
            "limit of a cell's result files, such as 4G (default: 64M for a file that a spec names, 1G in all)",
        ),
        details(
            "--hold-on-fail",
            "keep the first guest that fails, for 'bootmatrix shell --guest ID'; the run goes on beside it",
        ),
        details(
            "--image NAME=SOURCE",
            "replace images whose name matches NAME (a glob) by SOURCE: docker://, docker-daemon:, oci:, "
            "oci-archive:, docker-archive:, tar:, @pkg: (docs/images.md)",
            **REPEATED,
        ),
        details("--jobs N", "host cores to use (default: all)", type=POSITIVE),
        details("--json", "print JSON"),
        details(
            "--keep-alive TIME",
            "with --hold-on-fail: stop the guest after it has been unused for this long (default: 10m)",
        ),
        details(
            "--kernel-bits 32|64",
            "only architectures whose kernels have this word size: with --bits 32, programs on 64-bit kernels",
            type=bits,
            default=(),
        ),
        details("--kernel K,…", "kernel names, such as 6.1,newest", **NAMES),
        details(
            "--locked FILE",
            "use only the packages of a lock file (default: the file that 'bootmatrix lock' writes beside the matrix)",
            nargs="?",
            const=True,
        ),
        details("--machine M", "board of the architecture, as in --arch A/M"),
        details("--memory SIZE", "memory of a guest: 512M, 2G, or 'auto': as its initrd needs"),
        details(
            "--network",
            "network of the guests: none; a card on a network of its own; or one that leads to the internet, but "
            "not to this host or a private network (default: as the spec says)",
            choices=("none", "guest", "outbound"),
        ),
        details(
            "--notify URL",
            "send the result to this service, by its address for apprise: slack://…, mailto://…, json://…; may be "
            "repeated (default: BOOTMATRIX_NOTIFY, which keeps tokens out of the list of processes)",
            **REPEATED,
        ),
        details("--offline", "download nothing: use only the cache"),
        details("--only GLOB", "only cells whose id matches: 'influxdb/*/6.1'", **REPEATED),
        details(
            "--page-size 4k,…",
            "kernels of these page sizes (4k, 16k, 64k), or 'all'; without --kernel, of any version",
            type=some_of(*PAGE_SIZES),
            default=(),
        ),
        details(
            "--qemu-args TEXT",
            "additional QEMU arguments, split as in a shell: '-device edu -rtc base=2030-01-01'",
            **REPEATED,
        ),
        details("--reports FOLDER", "folder of runs (default: BOOTMATRIX_REPORTS, else reports)", type=Path),
        details(
            "--rerun-failed RUN", f"only the cells of this run without the expected verdict: {RUN_HELP}", default=""
        ),
        details(
            "--roots",
            "place of containers' root file systems in a cold boot (default: auto, which puts those of large "
            "images on read-only disks, and others in RAM)",
            choices=("auto", "ram", "disk"),
        ),
        details("--shard I/N", "only part I of N, of about equal time; 'bootmatrix merge' joins them", default=""),
        details(
            "--single-file",
            "fold the consoles into report.html, to send it as one file (default: a page for each cell)",
        ),
        details(
            "--tier T,…",
            "system: guests with their own kernels (default). With verdicts of their own, on a kernel that runs "
            "already: user (this host's, by user-mode emulation), docker (a container engine's), hardware (boards of "
            "--cluster)",
            type=some_of(*TIERS),
            default=(),
        ),
        details(
            "--timeout TIME",
            "time limit of containers and checks, such as 90s, on the fastest machine; slower ones get more",
        ),
        details(
            "--va-bits 48,…",
            "CPUs and kernels with addresses of these widths in bits, or 'all'; without --kernel, of any version",
            type=widths,
            default=(),
        ),
        details(
            "--verify-fork N",
            "with --boot fork: boot N of the cells cold as well, and compare the results",
            type=NUMBER,
        ),
    )
}
"""Shared arguments by name, as keywords of argparse."""

TARGETS = ("--arch", "--kernel")
FACTS = ("--page-size", "--va-bits", "--bits", "--kernel-bits", "--endian", "--cpu")
"""Kernels and machines by facts."""
SIZE = ("--machine", "--memory", "--cpus", "--disk", "--append", "--timeout")
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


def add_shared(parser: argparse._ActionsContainer, *shared: str, **changes: Any) -> None:
    """Add shared arguments by their names, with `changes` to each."""
    for name in shared:
        parser.add_argument(name, **OPTIONS[name] | changes)


def add_command(commands: Commands, name: str, words: str, *, run: str = "", **more: Any) -> argparse.ArgumentParser:
    """Add a command with help; `run` is its `module:function` in `cli`."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=words, **more)
    parser.set_defaults(command=run or name)
    return parser


AddOptions: TypeAlias = Callable[[argparse.ArgumentParser], None]
COMMANDS: dict[str, Callable[[Commands], None]] = {}
"""Functions that add a command with its options, by name."""


def command(name: str, words: str, **more: Any) -> Callable[[AddOptions], AddOptions]:
    """Register a command; the decorated function adds its options."""

    def register(add_options: AddOptions) -> AddOptions:
        COMMANDS[name] = lambda commands: add_options(add_command(commands, name, words, **more))
        return add_options

    return register


def add_selection(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add MATRIX or SPEC…, --arch and --kernel."""
    count = "+" if required else "*"
    option(parser, "files MATRIX|SPEC", "a *.matrix.yml, or specs (path or name)", nargs=count)
    add_shared(parser, *TARGETS)


def add_single(parser: argparse.ArgumentParser) -> None:
    """Add --arch A and --kernel K."""
    option(parser, "--arch A[/MACHINE][@CPU]", "one architecture, its board and CPU model", required=True)
    option(parser, "--kernel K", "one kernel name (default: 6.1)", default="6.1")


def add_git_bisect(parser: argparse.ArgumentParser) -> None:
    """Add the options for `git bisect run`."""
    group = parser.add_argument_group("git bisect run")
    option(group, "--git-bisect", "exit with 0 for a good commit, 1 for a bad one, 125 for one that cannot be tested")
    option(group, "--build CMD", "run this shell command first; if it fails, the commit cannot be tested")
    option(
        group, "--match TEXT", "only a verdict TEXT, or a reason that contains TEXT, is bad; others cannot be tested"
    )
