"""Tables on the standard output. Importing it imports rich, which is slow."""

import os
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from bootmatrix.cli.streams import styled
from bootmatrix.report.sanitize import disarmed, sanitize

WIDE = 160


def print_table(*parts: RenderableType) -> None:
    """Print tables. Guests' words may begin a line, so commands are disarmed."""
    console = table_console()
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    print(disarmed(sanitize(capture.get())), end="")


def print_rows(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of plain words."""
    table = Table(*headings, box=box.SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    print_table(table)


def table_console() -> Console:
    """Open a console for tables as wide as the terminal, or for whole words."""
    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(file=styled(sys.stdout), highlight=False, width=None if is_known else WIDE)
