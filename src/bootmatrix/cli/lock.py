"""`bootmatrix lock`: write the exact kernels, packages and registry images of a matrix."""

from __future__ import annotations

import argparse
import sys

from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.output import STDOUT, complain, say
from bootmatrix.load.lock import lock_text, save_lock


def run(args: argparse.Namespace) -> int:
    """Resolve every cell and write the lock file atomically."""
    workspace = options.workspace(args)
    planned = workspace.plan(*args.files, selection=options.selection(args))
    with download_progress() as downloads:
        lock, failures = workspace.resolve(planned, downloads)
    if failures:
        for cell, message in failures:
            complain(f"{cell}: {message}")
        say("no lock file was written", file=sys.stderr)
        return OUR_FAULT
    output = args.output or options.lock_file(args)
    if output == STDOUT:
        print(lock_text(lock), end="")
        return EXPECTED
    save_lock(lock, output)
    say(output)
    return EXPECTED
