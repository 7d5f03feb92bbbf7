"""Output of commands: sanitized, also for the CI system that reads it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bootmatrix.cli.streams import styled
from bootmatrix.redact import redacted
from bootmatrix.report.sanitize import disarmed, sanitize

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDE = 160
STDOUT = Path("-")
"""Name of an output that means the standard output."""


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print sanitized lines; without lines, print nothing."""
    for line in lines:
        print(disarmed(sanitize(redacted(str(line)))), file=file or sys.stdout)


def complain(text: object) -> None:
    """Print a sanitized message on stderr."""
    say(text, file=sys.stderr)


def write_console(data: bytes) -> None:
    """Write a guest's console output at once, sanitized."""
    sys.stdout.write(disarmed(sanitize(data.decode("utf-8", "replace"))))
    sys.stdout.flush()


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1))


def print_table(*parts: RenderableType) -> None:
    """Print tables. Guests' words may begin a line, so commands are disarmed."""
    console = table_console()
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    print(disarmed(capture.get()), end="")


def print_rows(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of plain words."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(*headings, box=box.SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    print_table(table)


def table_console() -> Console:
    """Open a console for tables as wide as the terminal, or for whole words."""
    from rich.console import Console

    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(file=styled(sys.stdout), highlight=False, width=None if is_known else WIDE)
