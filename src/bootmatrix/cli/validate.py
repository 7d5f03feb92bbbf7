"""`bootmatrix validate`: check specs, matrices, profiles and image recipes."""

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.exits import BAD_INPUT, EXPECTED
from bootmatrix.cli.output import complain, say
from bootmatrix.errors import InputError
from bootmatrix.load import load_any


def run(args: argparse.Namespace) -> int:
    """Check every file and print all errors."""
    profiles = options.profiles()
    status = EXPECTED
    for file in args.files:
        try:
            say(f"{file}: {load_any(file, profiles)}")
        except InputError as error:
            complain(error)
            status = BAD_INPUT
    return status
