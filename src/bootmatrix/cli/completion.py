"""`bootmatrix completion`: completion of commands and options in shells."""

import argparse

import shtab

from bootmatrix.cli.main import parser


def run(args: argparse.Namespace) -> int:
    """Print the completion script of a shell."""
    print(shtab.complete(parser(), shell=args.shell))
    return 0
