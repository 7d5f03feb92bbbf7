"""`bootmatrix serve`: serve reports on loopback and follow runs live."""

import argparse
import sys

from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError
from bootmatrix.history.reference import reports_folder
from bootmatrix.server import Server


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    reports = reports_folder(args.reports)
    if not reports.is_dir():
        raise InputError(f"{reports}: no such folder", "A run creates it; --reports names another.")
    try:
        server = Server(reports, args.port, args.base_url)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot use port {args.port}: {error}", "Choose another with --port.") from error
    with server:
        say(f"serving {reports} at {server.url} (live run: latest/live); Ctrl-C stops it")
        sys.stdout.flush()
        server.serve_forever()
    return EXPECTED
