"""`bootmatrix run`: boot one spec, or what `bootmatrix build` wrote, with the console on the terminal."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("run", help="boot one spec with the console on the terminal")
    parser.add_argument("files", nargs=1, metavar="SPEC|PREFIX", help="a spec, or a prefix that 'build' wrote")
    options.add_single(parser)
    options.add_sources(parser)
    parser.add_argument(
        "--shell", action="store_true", help="a shell on the console at the end, instead of shutting down"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Boot; the exit status is 0 for a pass, 1 for any other verdict of the guest's, 3 for an error of ours."""
    raise NotImplementedError
