"""Progress of a run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bootmatrix.cli.streams import styled
from bootmatrix.model import Cell, Plan, Record, Run, Verdict
from bootmatrix.redact import redacted
from bootmatrix.report.order import STYLES, cell_order, cell_time, remark
from bootmatrix.report.sanitize import disarmed, one_line
from bootmatrix.report.text import summary, verdict_text
from bootmatrix.report.units import duration, size

if TYPE_CHECKING:
    from bootmatrix.progress import Observer

PLAIN_WIDTH = 160
"""Table width without a terminal."""
LARGE_BYTES = 10_000_000
"""Least size of a download with a line at its start."""
LONG_S = 2
"""Time after which any other download has a line."""
REFRESHES_PER_S = 4
SHOWN_DOWNLOADS = 3
BAR_COLUMNS = 24


def is_live(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that can redraw lines, outside of CI."""
    in_ci = os.environ.get("CI", "").lower() not in {"", "0", "false"}
    return stream.isatty() and not in_ci and os.environ.get("TERM", "dumb") != "dumb"


def plain_console(stream: TextIO) -> Console:
    """Open a console that never writes escape sequences."""
    return Console(file=stream, force_terminal=False, color_system=None, highlight=False, width=PLAIN_WIDTH)


def _forgive(stream: TextIO) -> None:
    """Replace what the stream cannot encode, for callers other than `main`."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")


@contextmanager
def open_screen(plan: Plan) -> Iterator[LiveScreen | PlainScreen]:
    """Display a run on the standard output."""
    _forgive(sys.stdout)
    if not is_live(sys.stdout):
        yield PlainScreen(plain_console(sys.stdout), plan)
        return
    with LiveScreen(Console(file=styled(sys.stdout), highlight=False), plan) as screen:
        yield screen


@contextmanager
def open_downloads() -> Iterator[Observer]:
    """Display downloads only, on the standard error."""
    nothing = Plan(cells=())
    _forgive(sys.stderr)
    if not is_live(sys.stderr):
        yield PlainScreen(plain_console(sys.stderr), nothing)
        return
    with LiveScreen(Console(file=styled(sys.stderr), highlight=False), nothing, transient=True) as screen:
        yield screen


class PlainScreen:
    """Plain display: a line for each finished cell or download."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._planned, self._counts, self._done = len(plan.cells), plan.counts, 0
        self._count_width = len(f"[{self._planned}/{self._planned}] ")
        named = [*plan.cells, *(skip.cell for skip in plan.skips)]
        self._width = max((len(cell.id) for cell in named), default=0)
        self._downloads: dict[str, float] = {}
        self._named: set[str] = set()
        self._lock = RLock()

    def begin(self, path: Path) -> None:
        """Print the number of cells and the run's folder."""
        self._line(f"{self._counts}: {path}")

    def cell_stage(self, cell: Cell, stage: str) -> None:
        """Ignore."""

    def cell_done(self, record: Record) -> None:
        """Print `[3/8] pass  influxdb/arch/6.1  7.2 s`, with the reason unless it passed."""
        count = " " * self._count_width
        if _was_planned(record) and self._planned:
            with self._lock:
                self._done += 1
                count = f"[{self._done}/{self._planned}] ".rjust(self._count_width)
        took = "" if record.verdict is Verdict.SKIP else duration(cell_time(record))
        words = f"{record.verdict:<11}  {record.cell.id:<{self._width}}  {took:>10}"
        aside = f"({remark(record)}) " if remark(record) else ""
        reason = "" if record.verdict is Verdict.PASS else one_line(record.judgement.reason)
        self._line(f"{count}{words}  {aside}{reason}")

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Print the start and the end of a download that is large or takes long."""
        with self._lock:
            started = self._downloads.setdefault(label, time.monotonic())
            if label not in self._named and (total_bytes >= LARGE_BYTES or time.monotonic() - started > LONG_S):
                self._named.add(label)
                self._line(f"downloading  {one_line(label)}  {size(total_bytes)}")
            if done_bytes >= total_bytes:
                del self._downloads[label]
                if label in self._named:
                    self._named.remove(label)
                    self._line(f"downloaded   {one_line(label)}  {size(total_bytes)}")

    def note(self, text: str) -> None:
        """Print the line."""
        self._line(one_line(text))

    def finish(self, run: Run, path: Path) -> None:
        """Print the table, the reasons, and the report's path."""
        with self._lock, self._console.capture() as end:
            # Lines are not wrapped: a new line could start with a guest's words.
            show_end(self._console, run, path, self._planned, soft_wrap=True)
        self._console.file.write(disarmed(end.get()))
        self._console.file.flush()

    def _line(self, text: str) -> None:
        with self._lock:
            self._console.print(Text(disarmed(redacted(text.rstrip()))), soft_wrap=True)
            self._console.file.flush()


@dataclass
class Under:
    """A running cell: its stage, and its start by the monotonic clock."""

    stage: str
    since: float


