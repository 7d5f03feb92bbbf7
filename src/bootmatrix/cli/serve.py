"""`bootmatrix serve`: show reports on loopback, and follow runs live."""

from __future__ import annotations

import argparse
import sys

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import say

PORT = 8471


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "serve",
        help="show all reports in a browser, and follow a run live",
        description="Serve the reports on 127.0.0.1, for this machine only, until Ctrl-C. /latest/live follows the "
        "newest run as its cells are done.",
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"default: {PORT}; 0 takes a free one")
    options.add_reports(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from bootmatrix.errors import InputError
    from bootmatrix.server import Server

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
