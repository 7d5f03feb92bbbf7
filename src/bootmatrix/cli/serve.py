"""`bootmatrix serve`: show reports on loopback, and follow runs live."""

from __future__ import annotations

import argparse
import sys

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError
from bootmatrix.server import Server


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""

    reports = options.reports_of(args)
    if not reports.is_dir():
        raise InputError(f"{reports}: no such folder", "Runs make it; --reports names another.")
    try:
        server = Server(reports, args.port)
    except (OSError, OverflowError) as error:
        raise InputError(f"port {args.port} cannot be used: {error}", "Name another one with --port.") from error
    with server:
        say(f"{reports} is served at {server.url} (and runs live at /latest/live); Ctrl-C ends it")
        sys.stdout.flush()
        server.serve_forever()
    return EXPECTED
