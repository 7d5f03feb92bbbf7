"""`bootmatrix schema`: JSON schemas, of the files that people write and of the one that programs read."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED

RUN = "run"
KINDS = (RUN, "spec", "guest", "matrix", "profile", "image", "registries")
"""`run`, and the kinds of load/schema.py, which takes the model with it; a test compares them."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON schema of run.json, or of the files that you write",
        description="Print the JSON schema of run.json, for programs that read it, or of a spec, a matrix, a profile "
        "or an image recipe, for editors.",
    )
    parser.add_argument("kind", choices=KINDS, help="run.json, or a kind of file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from bootmatrix.load.schema import json_schema
    from bootmatrix.report.schema import run_schema

    options.print_json(run_schema() if args.kind == RUN else json_schema(args.kind))
    return EXPECTED
