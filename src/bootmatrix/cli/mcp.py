"""`bootmatrix-mcp`: a Model Context Protocol server on stdin and stdout."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import anyio

from bootmatrix.cli import signals
from bootmatrix.cli.arguments import add_shared
from bootmatrix.cli.exits import BAD_INPUT, EXPECTED, INTERRUPTED
from bootmatrix.cli.output import say
from bootmatrix.workspace.workspace import Workspace

if TYPE_CHECKING:
    from bootmatrix.mcp_server.server import Tools

DESCRIPTION = """\
Offers the tools 'plan', 'run', 'record' and 'console' to an assistant that starts this program, by the Model Context
Protocol on its standard input and output. Relative paths are those of the folder in which it is started.
"""


def main(words: Sequence[str] | None = None) -> int:
    """Serve until the input ends; return the exit status."""
    parser = argparse.ArgumentParser("bootmatrix-mcp", description=DESCRIPTION)
    add_shared(parser, "--reports", "--cache", "--offline")
    args = parser.parse_args(words)
    try:
        from bootmatrix.mcp_server.server import Tools, make_server
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("mcp"):
            raise
        say("bootmatrix-mcp: needs the package mcp\n  Install it: pip install 'bootmatrix[mcp]'", file=sys.stderr)
        return BAD_INPUT
    tools = Tools(Workspace(cache=args.cache, reports=args.reports, offline=args.offline))
    signals.handle_signals()

    def on_signal(_note: str) -> None:
        threading.Thread(target=_leave, args=(tools,), daemon=True).start()

    anyio.run(signals.until_signal, make_server(tools).run_stdio_async, on_signal)
    return EXPECTED


def _leave(tools: Tools) -> NoReturn:
    """End the process after its run: a thread that waits would keep it."""
    while tools.is_running:
        time.sleep(0.05)
    os._exit(INTERRUPTED)
