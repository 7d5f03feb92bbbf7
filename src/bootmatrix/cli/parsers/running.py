"""Options of commands that boot or prepare guests."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands
from bootmatrix.cli.parsers import clouds

BUILD_DEFAULT_FORMAT = "kernel+initrd"
BISECT_DESCRIPTION = """\
Boots the archive's kernels between two versions, halving the range until it has the first kernel on which the spec has
another verdict than on the good one. Kernels without a verdict (not available, or a fault of the host) are skipped.
With --tree, it builds and boots the commits that git bisect chooses, and ends with the tree as it was.
Exit status: 0 if the kernel is found, 1 if both ends have the same verdict, 3 if an end has no verdict.
"""


def add_matrix(commands: Commands) -> None:
    """Add the options of `matrix`."""
    parser = arguments.add_command(commands, "matrix", "boot every spec × architecture × kernel, and write a report")
    arguments.add_selection(parser, required=False)
    arguments.add(
        parser, *arguments.FACTS, *arguments.SIZE, *arguments.SUBSET, *arguments.SOURCES, "--qemu-args", "--allow-empty"
    )
    parser.add_argument(
        "--resume", metavar="RUN", help=f"finish a run that was interrupted or killed: {arguments.RUN_HELP}"
    )
    arguments.add(parser, "--flaky", "--fail-on-warning", *arguments.RUNNING)


def add_plan(commands: Commands) -> None:
    """Add the options of `plan`."""
    parser = arguments.add_command(
        commands, "plan", "print the cells of a matrix, and the skipped ones with the reason"
    )
    arguments.add_selection(parser)
    arguments.add(parser, *arguments.FACTS, *arguments.SIZE, *arguments.SUBSET, "--reports", "--allow-empty")


def add_run(commands: Commands) -> None:
    """Add the options of `run`."""
    parser = arguments.add_command(
        commands,
        "run",
        "boot one spec with the console on the terminal",
        description="Boot one spec with the console on the terminal, and print the verdict. With --shell the guest "
        "does not shut down but starts a shell; leave it with 'poweroff -f', or QEMU with Ctrl-A X.",
    )
    parser.add_argument(
        "files",
        nargs=1,
        metavar="SPEC|FILE|PREFIX",
        help="a spec, an output of 'bootmatrix build', or the prefix of a kernel and an initrd (PREFIX-kernel, …)",
    )
    arguments.add_single(parser)
    arguments.add(parser, *arguments.SIZE, *arguments.SOURCES, "--qemu-args", "--roots", "--fail-on-warning")
    parser.add_argument(
        "--expect", metavar="TEXT", help="for a guest with another init: the console text that proves a pass"
    )
    parser.add_argument(
        "--forbid", action="append", default=[], metavar="TEXT", help="console text that fails the guest"
    )
    parser.add_argument("--stays", action="store_true", help="the guest does not shut down: stop it after TEXT")
    parser.add_argument(
        "--gdb",
        nargs="?",
        type=int,
        const=1234,
        metavar="PORT",
        help="let the guest wait for gdb on this port of the loopback (default: 1234); no verdict",
    )
    arguments.add_git_bisect(parser)
    clouds.add_on(parser)
    arguments.add(parser, "--notify")
    parser.add_argument(
        "--publish",
        action="append",
        default=[],
        metavar="[LOCAL:]PORT",
        help="run the services until Ctrl-C, and forward this port of the loopback to the guest; no verdict",
    )
    arguments.add(parser, *arguments.HOLD)
    arguments.add(parser, "--explain-hang")
    parser.add_argument("--shell", action="store_true", help="start a shell on the console at the end; no verdict")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="save the console, the guest's files, and diagnostics of a hang or panic",
    )
    parser.add_argument(
        "--dump", action="store_true", help="with --keep: save the memory of a guest that hangs or panics, for gdb"
    )


def add_build(commands: Commands) -> None:
    """Add the options of `build`."""
    parser = arguments.add_command(
        commands,
        "build",
        "write one cell as kernel and initrd, disk, ISO, cloud image…",
        description="Write one spec for one architecture and kernel, in any of LinuxKit's formats: docs/formats.md. "
        "'bootmatrix run' boots the result.",
    )
    parser.add_argument("files", nargs=1, metavar="SPEC", help="a spec (path or name)")
    arguments.add_single(parser)
    arguments.add(parser, *arguments.SOURCES)
    parser.add_argument(
        "-o",
        "--output",
        metavar="PREFIX",
        help="default: SPEC-ARCH-KERNEL in the current folder; '-' writes a format's only file to stdout",
    )
    parser.add_argument(
        "-f",
        "--format",
        type=arguments.names,
        default=(BUILD_DEFAULT_FORMAT,),
        metavar="F,…",
        help=f"formats, or 'list' (default: {BUILD_DEFAULT_FORMAT})",
    )
    parser.add_argument("--sbom", action="store_true", help="also write an SPDX SBOM: PREFIX.spdx.json")


def add_fetch(commands: Commands) -> None:
    """Add the options of `fetch`."""
    parser = arguments.add_command(commands, "fetch", "download and build everything for a matrix, without booting")
    arguments.add_selection(parser)
    arguments.add(parser, "--allow-empty", *arguments.SOURCES)
    parser.set_defaults(refresh=True)


def add_lock(commands: Commands) -> None:
    """Add the options of `lock`."""
    words = "write the exact kernels, packages and registry images of a matrix to a lock file, for --locked"
    parser = arguments.add_command(commands, "lock", words, run="fetch:run_lock")
    arguments.add_selection(parser)
    arguments.add(parser, "--allow-empty", *arguments.SOURCES)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: MATRIX with .lock for .yml; '-' is stdout"
    )
    parser.set_defaults(refresh=True)


def add_bisect(commands: Commands) -> None:
    """Add the options of `bisect`."""
    parser = arguments.add_command(
        commands,
        "bisect",
        "find the first kernel, of the archive or of a git tree, that breaks a spec",
        description=BISECT_DESCRIPTION,
    )
    parser.add_argument("files", nargs=1, metavar="SPEC", help="a spec (path or name)")
    parser.add_argument("--arch", required=True, metavar="A[/MACHINE]", help="one architecture")
    parser.add_argument(
        "--good", required=True, metavar="VERSION", help="a version or its prefix: 6.12.43; or a commit"
    )
    parser.add_argument("--bad", required=True, metavar="VERSION", help="a newer or older version, or commit")
    parser.add_argument("--kernel", default="", metavar="K", help="kernel name with the flavour (default: by version)")
    parser.add_argument("--distro", default="", metavar="NAME", help="search the releases of this distribution")
    group = parser.add_argument_group("commits of a git tree")
    group.add_argument("--tree", type=Path, metavar="FOLDER", help="the work tree, without uncommitted changes")
    group.add_argument("--build", metavar="CMD", help="shell command that builds a commit; one that fails is skipped")
    group.add_argument("--built", type=Path, metavar="PATH", help="the kernel that it makes (default: the tree itself)")
    group.add_argument("--match", metavar="TEXT", help="only a verdict TEXT, or a reason that contains TEXT, is bad")
    arguments.add(parser, *arguments.SOURCES, "--jobs")
    parser.add_argument("--reports", type=Path, metavar="FOLDER", help="folder of runs (default: reports)")
