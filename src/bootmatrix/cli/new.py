"""`bootmatrix new`: write an example project."""

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.output import say
from bootmatrix.scaffold.examples import write_example


def run(args: argparse.Namespace) -> int:
    """Write the project, and print its files and the next commands."""
    paths = write_example(args.folder, [name for name, profile in options.profiles().items() if profile.setup])
    say(*(f"wrote {path}" for path in paths))
    matrix = next(path for path in paths if path.name.endswith(".matrix.yml"))
    say("", "Check it:  bootmatrix validate " + str(matrix), f"Run it:    bootmatrix matrix {matrix}")
    return 0
