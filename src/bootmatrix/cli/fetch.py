"""`bootmatrix fetch`: fill the cache, so that a later run needs no network."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.output import complain, say


def run(args: argparse.Namespace) -> int:
    """Prepare every cell; return status 3 if one fails."""
    workspace = options.workspace(args)
    planned = workspace.plan(*args.files, selection=options.selection(args))
    with download_progress() as downloads:
        _, failures = workspace.resolve(planned, downloads)
    for cell, message in failures:
        complain(f"{cell}: {message}")
    say(f"{len(planned.cells) - len(failures)} of {len(planned.cells)} cells are ready to boot offline")
    return OUR_FAULT if failures else EXPECTED
