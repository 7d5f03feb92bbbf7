"""`bootmatrix schema`: JSON schemas of run.json and of users' files."""

import argparse

from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import print_json
from bootmatrix.load.schema import json_schema
from bootmatrix.runs.run_json import run_schema

RUN = "run"


def run(args: argparse.Namespace) -> int:
    """Print a schema."""
    print_json(run_schema() if args.kind == RUN else json_schema(args.kind))
    return EXPECTED
