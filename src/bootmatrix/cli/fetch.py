"""`bootmatrix fetch` fills the cache, `lock` writes exact versions."""

import argparse
import sys

from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.exits import EXPECTED, OUR_FAULT
from bootmatrix.cli.output import STDOUT, complain, say
from bootmatrix.load.lock import lock_text, save_lock
from bootmatrix.model import Lock


def run(args: argparse.Namespace) -> int:
    """Prepare every cell; return status 3 if one fails."""
    _, cells, failed = _resolve(args)
    say(f"{cells - failed} of {cells} cells are ready to boot offline")
    return OUR_FAULT if failed else EXPECTED


def run_lock(args: argparse.Namespace) -> int:
    """Resolve every cell and write the lock file atomically."""
    output = args.output or options.lock_file(args)
    lock, _, failed = _resolve(args)
    if failed:
        say("no lock file was written", file=sys.stderr)
        return OUR_FAULT
    for name, value in lock.unreproducible.items():
        complain(f"{name}: {value}: an unreproducible input, which --locked refuses")
    if output == STDOUT:
        print(lock_text(lock), end="")
        return EXPECTED
    save_lock(lock, output)
    say(output)
    return EXPECTED


def _resolve(args: argparse.Namespace) -> tuple[Lock, int, int]:
    """Prepare every cell; return the lock, and counts of cells and failures."""
    workspace = options.workspace(args)
    planned = workspace.plan(*args.files, selection=options.selection(args))
    with download_progress() as downloads:
        lock, failures = workspace.resolve(planned, downloads)
    for cell, message in failures:
        complain(f"{cell}: {message}")
    return lock, len(planned.cells), len(failures)
