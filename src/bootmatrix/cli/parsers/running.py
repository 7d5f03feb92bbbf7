"""Options of commands that boot or prepare guests."""

from argparse import ArgumentParser
from pathlib import Path

from bootmatrix.cli.arguments import (
    FACTS,
    HOLD,
    PORT,
    REPEATED,
    RUN_HELP,
    RUNNING,
    SIZE,
    SOURCES,
    SUBSET,
    add_git_bisect,
    add_selection,
    add_shared,
    add_single,
    command,
    names,
    option,
)
from bootmatrix.cli.parsers import clouds

BUILD_DEFAULT_FORMAT = "kernel+initrd"
BISECT_DESCRIPTION = """\
Boots the archive's kernels between two versions, halving the range until it has the first kernel on which the spec has
another verdict than on the good one. Kernels without a verdict (not available, or a fault of the host) are skipped.
With --tree, it builds and boots the commits that git bisect chooses, and ends with the tree as it was.
Exit status: 0 if the kernel is found, 1 if both ends have the same verdict, 3 if an end has no verdict.
"""


@command("matrix", "boot every spec × architecture × kernel, and write a report")
def _matrix(parser: ArgumentParser) -> None:
    add_selection(parser, required=False)
    add_shared(parser, *FACTS, *SIZE, *SUBSET, *SOURCES, "--qemu-args", "--allow-empty")
    option(parser, "--resume RUN", f"finish a run that was interrupted or killed: {RUN_HELP}")
    option(
        parser,
        "--resume-or-start",
        "finish the newest run of this MATRIX or these SPECs if it was interrupted and nothing has changed since; else "
        "start one",
    )
    add_shared(parser, "--flaky", "--fail-on-warning", *RUNNING)


@command("plan", "print the cells of a matrix, and the skipped ones with the reason")
def _plan(parser: ArgumentParser) -> None:
    add_selection(parser)
    add_shared(parser, *FACTS, *SIZE, *SUBSET, "--reports", "--allow-empty")


@command(
    "run",
    "boot one spec with the console on the terminal",
    description="Boot one spec with the console on the terminal, and print the verdict. With --shell the guest "
    "does not shut down but starts a shell; leave it with 'poweroff -f', or QEMU with Ctrl-A X.",
)
def _run(parser: ArgumentParser) -> None:
    option(
        parser,
        "files SPEC|FILE|PREFIX",
        "a spec, an output of 'bootmatrix build', or the prefix of a kernel and an initrd (PREFIX-kernel, …)",
        nargs=1,
    )
    add_single(parser)
    add_shared(parser, *SIZE, *SOURCES, "--qemu-args", "--roots", "--network", "--fail-on-warning")
    option(parser, "--expect TEXT", "for a guest with another init: the console text that proves a pass")
    option(parser, "--forbid TEXT", "console text that fails the guest", **REPEATED)
    option(parser, "--stays", "the guest does not shut down: stop it after TEXT")
    option(
        parser,
        "--gdb PORT",
        "let the guest wait for gdb on this port of the loopback (default: 1234); no verdict",
        nargs="?",
        type=PORT,
        const=1234,
    )
    add_git_bisect(parser)
    clouds.add_on(parser)
    add_shared(parser, "--notify")
    option(
        parser,
        "--publish [LOCAL:]PORT",
        "run the services until Ctrl-C, and forward this port of the loopback to the guest; no verdict",
        **REPEATED,
    )
    add_shared(parser, *HOLD)
    add_shared(parser, "--explain-hang")
    option(parser, "--shell", "start a shell on the console at the end; no verdict")
    option(
        parser, "--keep FOLDER", "save the console, the guest's files, and diagnostics of a hang or panic", type=Path
    )
    option(parser, "--dump", "with --keep: save the memory of a guest that hangs or panics, for gdb")


@command(
    "build",
    "write one cell as kernel and initrd, disk, ISO, cloud image…",
    description="Write one spec for one architecture and kernel, in any of LinuxKit's formats: docs/formats.md. "
    "'bootmatrix run' boots the result.",
)
def _build(parser: ArgumentParser) -> None:
    option(parser, "files SPEC", "a spec (path or name)", nargs=1)
    add_single(parser)
    add_shared(parser, *SOURCES)
    option(
        parser,
        "-o --output PREFIX",
        "default: SPEC-ARCH-KERNEL in the current folder; '-' writes a format's only file to stdout",
    )
    option(
        parser,
        "-f --format F,…",
        f"formats, or 'list' (default: {BUILD_DEFAULT_FORMAT})",
        type=names,
        default=(BUILD_DEFAULT_FORMAT,),
    )
    option(parser, "--sbom", "also write an SPDX SBOM: PREFIX.spdx.json")


@command("fetch", "download and build everything for a matrix, without booting")
def _fetch(parser: ArgumentParser) -> None:
    add_selection(parser)
    add_shared(parser, "--allow-empty", *SOURCES)
    parser.set_defaults(refresh=True)


@command(
    "lock",
    "write the exact kernels, packages and registry images of a matrix to a lock file, for --locked",
    run="fetch:run_lock",
)
def _lock(parser: ArgumentParser) -> None:
    add_selection(parser)
    add_shared(parser, "--allow-empty", *SOURCES)
    option(parser, "-o --output FILE", "default: MATRIX with .lock for .yml; '-' is stdout", type=Path)
    parser.set_defaults(refresh=True)


@command(
    "bisect",
    "find the first kernel, of the archive or of a git tree, that breaks a spec",
    description=BISECT_DESCRIPTION,
)
def _bisect(parser: ArgumentParser) -> None:
    option(parser, "files SPEC", "a spec (path or name)", nargs=1)
    option(parser, "--arch A[/MACHINE]", "one architecture", required=True)
    option(parser, "--good VERSION", "a version or its prefix: 6.12.43; or a commit", required=True)
    option(parser, "--bad VERSION", "a newer or older version, or commit", required=True)
    option(parser, "--kernel K", "kernel name with the flavour (default: by version)", default="")
    option(parser, "--distro NAME", "search the releases of this distribution", default="")
    group = parser.add_argument_group("commits of a git tree")
    option(group, "--tree FOLDER", "the work tree, without uncommitted changes", type=Path)
    option(group, "--build CMD", "shell command that builds a commit; one that fails is skipped")
    option(group, "--built PATH", "the kernel that it makes (default: the tree itself)", type=Path)
    option(group, "--match TEXT", "only a verdict TEXT, or a reason that contains TEXT, is bad")
    add_shared(parser, *SOURCES, "--jobs")
    option(parser, "--reports FOLDER", "folder of runs (default: reports)", type=Path)
