"""`bootmatrix validate`: check specs, matrices, profiles and image recipes without building."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import options
from bootmatrix.cli.exits import BAD_INPUT, EXPECTED
from bootmatrix.cli.output import say


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("validate", help="check specs, matrices, profiles and image recipes without building")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check every file; all faults of all files are printed."""
    from bootmatrix.errors import InputError
    from bootmatrix.load import load_any

    known = options.profiles()
    status = EXPECTED
    for file in args.files:
        try:
            say(f"{file}: {load_any(file, known)}")
        except InputError as error:
            options.complain(error)
            status = BAD_INPUT
    return status
