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
    parser = arguments.add_command(
        commands,
        "try",
        "run a source tree, a program, packages or an image on every architecture and kernel",
        run="trial",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="bootmatrix try [THING] [options] [-- COMMAND…]",
    )
    parser.add_argument("things", nargs="*", metavar="THING", help="folder, program, .deb files, image, archive")
    arguments.add(parser, *arguments.TARGETS, *arguments.FACTS, *arguments.SIZE)
    _add_guest(parser)
    parser.add_argument(
        "--save", type=Path, metavar="FOLDER", help="also write spec, image recipe and matrix, to a new folder"
    )
    arguments.add(parser, *arguments.DOWNLOADS, "--qemu-args", "--flaky", "--fail-on-warning", *arguments.RUNNING)
    parser.set_defaults(image=[], locked=None)


def _add_guest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        dest="base",
        default="debian-small",
        metavar="IMAGE",
        help="image in which a folder, a program or packages run: debian, debian:13, … (default: "
        "debian-small, without apt)",
    )
    parser.add_argument(
        "--packages", type=arguments.names, default=(), metavar="P,…", help="additional packages from the archive"
    )
    parser.add_argument(
        "--run",
        dest="prepare",
        action="append",
        default=[],
        metavar="COMMAND",
        help="prepare the image: run this shell command once, as root in a guest; apt-get works there",
    )
    parser.add_argument(
        "--systemd",
        action="store_true",
        help="with --service: install the packages with their scripts, start systemd, and watch the unit",
    )
    arguments.add(parser, "--env")
    parser.add_argument(
        "--service", metavar="NAME", help="for packages: start the program of this unit, which has to stay up"
    )
    parser.add_argument("--stays", metavar="TIME", help="time that a service has to stay up (default: 10s)")
    parser.add_argument("--port", type=int, metavar="N", help="TCP port at which a service has to answer")
    parser.add_argument("--http", metavar="PATH", help="path that a service has to serve over HTTP, such as /ping")
    arguments.add(parser, "--get")


def add_new(commands: Commands) -> None:
    """Add the options of `new`."""
    parser = arguments.add_command(
        commands,
        "new",
        "write an example project to start from: spec, image recipe, matrix, CI files",
        description="Write an example project with comments to a new folder: a spec with a service and a check, its "
        "image recipe, a matrix, files for GitHub and GitLab, and JSON Schemas for editors.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder; its name is the spec's")


def add_completion(commands: Commands) -> None:
    """Add the options of `completion`."""
    parser = arguments.add_command(
        commands,
        "completion",
        "print the completion script of a shell",
        description="Print the completion script of a shell. For bash: bootmatrix completion bash >"
        "~/.local/share/bash-completion/completions/bootmatrix",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
