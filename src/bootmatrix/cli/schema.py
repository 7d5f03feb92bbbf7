"""`bootmatrix schema`: JSON schemas, of the files that people write and of the one that programs read."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.load.schema import json_schema
from bootmatrix.report.schema import run_schema

RUN = "run"


def run(args: argparse.Namespace) -> int:
    """Print it."""

    options.print_json(run_schema() if args.kind == RUN else json_schema(args.kind))
    return EXPECTED
