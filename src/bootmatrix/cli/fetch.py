"""`bootmatrix fetch`: fill the cache beforehand, so that a later run needs no network."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.downloads import shown_downloads
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.output import say


def run(args: argparse.Namespace) -> int:
    """Prepare every cell; status 3 if one cannot be."""

    workspace = options.workspace(args)
    planned = workspace.plan(*args.files, selection=options.selection(args))
    with shown_downloads() as downloads:
        _, failures = workspace.resolve(planned, downloads)
    for cell, message in failures:
        options.complain(f"{cell}: {message}")
    say(f"{len(planned.cells) - len(failures)} of {len(planned.cells)} cells are ready to boot offline")
    return OUR_FAULT if failures else EXPECTED
