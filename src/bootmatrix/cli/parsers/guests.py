"""Options of commands with a running guest: exec, shell, cp, forward, guests."""

from __future__ import annotations

import argparse

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands

EXEC_DESCRIPTION = """\
Run a command in a guest of another architecture or kernel. The current folder appears there below the same path.
Its streams and its exit status are those of the command here: 125 for errors of bootmatrix, 126 and 127 for a command
that cannot be run, 128 and the number for a signal.
"""


def add_guest(parser: argparse.ArgumentParser) -> None:
    """Add --arch, --kernel, --image and the size of one guest."""
    parser.add_argument("--arch", metavar="A[/MACHINE]", help="architecture of the guest")
    parser.add_argument("--guest", metavar="ID", help="a kept or held guest, as 'bootmatrix guests' lists it")
    parser.add_argument("--at", default="", metavar="NAME", help="with --guest: use the root of this container")
    help_text = "kernel of the guest (default: 6.1, or the first one of an architecture without it)"
    parser.add_argument("--kernel", default="default", metavar="K", help=help_text)
    parser.add_argument(
        "--image",
        dest="root_image",
        default="debian-small",
        metavar="I",
        help="image of its root (default: debian-small)",
    )
    arguments.add(parser, "--memory", "--cpus", "--append", "--network", "--offline", "--cache", "--archive")


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add --keep-alive."""
    parser.add_argument(
        "--keep-alive",
        metavar="TIME",
        help="keep the guest for later commands, until it has been unused for this long: 10m",
    )


def add_exec(commands: Commands) -> None:
    """Add the options of `exec`."""
    parser = arguments.add_command(commands, "exec", "run a command in a guest", description=EXEC_DESCRIPTION)
    add_guest(parser)
    add_keep(parser)
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set an environment variable; may be repeated"
    )
    parser.add_argument("--cwd", metavar="FOLDER", help="working folder in the guest (default: the same path as here)")
    parser.add_argument("--user", default="0", metavar="UID[:GID]", help="user and group in the guest (default: 0)")
    parser.add_argument("--get", action="append", default=[], metavar="PATH", help="copy a file or folder back")
    parser.add_argument("--no-tree", action="store_true", help="do not copy the current folder into the guest")
    parser.add_argument("--privileged", action="store_true", help="give the command all capabilities")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND…", help="the command")


def add_shell(commands: Commands) -> None:
    """Add the options of `shell`."""
    parser = arguments.add_command(commands, "shell", "open a shell in a guest", run="exec:run_shell")
    add_guest(parser)
    add_keep(parser)
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set an environment variable; may be repeated"
    )
    parser.add_argument("--tree", action="store_true", help="copy the current folder into the guest")
    parser.add_argument("--privileged", action="store_true", help="give the shell all capabilities")


def add_cp(commands: Commands) -> None:
    """Add the options of `cp`."""
    parser = arguments.add_command(
        commands,
        "cp",
        "copy files into or out of a kept guest",
        run="guests:run_cp",
        description="One of FROM and TO is ID:PATH.",
    )
    parser.add_argument("source", metavar="FROM", help="a path here, or ID:PATH")
    parser.add_argument("target", metavar="TO", help="a path here, or ID:PATH")


def add_forward(commands: Commands) -> None:
    """Add the options of `forward`."""
    parser = arguments.add_command(
        commands,
        "forward",
        "forward ports of this host's loopback into a kept guest, until interrupted",
        run="guests:run_forward",
    )
    parser.add_argument("id", metavar="ID", help="a kept guest, as 'bootmatrix guests' lists it")
    parser.add_argument("ports", nargs="+", metavar="[LOCAL:]PORT", help="ports; PORT may be the path of a Unix socket")


def add_guests(commands: Commands) -> None:
    """Add the options of `guests`."""
    parser = arguments.add_command(commands, "guests", "list or stop kept guests", run="guests:list_guests")
    actions = parser.add_subparsers(metavar="ACTION")
    stop = arguments.add_command(actions, "stop", "stop kept guests", run="guests:stop_guests")
    stop.add_argument("ids", nargs="*", metavar="ID", help="a kept guest (default: all)")
