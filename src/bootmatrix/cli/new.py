"""`bootmatrix new`: write an example project."""

import argparse
import shlex

from bootmatrix.cli import options
from bootmatrix.cli.output import say
from bootmatrix.scaffold.examples import write_example


def run(args: argparse.Namespace) -> int:
    """Write the project, and print its files and the next commands."""
    paths = write_example(args.folder, [name for name, profile in options.profiles().items() if profile.setup])
    say(*(f"wrote {path}" for path in paths))
    matrix = shlex.quote(str(next(path for path in paths if path.name.endswith(".matrix.yml"))))
    say("", f"Check it:  bootmatrix validate {matrix}", f"Run it:    bootmatrix matrix {matrix}")
    return 0
