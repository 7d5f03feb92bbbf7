"""`bootmatrix validate`: check specs, matrices, profiles and image recipes without building."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.exits import BAD_INPUT, EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError
from bootmatrix.load import load_any


def run(args: argparse.Namespace) -> int:
    """Check every file; all faults of all files are printed."""

    known = options.profiles()
    status = EXPECTED
    for file in args.files:
        try:
            say(f"{file}: {load_any(file, known)}")
        except InputError as error:
            options.complain(error)
            status = BAD_INPUT
    return status
