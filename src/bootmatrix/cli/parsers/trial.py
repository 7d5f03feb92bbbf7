"""Options of `try`, `new` and `completion`."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands

DESCRIPTION = """\
Runs anything on every architecture and kernel, and judges it as 'matrix' does.

THING is a folder with sources (copied in, the command runs there), a program (for each architecture:
./dist/tool-{oci_arch}), .deb packages (./tool_*_{debian_arch}.deb), a container image (redis:7) or an archive of one,
or nothing: then the command runs in the image of --image. What follows '--' is the command; for a program, its
arguments. An image without a command is started as it is: it passes if it stays up, and answers at --port or --http.
"""
EXAMPLES = """\
examples:
  bootmatrix try . --packages gcc,make --arch A,B -- make check
  bootmatrix try './dist/tool-{oci_arch}' --arch all -- --version
  bootmatrix try redis:7 --port 6379 --page-size all
  bootmatrix try --arch A -- uname -a
"""


def add_try(commands: Commands) -> None:
    """Add the options of `try`."""
    parser = commands.add_parser(
        "try",
        help="run a source tree, a program, packages or an image on every architecture and kernel",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="bootmatrix try [THING] [options] [-- COMMAND…]",
    )
    parser.add_argument("things", nargs="*", metavar="THING", help="folder, program, .deb files, image, archive")
    arguments.add_targets(parser)
    arguments.add_facts(parser)
    arguments.add_size(parser)
    _add_guest(parser)
    parser.add_argument(
        "--save", type=Path, metavar="FOLDER", help="also write spec, image recipe and matrix, to a new folder"
    )
    arguments.add_downloads(parser)
    arguments.add_qemu_args(parser)
    arguments.add_flaky(parser)
    arguments.add_fail_on_warning(parser)
    arguments.add_running(parser)
    parser.set_defaults(command="trial", image=[], locked=None)


def _add_guest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        dest="base",
        default="debian-small",
        metavar="IMAGE",
        help="image in which a folder, a program or packages run: debian, debian:13, debian:sid, … (default: "
        "debian-small, without apt)",
    )
    parser.add_argument(
        "--packages", type=arguments.names, default=(), metavar="P,…", help="more packages of the archive in it"
    )
    parser.add_argument(
        "--run",
        dest="prepare",
        action="append",
        default=[],
        metavar="COMMAND",
        help="prepare the image by this shell command, which runs as root in a guest, once; apt-get works there",
    )
    parser.add_argument(
        "--systemd", action="store_true", help="with --service: install for real, start systemd, watch the unit"
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="environment variable")
    parser.add_argument(
        "--service", metavar="NAME", help="for packages: start the program of this unit, which has to stay up"
    )
    parser.add_argument("--stays", metavar="TIME", help="time that a service has to stay up (default: 10s)")
    parser.add_argument("--port", type=int, metavar="N", help="TCP port at which a service has to answer")
    parser.add_argument("--http", metavar="PATH", help="path that a service has to serve over HTTP, such as /ping")
    parser.add_argument(
        "--get",
        action="append",
        default=[],
        metavar="PATH",
        help="take a file or folder of the guest into the report",
    )


def add_new(commands: Commands) -> None:
    """Add the options of `new`."""
    parser = commands.add_parser(
        "new",
        help="write an example project to start from: spec, image recipe, matrix, CI files",
        description="Write an example project with comments to a new folder: a spec with a service and a check, its "
        "image recipe, a matrix, files for GitHub and GitLab, and JSON Schemas for editors.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder; its name is the spec's")
    parser.set_defaults(command="new")


def add_completion(commands: Commands) -> None:
    """Add the options of `completion`."""
    parser = commands.add_parser(
        "completion",
        help="print the completion script of a shell",
        description="Print the completion script of a shell. For bash: bootmatrix completion bash >"
        "~/.local/share/bash-completion/completions/bootmatrix",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    parser.set_defaults(command="completion")