class LiveScreen:
    """Live table of the terminal's size: all cells, or the most important."""

    def __init__(self, console: Console, plan: Plan, transient: bool = False) -> None:
        self._console = console
        self._cells = sorted(plan.cells, key=cell_order)
        self._under: dict[str, Under] = {}
        self._records: dict[str, Record] = {}
        self._downloads: dict[str, tuple[int, int]] = {}
        self._start = time.monotonic()
        self._lock = RLock()
        self._live = Live(self, console=console, refresh_per_second=REFRESHES_PER_S, transient=transient)

    def begin(self, path: Path) -> None:
        """Ignore: the table shows the cells, and its end the folder."""

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def cell_stage(self, cell: Cell, stage: str) -> None:
        """Display the stage."""
        with self._lock:
            since = self._under[cell.id].since if cell.id in self._under else time.monotonic()
            self._under[cell.id] = Under(stage, since)

    def cell_done(self, record: Record) -> None:
        """Display the verdict."""
        with self._lock:
            self._under.pop(record.cell.id, None)
            self._records[record.cell.id] = record

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Display the progress until the download is complete."""
        with self._lock:
            self._downloads.pop(label, None)
            if done_bytes < total_bytes:
                self._downloads[label] = (done_bytes, total_bytes)

    def note(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(Text(redacted(one_line(text)), "bright_black"))

    def finish(self, run: Run, path: Path) -> None:
        """Replace the live table by the final one, the reasons, and the report's path."""
        with self._lock:
            planned = len(self._cells)
            self._cells, self._downloads = [], {}
        self._live.transient = True
        self._live.stop()
        show_end(self._console, run, path, planned)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            downloads = self._download_lines()
            if self._cells:
                yield self._headline()
                yield self._table(options.max_width, console.size.height - len(downloads) - 3)
            yield from downloads

    def _headline(self) -> Text:
        tried = (record.verdict for record in self._records.values() if record.verdict is not Verdict.SKIP)
        counts: Counter[Verdict] = Counter(tried)
        text = Text(f"{counts.total()} of {len(self._cells)} done", "bold", no_wrap=True, overflow="ellipsis")
        for verdict in Verdict:
            if counts[verdict]:
                text.append(" · ", "bright_black").append(f"{counts[verdict]} {verdict}", STYLES[verdict])
        return text.append(f"  {duration(time.monotonic() - self._start)}", "bright_black")

    def _table(self, width: int, height: int) -> Table:
        visible = self._visible(max(height, 1))
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(3):
            table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width - 60, 10))
        for cell in visible:
            table.add_row(*self._row(cell))
        hidden = len(self._cells) - len(visible)
        if hidden:
            table.add_row("", Text(f"and {hidden} more", "bright_black"))
        return table

    def _visible(self, height: int) -> list[Cell]:
        """Return the cells that fit: running, then unexpected, then finished; in order."""
        if len(self._cells) <= height:
            return self._cells
        selected = sorted(self._cells, key=self._weight)[: height - 1]
        return sorted(selected, key=cell_order)

    def _weight(self, cell: Cell) -> int:
        record = self._records.get(cell.id)
        if cell.id in self._under:
            return 0
        if record is None:
            return 3
        return 2 if record.expected else 1

    def _row(self, cell: Cell) -> tuple[Text, Text, Text, Text]:
        record, under = self._records.get(cell.id), self._under.get(cell.id)
        if record:
            reason = "" if record.verdict is Verdict.PASS else one_line(record.judgement.reason)
            return verdict_text(record), Text(cell.id), _right(cell_time(record)), Text(reason, "bright_black")
        if under:
            return (
                Text(f"● {under.stage}", "cyan"),
                Text(cell.id, "bold"),
                _right(time.monotonic() - under.since),
                Text(),
            )
        return Text("○", "bright_black"), Text(cell.id, "bright_black"), Text(), Text()

    def _download_lines(self) -> list[Text]:
        latest = list(self._downloads.items())[-SHOWN_DOWNLOADS:]
        return [_bar(label, done, total) for label, (done, total) in latest]


def show_end(console: Console, run: Run, path: Path, planned: int, *, soft_wrap: bool = False) -> None:
    """Print a run's summary, missing verdicts, and the report's path."""
    console.print(summary(run), soft_wrap=soft_wrap)
    missing = planned - sum(map(_was_planned, run.records))
    if missing > 0:
        console.print(Text(f"{missing} of {planned} cells have no verdict", "bold red"))
    console.print(Text(f"{path}/report.html"), soft_wrap=True)


def _was_planned(record: Record) -> bool:
    """Return whether a cell was to be run: one that was booted may be a skip too."""
    return record.verdict is not Verdict.SKIP or record.outcome is not None


def _right(seconds: float) -> Text:
    return Text(f"{duration(seconds):>8}", "bright_black")


def _bar(label: str, done: int, total: int) -> Text:
    filled = BAR_COLUMNS * done // total
    text = Text("↓ ", "cyan", no_wrap=True, overflow="ellipsis")
    text.append("━" * filled, "cyan").append("━" * (BAR_COLUMNS - filled), "bright_black")
    return text.append(f"  {size(done):>8} of {size(total)}  ", "default").append(one_line(label), "bright_black")
