"""Options of commands with a running guest: exec, shell, cp, forward, guests."""

import argparse

from bootmatrix.cli.arguments import REPEATED, Commands, add_command, add_shared, option

EXEC_DESCRIPTION = """\
Run a command in a guest of another architecture or kernel. The current folder appears there below the same path.
Its streams and its exit status are those of the command here: 125 for errors of bootmatrix, 126 and 127 for a command
that cannot be run, 128 and the number for a signal.
"""


def add_guest(parser: argparse.ArgumentParser) -> None:
    """Add --arch, --kernel, --image and the size of one guest."""
    option(parser, "--arch A[/MACHINE]", "architecture of the guest")
    option(parser, "--guest ID", "a kept or held guest, as 'bootmatrix guests' lists it")
    option(parser, "--at NAME", "with --guest: use the root of this container", default="")
    help_text = "kernel of the guest (default: 6.1, or the first one of an architecture without it)"
    option(parser, "--kernel K", help_text, default="default")
    option(parser, "--image I", "image of its root (default: debian-small)", dest="root_image", default="debian-small")
    add_shared(parser, "--memory", "--cpus", "--disk", "--append", "--network", "--offline", "--cache", "--archive")


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add --keep-alive."""
    option(
        parser, "--keep-alive TIME", "keep the guest for later commands, until it has been unused for this long: 10m"
    )


def add_exec(commands: Commands) -> None:
    """Add the options of `exec`."""
    parser = add_command(commands, "exec", "run a command in a guest", description=EXEC_DESCRIPTION)
    add_guest(parser)
    add_keep(parser)
    option(parser, "--env NAME=VALUE", "set an environment variable; may be repeated", **REPEATED)
    option(parser, "--cwd FOLDER", "working folder in the guest (default: the same path as here)")
    option(parser, "--user UID[:GID]", "user and group in the guest (default: 0)", default="0")
    option(parser, "--get PATH", "copy a file or folder back", **REPEATED)
    option(parser, "--no-tree", "do not copy the current folder into the guest")
    option(parser, "--privileged", "give the command all capabilities")
    option(parser, "words -- COMMAND…", "the command", nargs=argparse.REMAINDER)


def add_shell(commands: Commands) -> None:
    """Add the options of `shell`."""
    parser = add_command(commands, "shell", "open a shell in a guest", run="exec:run_shell")
    add_guest(parser)
    add_keep(parser)
    option(parser, "--env NAME=VALUE", "set an environment variable; may be repeated", **REPEATED)
    option(parser, "--tree", "copy the current folder into the guest")
    option(parser, "--privileged", "give the shell all capabilities")


def add_cp(commands: Commands) -> None:
    """Add the options of `cp`."""
    parser = add_command(
        commands,
        "cp",
        "copy files into or out of a kept guest",
        run="guests:run_cp",
        description="One of FROM and TO is ID:PATH.",
    )
    option(parser, "source FROM", "a path here, or ID:PATH")
    option(parser, "target TO", "a path here, or ID:PATH")


def add_forward(commands: Commands) -> None:
    """Add the options of `forward`."""
    parser = add_command(
        commands,
        "forward",
        "forward ports of this host's loopback into a kept guest, until interrupted",
        run="guests:run_forward",
    )
    option(parser, "id ID", "a kept guest, as 'bootmatrix guests' lists it")
    option(parser, "ports [LOCAL:]PORT", "ports; PORT may be the path of a Unix socket", nargs="+")


def add_guests(commands: Commands) -> None:
    """Add the options of `guests`."""
    parser = add_command(commands, "guests", "list or stop kept guests", run="guests:list_guests")
    actions = parser.add_subparsers(metavar="ACTION")
    stop = add_command(actions, "stop", "stop kept guests", run="guests:stop_guests")
    option(stop, "ids ID", "a kept guest (default: all)", nargs="*")
