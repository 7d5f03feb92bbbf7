"""Options of commands with a running guest: exec, shell, cp, forward, guests."""

import argparse
from argparse import ArgumentParser

from bootmatrix.cli.arguments import REPEATED, add_command, add_shared, command, option

EXEC_DESCRIPTION = """\
Run a command in a guest of another architecture or kernel. The current folder appears there below the same path.
Its streams and its exit status are those of the command here: 125 for errors of bootmatrix, 126 and 127 for a command
that cannot be run, 128 and the number for a signal.
"""
ENV_HELP = "set an environment variable, or pass those of here with this name, such as 'CARGO_*'; may be repeated"


def add_guest(parser: ArgumentParser) -> None:
    """Add --arch, --kernel, --image and the size of one guest."""
    option(parser, "--arch A[/MACHINE][@CPU]", "architecture of the guest, its board and CPU model")
    option(parser, "--guest ID", "a kept or held guest, as 'bootmatrix guests' lists it")
    option(parser, "--at NAME", "with --guest: use the root of this container", default="")
    help_text = "kernel of the guest (default: 6.1, or the first one of an architecture without it)"
    option(parser, "--kernel K", help_text, default="default")
    option(parser, "--image I", "image of its root (default: debian-small)", dest="root_image", default="debian-small")
    add_shared(parser, "--memory", "--cpus", "--disk", "--append", "--network", "--offline", "--cache", "--archive")


def add_keep(parser: ArgumentParser) -> None:
    """Add --keep-alive and --record."""
    option(parser, "--record FILE", "write the guest's kernel, files and installed packages, as JSON")
    option(
        parser, "--keep-alive TIME", "keep the guest for later commands, until it has been unused for this long: 10m"
    )


# Without abbreviations: argparse would look for them in the command's words, too.
@command("exec", "run a command in a guest", description=EXEC_DESCRIPTION, allow_abbrev=False)
def _exec(parser: ArgumentParser) -> None:
    add_guest(parser)
    add_keep(parser)
    option(parser, "--env NAME[=VALUE]", ENV_HELP, **REPEATED)
    option(parser, "--cwd FOLDER", "working folder in the guest (default: the same path as here)")
    option(parser, "--user UID[:GID]", "user and group in the guest (default: 0)", default="0")
    option(parser, "--get PATH", "copy a file or folder back", **REPEATED)
    option(parser, "--no-tree", "do not copy the current folder into the guest", dest="tree", action="store_false")
    option(parser, "--privileged", "give the command all capabilities")
    option(parser, "words -- COMMAND…", "the command", nargs=argparse.REMAINDER)


@command("shell", "open a shell in a guest", run="exec:run_shell")
def _shell(parser: ArgumentParser) -> None:
    add_guest(parser)
    add_keep(parser)
    option(parser, "--env NAME[=VALUE]", ENV_HELP, **REPEATED)
    option(parser, "--tree", "copy the current folder into the guest")
    option(parser, "--privileged", "give the shell all capabilities")
    parser.set_defaults(user="0", cwd=None, get=[])


@command(
    "cp", "copy files into or out of a kept guest", run="guests:run_cp", description="One of FROM and TO is ID:PATH."
)
def _cp(parser: ArgumentParser) -> None:
    option(parser, "source FROM", "a path here, or ID:PATH")
    option(parser, "target TO", "a path here, or ID:PATH")


@command(
    "forward", "forward ports of this host's loopback into a kept guest, until interrupted", run="guests:run_forward"
)
def _forward(parser: ArgumentParser) -> None:
    option(parser, "id ID", "a kept guest, as 'bootmatrix guests' lists it")
    option(parser, "ports [LOCAL:]PORT", "ports; PORT may be the path of a Unix socket", nargs="+")


@command("guests", "list or stop kept guests", run="guests:list_guests")
def _guests(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION")
    stop = add_command(actions, "stop", "stop kept guests", run="guests:stop_guests")
    option(stop, "ids ID", "a kept guest (default: all)", nargs="*")
