"""Options of `try`, `new` and `completion`."""

import argparse
from argparse import ArgumentParser
from pathlib import Path

from bootmatrix.cli.arguments import (
    DOWNLOADS,
    FACTS,
    NAMES,
    PORT,
    REPEATED,
    RUNNING,
    SIZE,
    TARGETS,
    add_shared,
    command,
    option,
)

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


@command(
    "try",
    "run a source tree, a program, packages or an image on every architecture and kernel",
    run="trial",
    description=DESCRIPTION,
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    usage="bootmatrix try [THING] [options] [-- COMMAND…]",
)
def _try(parser: ArgumentParser) -> None:
    option(parser, "things THING", "folder, program, .deb files, image, archive", nargs="*")
    add_shared(parser, *TARGETS, *FACTS, *SIZE)
    _add_guest(parser)
    option(parser, "--no-ignore", "of a folder, copy also what .gitignore names")
    option(parser, "--save FOLDER", "also write spec, image recipe and matrix, to a new folder", type=Path)
    add_shared(parser, *DOWNLOADS, "--qemu-args", "--flaky", "--fail-on-warning", *RUNNING)
    parser.set_defaults(image=[], locked=None)


def _add_guest(parser: ArgumentParser) -> None:
    option(
        parser,
        "--image IMAGE",
        "image in which a folder, a program or packages run: debian, debian:13, … (default: debian-small, without apt)",
        dest="base",
        default="debian-small",
    )
    option(parser, "--packages P,…", "more packages of the archive; without it, make brings gcc, and so on", **NAMES)
    option(
        parser,
        "--run COMMAND",
        "prepare the image: run this shell command once, as root in a guest; apt-get works there",
        **REPEATED,
        dest="prepare",
    )
    option(
        parser,
        "--systemd",
        "with --service: install the packages with their scripts, start systemd, and watch the unit",
    )
    add_shared(parser, "--env")
    option(parser, "--service NAME", "for packages: start the program of this unit, which has to stay up")
    option(parser, "--stays TIME", "time that a service has to stay up (default: 10s)")
    option(parser, "--port N", "TCP port at which a service has to answer", type=PORT)
    option(
        parser,
        "--http PATH",
        "path that a service has to serve over HTTP, such as /ping (default port: the image's only one, or 80)",
    )
    add_shared(parser, "--get")


@command(
    "new",
    "write an example project to start from: spec, image recipe, matrix, CI files",
    description="Write an example project with comments to a new folder: a spec with a service and a check, its "
    "image recipe, a matrix, files for GitHub and GitLab, and JSON Schemas for editors.",
)
def _new(parser: ArgumentParser) -> None:
    option(parser, "folder FOLDER", "a new folder; its name is the spec's", type=Path)


@command(
    "completion",
    "print the completion script of a shell",
    description="Print the completion script of a shell. For bash: bootmatrix completion bash >"
    "~/.local/share/bash-completion/completions/bootmatrix",
)
def _completion(parser: ArgumentParser) -> None:
    option(parser, "shell", "the shell", choices=("bash", "zsh", "fish"))
